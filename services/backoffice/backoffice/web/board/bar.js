// The bar's view: what is to be made, where it stands, and the move to where it goes next.

import { html, useEffect, useRef, useState } from "/web/vendor/preact.js";
import { NotForYou, SignInFirst } from "/web/shared/gate.js";
import { Failed, Loading } from "/web/shared/states.js";
import { number, t } from "/web/shared/words.js";
import { Live } from "/web/board/live.js";
import { codeOf, orders, statusWords, useClock, useOrders } from "/web/board/orders.js";

const COLUMNS = ["confirmed", "preparation", "ready", "delivered"];
const QUERIES = [...COLUMNS.slice(0, 3), "shipped"].map((status) => `status=${status}&limit=100`).concat("status=delivered&limit=20");
const SHOWN_DELIVERED = 20;
const LATE_S = { confirmed: 300, preparation: 600, ready: 900 };

export function Bar({ who, say }) {
  if (!who) return html`<${SignInFirst} />`;
  return who.may("staff") ? html`<${Columns} say=${say} />` : html`<${NotForYou} who=${who} />`;
}

/** What comes after where an order stands; undefined at its end. */
function nextOf({ status, location }) {
  if (status === "ready" && location === "delivery") return "shipped";
  return status === "shipped" ? "delivered" : COLUMNS[COLUMNS.indexOf(status) + 1];
}

const columnOf = (status) => (status === "shipped" ? "ready" : status);

function Columns({ say }) {
  const { all, state, error, put, retry } = useOrders(QUERIES, { onNew: (order) => say(t("bar.new", { code: codeOf(order) })) });
  const [moving, setMoving] = useState({}); // by id: where it is being moved to, and shown already
  const [refusal, setRefusal] = useState("");
  const [dragged, setDragged] = useState(null);
  const focused = useRef();
  const now = useClock();

  const move = async (order, to, trackingNumber) => {
    focused.current = order.id;
    setRefusal("");
    setMoving((before) => ({ ...before, [order.id]: to }));
    try {
      put(
        to === "shipped"
          ? await orders.post(`/orders/${order.id}/ship`, { body: { trackingNumber } })
          : await orders.post(`/orders/${order.id}/status`, { body: { status: to } }),
      );
      say(t("bar.moved", { code: codeOf(order), status: statusWords(to) }));
    } catch (error) {
      const reason = error instanceof TypeError ? t("state.offline") : error.message;
      setRefusal(t("bar.refused", { code: codeOf(order), reason }));
      orders.get(`/orders/${order.id}`).then(put, () => {}); // somebody else may have moved it
    } finally {
      setMoving(({ [order.id]: _, ...rest }) => rest);
    }
  };
  const drop = (column) => {
    const order = dragged;
    setDragged(null);
    if (!order || columnOf(order.status) === column) return;
    const next = nextOf(order);
    if (columnOf(next) !== column || next === "shipped") setRefusal(t("bar.one-step", { status: statusWords(next) }));
    else move(order, next);
  };

  // A card that moved to another column is drawn anew there: whoever works by key goes with it.
  useEffect(() => {
    const card = focused.current && document.querySelector(`[data-order="${focused.current}"]`);
    if (card && !card.contains(document.activeElement)) card.focus();
    if (!Object.keys(moving).length) focused.current = undefined;
  }, [moving, all]);

  if (!all) return error ? html`<${Failed} error=${error} retry=${retry} />` : html`<${Loading} lines=${6} />`;
  const shown = all.map((order) => (moving[order.id] ? { ...order, status: moving[order.id], moving: true } : order));
  return html`<div class="row spread">
      <h1>${t("bar.title")}</h1>
      <${Live} state=${state} />
    </div>
    <p class="quiet small" id="bar-help">${t("bar.help")}</p>
    ${refusal && html`<p class="notice bad" role="alert">${refusal}</p>`}
    <div class="columns">
      ${COLUMNS.map(
        (column) => html`<${Column} key=${column} column=${column} orders=${inColumn(shown, column)} now=${now}
          move=${move} drag=${setDragged} drop=${drop} aimed=${dragged && columnOf(nextOf(dragged)) === column} />`,
      )}
    </div>`;
}

/** What has waited longest comes first; of what is done, the newest. */
function inColumn(all, column) {
  const found = all.filter(({ status }) => columnOf(status) === column);
  return column === "delivered" ? found.slice(0, SHOWN_DELIVERED) : found.reverse();
}

function Column({ column, orders, now, move, drag, drop, aimed }) {
  const over = (event) => event.preventDefault(); // or nothing may be dropped
  const dropped = (event) => { event.preventDefault(); drop(column); };
  return html`<section class="column ${aimed ? "aimed" : ""}" aria-labelledby=${`column-${column}`} onDragOver=${over} onDrop=${dropped}>
    <h2 id=${`column-${column}`} class="row spread">${statusWords(column)}<span class="mark number">${orders.length}</span></h2>
    ${orders.length
      ? html`<ul>${orders.map((order) => html`<${Ticket} key=${order.id} order=${order} now=${now} move=${move} drag=${drag} />`)}</ul>`
      : html`<p class="quiet none">${t(`bar.none.${column}`)}</p>`}
  </section>`;
}

function Ticket({ order, now, move, drag }) {
  const [ships, setShips] = useState(false);
  const next = nextOf(order);
  const waited = Math.max(0, Math.floor((now - Date.parse(order.createdAt)) / 1000));
  const late = waited > LATE_S[order.status];
  const go = () => (next === "shipped" ? setShips(true) : move(order, next));
  const pressed = (event) => {
    if (event.target !== event.currentTarget) return;
    if (event.key === "ArrowRight" && next && !order.moving) go();
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") neighbour(event.currentTarget, event.key === "ArrowDown")?.focus();
    else return;
    event.preventDefault();
  };
  const grab = (event) => {
    event.dataTransfer.setData("text/plain", order.id);
    event.dataTransfer.effectAllowed = "move";
    drag(order);
  };
  const label = `${codeOf(order)}, ${order.customer.name}: ${order.items.map(({ quantity, name }) => `${quantity} ${name}`).join(", ")}`;
  return html`<li><div class="card ticket ${late ? "late" : ""} ${order.moving ? "moving" : ""}" data-order=${order.id} tabindex="0" role="group"
      aria-label=${label} aria-describedby="bar-help" draggable=${Boolean(next) && !order.moving} onDragStart=${grab}
      onDragEnd=${() => drag(null)} onKeyDown=${pressed}>
    <div class="row spread">
      <strong>${codeOf(order)}</strong>
      <span class="mark ${order.location === "in-store" ? "" : "info"}">${t(`location.${order.location}`)}</span>
    </div>
    <ul class="items">
      ${order.items.map(
        (item) => html`<li key=${item.sku + item.variation}><b class="number">${item.quantity}</b> ${item.name}${item.variation && html` <span class="quiet">${item.variation.replaceAll("-", " ")}</span>`}</li>`,
      )}
    </ul>
    <div class="row spread">
      <span class="small quiet">${order.customer.name}${order.status === "shipped" && html` · ${statusWords("shipped")}`}</span>
      ${next && html`<span class="small ${late ? "lateness" : "quiet"} number">${waits(waited)}</span>`}
    </div>
    ${ships && next === "shipped"
      ? html`<${Shipping} order=${order} send=${(number) => move(order, "shipped", number)} close=${() => setShips(false)} />`
      : next && html`<button type="button" class=${order.status === "confirmed" ? "primary wide" : "wide"} disabled=${order.moving} onClick=${go}>${t(`bar.to.${next}`)}</button>`}
  </div></li>`;
}

function waits(seconds) {
  const minutes = Math.floor(seconds / 60);
  return minutes ? t("bar.waits", { time: number(minutes, { style: "unit", unit: "minute" }) }) : t("bar.just-in");
}

function neighbour(card, down) {
  const { nextElementSibling, previousElementSibling } = card.parentElement;
  return (down ? nextElementSibling : previousElementSibling)?.firstElementChild;
}

function Shipping({ order, send, close }) {
  const submit = (event) => {
    event.preventDefault();
    send(new FormData(event.target).get("tracking").trim());
  };
  const field = `tracking-${order.id}`;
  return html`<form onSubmit=${submit} onKeyDown=${(event) => event.key === "Escape" && close()}>
    <label for=${field}>${t("bar.tracking")}</label>
    <div class="row"><input id=${field} name="tracking" required maxlength="64" autocomplete="off" ref=${(input) => input && document.activeElement !== input && input.focus()} />
    <button type="submit" class="primary">${t("bar.to.shipped")}</button></div>
  </form>`;
}
