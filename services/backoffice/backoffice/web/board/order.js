import { html, useEffect, useRef, useState } from "/web/vendor/preact.js";
import { SignInFirst } from "/web/shared/gate.js";
import { Failed, Loading } from "/web/shared/states.js";
import { money, t, time } from "/web/shared/words.js";
import { Live } from "/web/board/live.js";
import { Status } from "/web/board/mine.js";
import { codeOf, orders, statusWords, useOrders } from "/web/board/orders.js";

const WAY = ["pending_payment", "confirmed", "preparation", "ready", "delivered"];
const DELIVERY = ["pending_payment", "confirmed", "preparation", "ready", "shipped", "delivered"];
const CANCELLABLE = ["pending_payment", "confirmed"];

export function OrderPage({ who, id, say }) {
  return who ? html`<${Watched} key=${id} id=${id} say=${say} />` : html`<${SignInFirst} />`;
}

function Watched({ id, say }) {
  const [gone, setGone] = useState(null);
  const { all, state, put } = useOrders([], { only: id });
  const order = all?.find((one) => one.id === id);
  const told = useRef();
  const read = () => {
    setGone(null);
    orders.get(`/orders/${encodeURIComponent(id)}`).then(put, setGone);
  };
  useEffect(read, [state === "live"]); // also what came to pass while the line was down
  useEffect(() => {
    if (order && told.current && told.current !== order.status) say(`${t("order.number", { code: codeOf(order) })}: ${statusWords(order.status)}`);
    told.current = order?.status;
  }, [order?.status]);

  if (!order) return gone ? html`<${Failed} error=${gone} retry=${read} />` : html`<${Loading} lines=${6} />`;
  return html`<article class="order">
    <header class="row spread">
      <h1>${t("order.number", { code: codeOf(order) })}</h1>
      <${Live} state=${state} />
    </header>
    <section class="card now status-${order.status}">
      <p class="told"><${Status} order=${order} /> <span>${toldOf(order)}</span></p>
      <${Way} order=${order} />
      ${CANCELLABLE.includes(order.status) && html`<${Cancel} order=${order} put=${put} />`}
    </section>
    <div class="halves">
      <${Receipt} order=${order} />
      <${History} order=${order} />
    </div>
    <p><a href="#/">${t("order.again")}</a></p>
  </article>`;
}

function toldOf({ status, location, trackingNumber }) {
  return t(status === "ready" && location === "delivery" ? "told.ready.delivery" : `told.${status}`, { tracking: trackingNumber });
}

function Way({ order }) {
  const way = order.location === "delivery" ? DELIVERY : WAY;
  const at = way.indexOf(order.status);
  if (at < 0) return null;
  return html`<ol class="way" aria-label=${t("order.way")}>
    ${way.map(
      (status, index) => html`<li key=${status} class=${index < at ? "past" : index === at ? "here" : ""} aria-current=${index === at ? "step" : undefined}>
        <span>${statusWords(status)}</span>
      </li>`,
    )}
  </ol>`;
}

function Cancel({ order, put }) {
  const [{ asks, busy, error }, setState] = useState({});
  const yes = async () => {
    setState({ asks: true, busy: true });
    try {
      await orders.post(`/orders/${order.id}/cancel`);
      put(await orders.get(`/orders/${order.id}`));
      setState({});
    } catch (error) {
      setState({ error });
    }
  };
  if (!asks) {
    return html`<div class="row">
      <button type="button" class="danger" onClick=${() => setState({ asks: true })}>${t("order.cancel")}</button>
      ${error && html`<span class="field-error" role="alert">${error.message}</span>`}
    </div>`;
  }
  return html`<div class="row" role="group" aria-label=${t("order.cancel")}>
    <span>${t("order.cancel.sure")}</span>
    <button type="button" class="danger" disabled=${busy} onClick=${yes} ref=${(button) => !busy && button?.focus()}>${t("order.cancel.yes")}</button>
    <button type="button" disabled=${busy} onClick=${() => setState({})}>${t("order.cancel.no")}</button>
  </div>`;
}

function Receipt({ order }) {
  return html`<section class="card receipt" aria-labelledby="receipt">
    <h2 id="receipt">${t("order.receipt")}</h2>
    <ul class="lines">
      ${order.items.map(
        (item) => html`<li key=${item.sku + item.variation} class="row">
          <span class="grow">${item.quantity} × ${item.name}${item.variation && html`<small class="quiet">${item.variation.replaceAll("-", " ")}</small>`}</span>
          <span class="number sum">${money({ ...item.unitPrice, amount: String((Number(item.unitPrice.amount) * 10_000 * item.quantity) / 10_000) })}</span>
        </li>`,
      )}
    </ul>
    <p class="row spread total"><span>${t("basket.total")}</span><strong class="number">${money(order.total)}</strong></p>
    <dl class="facts">
      <dt>${t("order.payment")}</dt><dd>${t(`payment.${order.payment.status}`)}</dd>
      <dt>${t("order.for")}</dt><dd>${order.customer.name}, ${t(`location.${order.location}`)}</dd>
      <dt>${t("order.placed")}</dt><dd>${time(order.createdAt)}</dd>
      <dt>${t("order.reference")}</dt><dd class="code">${order.id}</dd>
    </dl>
  </section>`;
}

function History({ order }) {
  const [{ steps, error }, setFound] = useState({});
  const read = () => { orders.get(`/orders/${order.id}/timeline`).then((steps) => setFound({ steps }), (error) => setFound({ error })); };
  useEffect(read, [order.version, order.notified?.at]);
  return html`<section class="card" aria-labelledby="history">
    <h2 id="history">${t("order.history")}</h2>
    ${error && html`<${Failed} error=${error} retry=${read} />`}
    ${!steps && !error && html`<${Loading} />`}
    ${steps &&
    html`<ol class="history">
      ${steps.map(
        (step) => html`<li key=${step.step} class=${step.status}>
          <time class="quiet number" datetime=${step.startedAt}>${time(step.startedAt)}</time>
          <span>${t(`step.${step.step}`)}${remark(step)}</span>
        </li>`,
      )}
    </ol>`}
  </section>`;
}

function remark({ status, attempts }) {
  if (["unknown", "failed", "skipped"].includes(status)) return `: ${t(`step.${status}`)}`;
  return attempts > 1 ? ` (${t("step.attempts", { count: attempts })})` : "";
}
