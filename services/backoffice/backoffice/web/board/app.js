// The board: the customer's view and the bar's, by the address: #/, #/orders, #/orders/{id}, #/bar.

import { html, render, useEffect, useRef, useState } from "/web/vendor/preact.js";
import { Masthead, useHash } from "/web/shared/masthead.js";
import { session } from "/web/shared/session.js";
import { Empty, Failed } from "/web/shared/states.js";
import { t } from "/web/shared/words.js";
import "/web/board/words.js";
import { Bar } from "/web/board/bar.js";
import { Menu } from "/web/board/menu.js";
import { Mine } from "/web/board/mine.js";
import { OrderPage } from "/web/board/order.js";

const VIEWS = { "": "board.menu", orders: "board.mine", bar: "board.bar" };

function Board({ who }) {
  const [name, id] = useHash().split("/");
  const [said, setSaid] = useState("");
  const first = useRef(true);
  useEffect(() => {
    document.title = `${t(VIEWS[name] ?? "board.menu")} · Brewline`;
    if (!first.current) document.getElementById("main").focus(); // whoever listens hears that it is another view
    first.current = false;
    scrollTo(0, 0);
  }, [name, id]);

  const link = (path, key) => html`<a href=${`#/${path}`} aria-current=${path === name ? "page" : undefined}>${t(key)}</a>`;
  return html`<${Masthead} who=${who} here="/" />
    <nav class="places views" aria-label=${t("board.places")}>
      ${link("", "board.menu")} ${who && link("orders", "board.mine")} ${who?.may("staff") && link("bar", "board.bar")}
    </nav>
    <main id="main" tabindex="-1" class=${name === "bar" ? "broad" : ""}><${View} name=${name} id=${id} who=${who} say=${setSaid} /></main>
    <p class="unseen" role="status" aria-live="polite">${said}</p>`;
}

function View({ name, id, who, say }) {
  if (name === "") return html`<${Menu} who=${who} say=${say} />`;
  if (name === "orders" && id) return html`<${OrderPage} who=${who} id=${id} say=${say} />`;
  if (name === "orders") return html`<${Mine} who=${who} />`;
  if (name === "bar") return html`<${Bar} who=${who} say=${say} />`;
  return html`<${Empty} title=${t("bar.not-found.title")}><a class="button" href="#/">${t("board.menu")}</a></${Empty}>`;
}

async function show() {
  const app = document.getElementById("app");
  try {
    const who = await session();
    render(html`<${Board} who=${who} />`, app);
  } catch (error) {
    render(html`<${Masthead} who=${null} here="/" /><main id="main"><${Failed} error=${error} retry=${show} /></main>`, app);
  }
}

show();
