// Events that an app could not process: looked at, edited, delivered again or discarded, one by one and many at once.

import { html, useState } from "/web/vendor/preact.js";
import { api } from "/web/shared/api.js";
import { Empty } from "/web/shared/states.js";
import { ago, t, time, words } from "/web/shared/words.js";
import { address, asked, AskFirst, Filters, Mark, Pager, Said, Table, useStep, word } from "/web/ops/desk.js";
import { Letter } from "/web/ops/dead-letter.js";
import { Heading, Live, useLive } from "/web/ops/live.js";

const PAGE = "dead-letters";
const STATUSES = ["waiting", "replayed", "discarded"];
const letters = api("notification-service");

export default function DeadLetters({ path, query }) {
  return path[0] ? html`<${Letter} id=${path[0]} key=${path[0]} />` : html`<${List} query=${query} />`;
}

function List({ query }) {
  const filters = { status: "waiting", ...Object.fromEntries(query) };
  if (filters.status === "any") filters.status = "";
  const live = useLive((signal) => letters.get(`/dead-letters${asked(filters)}`, { signal }), [String(query)]);
  const fields = [
    { name: "status", label: t("desk.status"), fallback: "waiting", options: [...STATUSES.map((status) => [status, word(status)]), ["any", t("desk.any")]] },
    { name: "app", label: t("letters.app") },
    { name: "topic", label: t("letters.topic") },
    { name: "type", label: t("letters.type") },
  ];
  return html`<div class="desk"><${Heading} title=${t("ops.dead-letters")} live=${live} />
    <${Filters} page=${PAGE} query=${query} fields=${fields} />
    <${Live} live=${live}>${({ items, next }) => html`<${Some} items=${items} reload=${live.reload} /><${Pager} page=${PAGE} query=${query} next=${next} />`}<//></div>`;
}

function Some({ items, reload }) {
  const [chosen, setChosen] = useState(new Set());
  const [results, setResults] = useState([]);
  const step = useStep();
  const ids = items.map(({ id }) => id).filter((id) => chosen.has(id));
  const mark = (id, on) => setChosen((before) => { const after = new Set(before); after[on ? "add" : "delete"](id); return after; });
  const all = (work, body) => step.run(async () => {
    const { items: done } = await letters.post(`/dead-letters/${work}`, { body: { ids, ...body } });
    setResults(done.filter((one) => !one.done));
    setChosen(new Set());
    reload();
  }, t(`letters.${work}ed-some`));

  const columns = [
    { label: t("letters.choose"), unseen: true, kind: "tick", show: ({ id, type }) => html`<input type="checkbox" checked=${chosen.has(id)} aria-label=${t("letters.choose-this", { type })} onChange=${(event) => mark(id, event.currentTarget.checked)} />` },
    { label: t("letters.event"), show: ({ id, type, topic }) => html`<a href=${address(PAGE, [id])}><b>${type || t("letters.unreadable")}</b></a><br /><span class="small quiet">${topic}</span>` },
    { label: t("letters.app"), show: ({ app }) => app },
    { label: t("desk.why"), show: ({ reason, times }) => html`${reason || "–"}${times > 1 ? html` <span class="mark">${t("desk.times", { count: times })}</span>` : ""}` },
    { label: t("letters.received"), show: ({ receivedAt }) => html`<span title=${time(receivedAt)}>${ago(receivedAt)}</span>` },
    { label: t("desk.status"), show: ({ status }) => html`<${Mark} status=${status} />` },
  ];
  return html`
    ${items.length > 0 && html`<div class="row many">
      <label class="row"><input type="checkbox" checked=${ids.length === items.length} onChange=${(event) => setChosen(new Set(event.currentTarget.checked ? items.map(({ id }) => id) : []))} />${t("letters.all")}</label>
      <span class="quiet" aria-live="polite">${t("letters.chosen", { count: ids.length })}</span>
      <button type="button" disabled=${!ids.length || step.busy} onClick=${() => all("replay")}>${t("letters.replay")}</button>
      <${AskFirst} label=${t("letters.discard")} title=${t("letters.discard-many", { count: ids.length })} text=${t("letters.discard-text")} reason=${t("desk.reason")} disabled=${!ids.length || step.busy} onYes=${(reason) => all("discard", { reason })} />
    </div>`}
    ${!step.error && results.length > 0 ? html`<${NotDone} results=${results} items=${items} />` : html`<${Said} step=${step} />`}
    ${items.length
      ? html`<${Table} caption=${t("ops.dead-letters")} columns=${columns} rows=${items} rowKey=${({ id }) => id} />`
      : html`<${Empty} title=${t("letters.none")} text=${t("letters.none-text")} />`}`;
}

function NotDone({ results, items }) {
  const named = (id) => items.find((item) => item.id === id)?.type || id;
  return html`<div class="notice warn" role="alert">
    <p>${t("letters.not-done", { count: results.length })}</p>
    <ul>${results.map(({ id, detail }) => html`<li key=${id}><b>${named(id)}</b>: ${detail}</li>`)}</ul>
  </div>`;
}

words({
  en: {
    "letters.app": "App",
    "letters.topic": "Topic",
    "letters.type": "Type",
    "letters.event": "Event",
    "letters.received": "Came",
    "letters.unreadable": "unreadable",
    "letters.choose": "Choose",
    "letters.choose-this": "Choose {type}",
    "letters.all": "All on this page",
    "letters.chosen": { one: "{count} chosen", other: "{count} chosen" },
    "letters.replay": "Replay",
    "letters.discard": "Discard",
    "letters.discard-many": { one: "Discard {count} letter?", other: "Discard {count} letters?" },
    "letters.discard-text": "Nobody will deliver it any more. It stays on record, with your name and reason.",
    "letters.replayed-some": "Delivered again.",
    "letters.discarded-some": "Discarded.",
    "letters.not-done": { one: "{count} could not be done:", other: "{count} could not be done:" },
    "letters.none": "No dead letters",
    "letters.none-text": "Every event was processed, or is still on its way.",
  },
  de: {
    "letters.app": "Dienst",
    "letters.topic": "Thema",
    "letters.type": "Art",
    "letters.event": "Ereignis",
    "letters.received": "Gekommen",
    "letters.unreadable": "unlesbar",
    "letters.choose": "Auswählen",
    "letters.choose-this": "{type} auswählen",
    "letters.all": "Alle auf dieser Seite",
    "letters.chosen": { one: "{count} ausgewählt", other: "{count} ausgewählt" },
    "letters.replay": "Noch einmal zustellen",
    "letters.discard": "Verwerfen",
    "letters.discard-many": { one: "{count} Brief verwerfen?", other: "{count} Briefe verwerfen?" },
    "letters.discard-text": "Niemand stellt es mehr zu. Es bleibt verzeichnet, mit Ihrem Namen und dem Grund.",
    "letters.replayed-some": "Noch einmal zugestellt.",
    "letters.discarded-some": "Verworfen.",
    "letters.not-done": { one: "{count} ging nicht:", other: "{count} gingen nicht:" },
    "letters.none": "Nichts Unzustellbares",
    "letters.none-text": "Jedes Ereignis wurde verarbeitet oder ist noch unterwegs.",
  },
});
