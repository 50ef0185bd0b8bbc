// Payments: those whose outcome nobody knows first; settling, refunding, every move, and the report of a day.

import { html, useState } from "/web/vendor/preact.js";
import { api, authorized } from "/web/shared/api.js";
import { problemOf } from "/web/shared/problem.js";
import { Empty } from "/web/shared/states.js";
import { ago, money, number, t, time, words } from "/web/shared/words.js";
import { address, asked, Filters, Mark, Pager, Said, Table, useStep, word } from "/web/ops/desk.js";
import { Heading, Live, useLive } from "/web/ops/live.js";
import { Payment } from "/web/ops/payment.js";

const PAGE = "money";
const STATUSES = ["processing", "succeeded", "partially_refunded", "refunded", "declined", "failed"];
const PARTS = 10_000; // of an amount: no currency has more decimals
const payments = api("payment-service");

export default function Money({ path, query, session }) {
  return path[0] ? html`<${Payment} id=${path[0]} session=${session} key=${path[0]} />` : html`<${List} query=${query} session=${session} />`;
}

const columns = () => [
  { label: t("money.payment"), show: ({ id, amount }) => html`<a href=${address(PAGE, [id])}><b>${money(amount)}</b></a>` },
  { label: t("money.order"), show: ({ orderId }) => html`<a href=${address("orders", [orderId])}><code class="small">${orderId}</code></a>` },
  { label: t("money.refunded"), show: ({ refunded }) => (Number(refunded.amount) ? money(refunded) : "–") },
  { label: t("money.provider"), show: ({ provider }) => provider },
  { label: t("money.made"), show: ({ createdAt }) => html`<span title=${time(createdAt)}>${ago(createdAt)}</span>` },
  { label: t("desk.status"), show: ({ status }) => html`<${Mark} status=${status} />` },
];

function List({ query, session }) {
  const filters = Object.fromEntries(query);
  const live = useLive((signal) => payments.get(`/payments${asked(filters)}`, { signal }), [String(query)]);
  const unknown = useLive((signal) => payments.get("/payments?status=processing&limit=100", { signal }));
  const fields = [
    { name: "status", label: t("desk.status"), options: [["", t("desk.any")], ...STATUSES.map((status) => [status, word(status)])] },
    { name: "orderId", label: t("money.order") },
  ];
  return html`<div class="desk"><${Heading} title=${t("ops.money")} live=${live} />
    ${unknown.data?.items.length > 0 && filters.status !== "processing" && html`<section class="unknown">
      <h2>${t("money.unknown", { count: unknown.data.items.length })}</h2>
      <p class="quiet">${t("money.unknown-text")}</p>
      <${Table} caption=${t("money.unknown", { count: unknown.data.items.length })} columns=${columns()} rows=${unknown.data.items} rowKey=${({ id }) => id} />
    </section>`}
    <${Filters} page=${PAGE} query=${query} fields=${fields} />
    <${Live} live=${live}>${({ items, next }) => items.length
      ? html`<${Table} caption=${t("ops.money")} columns=${columns()} rows=${items} rowKey=${({ id }) => id} /><${Pager} page=${PAGE} query=${query} next=${next} />`
      : html`<${Empty} title=${t("money.none")} text=${t("money.none-text")} />`}<//>
    ${session.may("admin") && html`<${Report} />`}</div>`;
}

function Report() {
  const [day, setDay] = useState(new Date().toISOString().slice(0, 10));
  const [sums, setSums] = useState(null);
  const step = useStep();
  const fetched = async (format) => {
    const answer = await authorized("payment-service", `/settlements/${day}?format=${format}`);
    if (!answer.ok) throw await problemOf(answer);
    return answer;
  };
  const get = (format) => step.run(async () => save(await (await fetched(format)).blob(), `settlement-${day}.${format}`), t("money.saved", { day }));
  const show = () => step.run(async () => setSums({ day, rows: summed(await (await fetched("csv")).text()) }));
  return html`<section class="card report">
    <h2>${t("money.report")}</h2>
    <p class="quiet">${t("money.report-text")}</p>
    <div class="row">
      <label class="row">${t("money.day")}<input type="date" value=${day} required max="9999-12-30" onInput=${(event) => setDay(event.currentTarget.value)} /></label>
      <button type="button" disabled=${step.busy || !day} onClick=${show}>${t("money.sums")}</button>
      <button type="button" disabled=${step.busy || !day} onClick=${() => get("csv")}>CSV</button>
      <button type="button" disabled=${step.busy || !day} onClick=${() => get("xlsx")}>Excel</button>
    </div>
    <${Said} step=${step} />
    ${sums?.day === day && (sums.rows.length
      ? html`<${Table} caption=${t("money.sums")} columns=${SUMS()} rows=${sums.rows} rowKey=${({ provider, kind, currency }) => provider + kind + currency} />`
      : html`<p>${t("money.no-sums")}</p>`)}
  </section>`;
}

const SUMS = () => [
  { label: t("money.provider"), show: ({ provider }) => provider },
  { label: t("money.kind"), show: ({ kind }) => word(kind) },
  { label: t("money.count"), show: ({ count }) => number(count) },
  { label: t("money.sum"), show: ({ amount, currency }) => money({ amount, currency }) },
];

/** The report's lines by provider, kind and currency. Only what stands between those and the amount may be quoted.
 *  Whole numbers are added: of fractions the sum would not be exact. */
function summed(csv) {
  const sums = new Map();
  for (const line of csv.trim().split("\r\n").slice(1)) {
    const columns = line.split(",");
    const [, provider, kind] = columns;
    const [amount, currency] = columns.slice(-2);
    const key = [provider, kind, currency].join();
    const { count, parts } = sums.get(key) ?? { count: 0, parts: 0 };
    sums.set(key, { provider, kind, currency, count: count + 1, parts: parts + Math.round(amount * PARTS) });
  }
  return [...sums.values()].map((sum) => ({ ...sum, amount: sum.parts / PARTS }));
}

/** What was fetched with a token becomes a download. */
function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

words({
  en: {
    "status.processing": "unknown",
    "money.payment": "Payment",
    "money.order": "Order",
    "money.refunded": "Refunded",
    "money.provider": "Provider",
    "money.made": "Made",
    "money.unknown": { one: "{count} outcome that nobody knows yet", other: "{count} outcomes that nobody knows yet" },
    "money.unknown-text": "They are asked about again by themselves. After a day a person may say what became of them.",
    "money.none": "No payments",
    "money.none-text": "None is as you asked.",
    "money.report": "Settlement report",
    "money.report-text": "Every charge captured and refund given on a day (UTC), as the providers' ledgers have them.",
    "money.day": "Day",
    "money.sums": "Show the sums",
    "money.no-sums": "Nothing moved on that day.",
    "money.kind": "What",
    "money.count": "How many",
    "money.sum": "Sum",
    "money.saved": "The report of {day} was saved.",
  },
  de: {
    "money.payment": "Zahlung",
    "money.order": "Bestellung",
    "money.refunded": "Erstattet",
    "money.provider": "Anbieter",
    "money.made": "Gemacht",
    "money.unknown": { one: "{count} Ausgang, den noch niemand kennt", other: "{count} Ausgänge, die noch niemand kennt" },
    "money.unknown-text": "Nach ihnen wird von selbst wieder gefragt. Nach einem Tag darf ein Mensch sagen, was daraus wurde.",
    "money.none": "Keine Zahlungen",
    "money.none-text": "Keine ist so, wie Sie gefragt haben.",
    "money.report": "Abrechnung",
    "money.report-text": "Jede Belastung und Erstattung eines Tages (UTC), wie sie die Anbieter verbuchen.",
    "money.day": "Tag",
    "money.sums": "Summen zeigen",
    "money.no-sums": "An diesem Tag hat sich nichts bewegt.",
    "money.kind": "Was",
    "money.count": "Wie viele",
    "money.sum": "Summe",
    "status.charge": "Belastung",
    "status.refund": "Erstattung",
    "money.saved": "Die Abrechnung vom {day} wurde gesichert.",
  },
});
