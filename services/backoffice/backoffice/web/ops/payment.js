// One payment: what became of it, giving money back, and saying what nobody could learn.

import { html, useState } from "/web/vendor/preact.js";
import { api } from "/web/shared/api.js";
import { money, t, time, words } from "/web/shared/words.js";
import { address, AskFirst, Back, Facts, Mark, Said, useStep, word } from "/web/ops/desk.js";
import { Heading, Live, useLive } from "/web/ops/live.js";

const AMOUNT = /^[0-9]{1,14}([.][0-9]{1,4})?$/;
const DAY_MS = 86_400_000; // until then a settlement is refused: it would be a guess
const payments = api("payment-service");

export function Payment({ id, session }) {
  const at = `/payments/${encodeURIComponent(id)}`;
  const live = useLive(async (signal) => {
    const [payment, refunds, moves] = await Promise.all([at, `${at}/refunds`, `${at}/moves`].map((path) => payments.get(path, { signal })));
    return { payment, refunds: refunds.items, moves: moves.items };
  }, [id]);
  const admin = session.may("admin");
  return html`<div class="desk"><${Back} to=${address("money")}>${t("ops.money")}<//>
    <${Heading} title=${live.data ? money(live.data.payment.amount) : t("money.payment")} live=${live}>${live.data && html`<${Mark} status=${live.data.payment.status} />`}<//>
    <${Live} live=${live}>
      ${({ payment, refunds, moves }) => html`<div class="beside">
        <div class="stack">
          ${admin && left(payment) > 0 && html`<${Refund} payment=${payment} at=${at} reload=${live.reload} />`}
          ${admin && payment.status === "processing" && html`<${Settle} at=${at} title=${t("payment.settle")} since=${payment.createdAt} outcomes=${["succeeded", "declined", "failed"]} reload=${live.reload} />`}
          ${!admin && html`<p class="notice">${t("ops.read-only")}</p>`}
          <${Moves} moves=${moves} />
        </div>
        <div class="stack">
          <${About} payment=${payment} />
          ${refunds.map((refund) => html`<${RefundCard} key=${refund.id} refund=${refund} admin=${admin} reload=${live.reload} />`)}
        </div>
      </div>`}
    <//></div>`;
}

const left = ({ status, amount, refunded }) => (["succeeded", "partially_refunded"].includes(status) ? Number(amount.amount) - Number(refunded.amount) : 0);

/** One key for one refund, however often it is sent; another amount is another refund. */
function Refund({ payment, at, reload }) {
  const [amount, setAmount] = useState("");
  const [key, setKey] = useState(() => crypto.randomUUID());
  const step = useStep();
  const most = { amount: left(payment), currency: payment.amount.currency };
  const fits = !amount || AMOUNT.test(amount);
  const give = async () => {
    const body = amount ? { amount: { amount, currency: payment.amount.currency } } : {};
    const sent = await step.run(async () => {
      const refund = await payments.post(`${at}/refunds`, { body, headers: { "Idempotency-Key": key } });
      if (refund.status === "failed") throw new Error(refund.reason);
    }, t("payment.refund-asked"));
    if (sent) {
      setKey(crypto.randomUUID());
      setAmount("");
    }
    reload();
  };
  const asked = amount && fits ? { amount, currency: most.currency } : most;
  return html`<form class="card" onSubmit=${(event) => event.preventDefault()}>
    <h2>${t("payment.refund")}</h2>
    <label class="field">
      <span class="label">${t("payment.amount", { currency: payment.amount.currency })}</span>
      <input name="amount" inputmode="decimal" autocomplete="off" aria-invalid=${!fits} placeholder=${t("payment.all-of-it")} aria-describedby="refund-hint" value=${amount}
        onInput=${(event) => { setAmount(event.currentTarget.value.trim()); setKey(crypto.randomUUID()); }} />
      <span id="refund-hint" class="field-hint">${t("payment.left", { amount: money(most) })}</span>
    </label>
    <p class="small quiet">${t("payment.key")} <code>${key}</code></p>
    <${Said} step=${step} />
    <${AskFirst} label=${t("payment.refund")} title=${t("payment.refund-this", { amount: money(asked) })} text=${t("payment.refund-text")} disabled=${step.busy || !fits} onYes=${give} />
  </form>`;
}

function Settle({ at, title, since, outcomes, reload }) {
  const step = useStep();
  const [outcome, setOutcome] = useState(outcomes[0]);
  const open = Date.now() - Date.parse(since) >= DAY_MS;
  const submit = async (event) => {
    event.preventDefault();
    const { reference, reason } = event.currentTarget.elements;
    const body = { outcome, reason: reason.value, ...(outcome === "succeeded" && { transactionId: reference.value }) };
    await step.run(() => payments.post(`${at}/settle`, { body }), t("payment.settled"));
    reload();
  };
  return html`<form class="card" onSubmit=${submit}>
    <h2>${title}</h2>
    ${open ? html`<p class="quiet">${t("payment.settle-text")}</p>` : html`<p class="notice">${t("payment.too-early", { at: time(new Date(Date.parse(since) + DAY_MS)) })}</p>`}
    ${open && html`
      <label class="field"><span class="label">${t("payment.outcome")}</span>
        <select value=${outcome} onChange=${(event) => setOutcome(event.currentTarget.value)}>${outcomes.map((one) => html`<option key=${one} value=${one}>${word(one)}</option>`)}</select>
      </label>
      ${outcome === "succeeded" && html`<label class="field"><span class="label">${t("payment.reference")}</span><input name="reference" required maxlength="128" autocomplete="off" /></label>`}
      <label class="field"><span class="label">${t("desk.reason")}</span><input name="reason" required maxlength="200" autocomplete="off" /></label>
      <${Said} step=${step} />
      <button type="submit" class="primary" disabled=${step.busy}>${t("payment.say-so")}</button>`}
  </form>`;
}

function RefundCard({ refund, admin, reload }) {
  return html`<section class="card">
    <h2 class="row spread">${t("payment.a-refund", { amount: money(refund.amount) })}<${Mark} status=${refund.status} /></h2>
    <${Facts} items=${[
      [t("money.made"), time(refund.createdAt)],
      [t("payment.processed"), refund.processedAt && time(refund.processedAt)],
      [t("payment.reference"), refund.transactionId],
      [t("desk.reason"), refund.reason],
    ]} />
    ${admin && refund.status === "processing" && html`<${Settle} at=${`/refunds/${refund.id}`} title=${t("payment.settle")} since=${refund.createdAt} outcomes=${["succeeded", "failed"]} reload=${reload} />`}
  </section>`;
}

function About({ payment }) {
  return html`<section class="card">
    <h2>${t("desk.about")}</h2>
    <${Facts} items=${[
      [t("money.order"), html`<a href=${address("orders", [payment.orderId])}><code>${payment.orderId}</code></a>`],
      [t("money.payment"), html`<code>${payment.id}</code>`],
      [t("money.provider"), payment.provider],
      [t("payment.reference"), payment.transactionId && html`<code>${payment.transactionId}</code>`],
      [t("desk.reason"), payment.reason],
      [t("money.made"), time(payment.createdAt)],
      [t("payment.processed"), payment.processedAt && time(payment.processedAt)],
      [t("money.refunded"), Number(payment.refunded.amount) > 0 && money(payment.refunded)],
    ].map(([label, value]) => [label, value || ""])} />
  </section>`;
}

function Moves({ moves }) {
  return html`<section class="card">
    <h2>${t("payment.moves")}</h2>
    ${moves.length === 0 && html`<p class="quiet">${t("payment.no-moves")}</p>`}
    <ol class="moves">
      ${moves.map((move, place) => html`<li key=${place}>
        <p class="row"><${Mark} status=${move.toStatus} />${move.refundId && html`<span class="mark">${t("payment.refund-move")}</span>`}<b>${move.actor}</b><span class="quiet small">${time(move.at)}</span></p>
        ${(move.reason || move.reference) && html`<p class="quiet">${[move.reason, move.reference].filter(Boolean).join(" · ")}</p>`}
      </li>`)}
    </ol>
  </section>`;
}

words({
  en: {
    "payment.refund": "Refund",
    "payment.refund-this": "Refund {amount}?",
    "payment.refund-text": "The money goes back to the customer, and does not return.",
    "payment.amount": "Amount in {currency}",
    "payment.all-of-it": "all that is left",
    "payment.left": "At most {amount}.",
    "payment.key": "Idempotency-Key:",
    "payment.refund-asked": "The refund was taken.",
    "payment.settle": "What became of it?",
    "payment.settle-text": "Say what you have found out at the provider; it is on record with your name.",
    "payment.too-early": "It is still asked about by itself. From {at} on you may say what became of it.",
    "payment.outcome": "Outcome",
    "payment.reference": "Provider's reference",
    "payment.say-so": "Write it down",
    "payment.settled": "It is on record.",
    "payment.a-refund": "Refund of {amount}",
    "payment.processed": "Processed",
    "payment.moves": "Every move",
    "payment.no-moves": "None yet: nobody knows what became of it.",
    "payment.refund-move": "refund",
  },
  de: {
    "payment.refund": "Erstatten",
    "payment.refund-this": "{amount} erstatten?",
    "payment.refund-text": "Das Geld geht an den Kunden und kommt nicht zurück.",
    "payment.amount": "Betrag in {currency}",
    "payment.all-of-it": "alles, was übrig ist",
    "payment.left": "Höchstens {amount}.",
    "payment.key": "Idempotency-Key:",
    "payment.refund-asked": "Die Erstattung ist aufgenommen.",
    "payment.settle": "Was wurde daraus?",
    "payment.settle-text": "Sagen Sie, was Sie beim Anbieter erfahren haben; es wird mit Ihrem Namen verzeichnet.",
    "payment.too-early": "Es wird noch von selbst gefragt. Ab {at} dürfen Sie sagen, was daraus wurde.",
    "payment.outcome": "Ausgang",
    "payment.reference": "Nummer beim Anbieter",
    "payment.say-so": "Festhalten",
    "payment.settled": "Es ist verzeichnet.",
    "payment.a-refund": "Erstattung von {amount}",
    "payment.processed": "Verarbeitet",
    "payment.moves": "Jede Bewegung",
    "payment.no-moves": "Noch keine: Niemand weiß, was daraus wurde.",
    "payment.refund-move": "Erstattung",
  },
});
