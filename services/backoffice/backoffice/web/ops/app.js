// The console's frame: who may come in, the way around, and the page that the address names.

import { html, render, useEffect, useMemo, useRef, useState } from "/web/vendor/preact.js";
import { NotForYou, SignInFirst } from "/web/shared/gate.js";
import { Masthead, useHash } from "/web/shared/masthead.js";
import { session } from "/web/shared/session.js";
import { Failed, Loading } from "/web/shared/states.js";
import { t } from "/web/shared/words.js";
import "/web/ops/words.js";
import { Find } from "/web/ops/find.js";
import { pages } from "/web/ops/pages.js";

/** `orders/1?all` is `{name: "orders", path: ["1"], query}`. */
function place(hash) {
  const [path, query = ""] = hash.split("?");
  const [name, ...rest] = path.split("/").map(decoded);
  return { name: name || "now", path: rest, query: new URLSearchParams(query) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // typed by hand
  }
}

function Console({ who }) {
  const hash = useHash();
  const at = useMemo(() => place(hash), [hash]);
  const nav = useRef();
  const shown = pages.filter(({ role = "staff" }) => who.may(role));
  useEffect(() => {
    const here = nav.current.querySelector("[aria-current]"); // on a phone the names go on beyond the edge
    if (here) nav.current.scrollLeft = here.offsetLeft - (nav.current.clientWidth - here.offsetWidth) / 2;
  }, [at.name]);
  return html`<div class="console">
    <nav ref=${nav} class="pages" aria-label=${t("app.console")}>
      ${shown.map(
        ({ name }) => html`<a key=${name} href=${`#/${name}`} aria-current=${name === at.name ? "page" : undefined}>${t(`ops.${name}`)}</a>`,
      )}
    </nav>
    <main id="main" tabindex="-1"><${Page} page=${pages.find(({ name }) => name === at.name)} at=${at} who=${who} /></main>
  </div>`;
}

function Page({ page, at, who }) {
  const [loaded, setLoaded] = useState({});
  const first = useRef(true);
  const allowed = page && who.may(page.role ?? "staff");
  const load = () => page.load().then(
    (module) => setLoaded({ page, Content: module.default }),
    (error) => setLoaded({ page, error }),
  );
  useEffect(() => {
    document.title = `${page ? t(`ops.${page.name}`) : t("app.console")} · Brewline`;
    if (!first.current) document.getElementById("main").focus(); // whoever listens hears that it is another page
    first.current = false;
    if (allowed) load();
  }, [page]);
  if (!page) return html`<${NoPage} title=${t("ops.no-page")} />`;
  if (!allowed) return html`<${NoPage} title=${t("ops.not-yours")} text=${t("ops.not-yours-text", { name: who.subject })} />`;
  if (loaded.page !== page) return html`<${Loading} />`;
  if (loaded.error) return html`<${Failed} error=${loaded.error} retry=${load} />`;
  return html`<${loaded.Content} path=${at.path} query=${at.query} session=${who} />`;
}

function NoPage({ title, text }) {
  return html`<div class="state empty">
    <h1 class="state-title">${title}</h1>
    ${text && html`<p>${text}</p>`}
    <a class="button" href="#/now">${t("ops.to-now")}</a>
  </div>`;
}

function Door({ who, children }) {
  return html`<${Masthead} who=${who} here="/ops">${who?.may("staff") && html`<${Find} />`}<//>${children}`;
}

function gate(who) {
  if (!who) return html`<main id="main"><${SignInFirst} /></main>`;
  if (!who.may("staff")) return html`<main id="main"><${NotForYou} who=${who} /></main>`;
  return html`<${Console} who=${who} />`;
}

async function show() {
  const app = document.getElementById("app");
  try {
    const who = await session();
    render(html`<${Door} who=${who}>${gate(who)}<//>`, app);
  } catch (error) {
    render(html`<${Door} who=${null}><main id="main"><${Failed} error=${error} retry=${show} /></main><//>`, app);
  }
}

show();
