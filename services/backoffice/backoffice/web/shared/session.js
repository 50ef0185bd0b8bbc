// Who is signed in. The access token is here in memory and nowhere else; what renews it is an HttpOnly cookie of the
// back office, which no script can read.

import { atHome } from "/web/shared/config.js";
import { problemOf } from "/web/shared/problem.js";

const EARLY_MS = 60_000; // so long before its end a token is renewed, but never in the first four fifths of its life

let known = null; // {accessToken, subject, roles, tenant, tenantName}, and by this machine's clock `renewAt`, `endsAt`
let asked;

/** `{token(), subject, roles, tenant, tenantName, may(role)}`, or null where nobody is signed in. Throws ProblemError
 *  or TypeError where that can't be told now. */
export async function session() {
  if (!(await atHome())) return new Promise(() => {}); // the page is being left
  asked ??= renewed();
  try {
    await asked;
  } catch (error) {
    asked = undefined;
    throw error;
  }
  return known && shown();
}

const RANK = ["user", "staff", "admin"];

function shown() {
  const { subject, roles, tenant, tenantName } = known;
  const may = (role) => roles.some((mine) => RANK.indexOf(mine) >= RANK.indexOf(role));
  return { token, subject, roles, tenant, tenantName, may };
}

/** The access token, good for a while; null once the session has ended. */
export async function token() {
  if (known && Date.now() > known.renewAt) {
    await renew().catch((error) => {
      if (Date.now() > known.endsAt) throw error; // until then the one we have will do
    });
  }
  return known?.accessToken ?? null;
}

let renewing;

/** Another token now, as after a 401; once for all who ask meanwhile. */
export function renew() {
  renewing ??= renewed().finally(() => { renewing = undefined; });
  return renewing;
}

function renewed() {
  return alone(async () => {
    const answer = await fetch("/auth/token", { method: "POST" });
    if (!answer.ok) throw await problemOf(answer);
    known = answer.status === 204 ? null : timed(await answer.json(), answer.headers.get("Date"));
  });
}

/** The clock of this machine may be wrong: what counts is how long the token lives by the server's. */
function timed(given, sentAt) {
  const lives = Date.parse(given.expiresAt) - Date.parse(sentAt);
  const endsAt = Date.now() + lives;
  return { ...given, endsAt, renewAt: endsAt - Math.min(EARLY_MS, lives / 5) };
}

/** One tab at a time: else one that renews would bring back what another has just signed out. */
function alone(work) {
  return navigator.locks ? navigator.locks.request("brewline-session", work) : work();
}

/** Leaves the page for the issuer's; the person comes back to this one. `another`: also who is signed in there is asked. */
export function signIn({ to = location.pathname + location.search + location.hash, another = false } = {}) {
  location.assign(`/auth/sign-in?${new URLSearchParams({ to, ...(another && { another }) })}`);
}

const tabs = new BroadcastChannel("brewline-session");
tabs.onmessage = () => location.reload(); // somebody signed out in another tab

/** Ends the session here, at the issuer, and in every other tab. */
export async function signOut() {
  const answer = await alone(() => fetch("/auth/sign-out", { method: "POST" }));
  if (!answer.ok) throw await problemOf(answer);
  known = null;
  tabs.postMessage("signed-out");
  location.assign((await answer.json()).next);
}
