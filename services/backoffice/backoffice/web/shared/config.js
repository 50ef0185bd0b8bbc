// Where everything is, as the back office was told: {services: {"order-service": "https://…"}, home, sandbox}.

let asked;

export function config() {
  asked ??= fetch("/web/config.json").then((answer) => {
    if (!answer.ok) throw new Error(`config.json: ${answer.status}`);
    return answer.json();
  });
  asked.catch(() => { asked = undefined; });
  return asked;
}

/** Cookies, and the services' CORS, know these pages by one address: whoever came by another is sent there. */
export async function atHome() {
  const { home } = await config();
  if (location.origin === new URL(home).origin) return true;
  location.replace(new URL(location.pathname + location.search + location.hash, home));
  return false;
}
