import { html } from "/web/vendor/preact.js";
import { SignInFirst } from "/web/shared/gate.js";
import { Empty, Failed, Loading } from "/web/shared/states.js";
import { ago, money, t } from "/web/shared/words.js";
import { Live } from "/web/board/live.js";
import { codeOf, statusWords, useClock, useOrders } from "/web/board/orders.js";

/** A user's are their own; staff that orders something finds it by its name. */
const queryOf = (who) => (who.may("staff") ? `limit=50&customerId=${encodeURIComponent(who.subject)}` : "limit=50");

export function Mine({ who }) {
  return who ? html`<${List} who=${who} />` : html`<${SignInFirst} />`;
}

function List({ who }) {
  const { all, state, error, retry } = useOrders([queryOf(who)]);
  const now = useClock();
  return html`<div class="row spread"><h1>${t("order.title")}</h1><${Live} state=${state} /></div>
    <${Found} all=${all?.filter((order) => !who.may("staff") || order.customer.id === who.subject)} error=${error} retry=${retry} now=${now} />`;
}

function Found({ all, error, retry, now }) {
  if (!all) return error ? html`<${Failed} error=${error} retry=${retry} />` : html`<${Loading} lines=${4} />`;
  if (!all.length) {
    return html`<${Empty} title=${t("order.none.title")} text=${t("order.none.text")}>
      <a class="button primary" href="#/">${t("board.menu")}</a>
    </${Empty}>`;
  }
  return html`<ul class="cards">${all.map((order) => html`<li key=${order.id}><${Summary} order=${order} now=${now} /></li>`)}</ul>`;
}

function Summary({ order, now }) {
  return html`<a class="card summary" href=${`#/orders/${order.id}`}>
    <span class="row spread"><strong>${codeOf(order)}</strong><${Status} order=${order} /></span>
    <span>${order.items.map(({ quantity, name }) => `${quantity} × ${name}`).join(", ")}</span>
    <span class="row spread quiet small"><span>${ago(order.createdAt, now)}</span><span class="number">${money(order.total)}</span></span>
  </a>`;
}

const KINDS = { pending_payment: "warn", confirmed: "info", preparation: "info", ready: "good", shipped: "info", delivered: "", cancelled: "bad", payment_failed: "bad" };

export function Status({ order }) {
  return html`<span class="mark ${KINDS[order.status]}">${statusWords(order.status)}</span>`;
}
