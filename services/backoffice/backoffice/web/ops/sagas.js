// Sagas of both services that have any: how far each story has come, and the failed one that is tried again.

import { html } from "/web/vendor/preact.js";
import { api } from "/web/shared/api.js";
import { Empty } from "/web/shared/states.js";
import { ago, duration, t, time, words } from "/web/shared/words.js";
import { address, asked, AskFirst, Back, Facts, Filters, Mark, Pager, Said, Table, textOr, useStep, word } from "/web/ops/desk.js";
import { Heading, Live, useLive } from "/web/ops/live.js";

const PAGE = "sagas";
const OF = {
  "order-service": { statuses: ["compensation_failed", "running", "completed"], stopped: "compensation_failed" },
  "notification-service": { statuses: ["failed", "running", "completed"], stopped: "failed" },
};
const workflow = ({ workflow: name }) => textOr(`sagas.${name}`, name);
const stepName = (name) => textOr(`ops.step.${name}`, name);
const name = (service) => t(`sagas.${service}`);

export default function Sagas({ path, query, session }) {
  const [service, id] = path;
  return id && OF[service] ? html`<${One} service=${service} id=${id} session=${session} key=${id} />` : html`<${List} query=${query} />`;
}

function List({ query }) {
  const { of = "order-service", ...filters } = Object.fromEntries(query);
  const service = OF[of] ? of : "order-service";
  const live = useLive((signal) => api(service).get(`/sagas${asked(filters)}`, { signal }), [String(query)]);
  const stopped = useLive((signal) => Promise.all(
    Object.entries(OF).map(async ([one, { stopped: status }]) => ({ one, status, ...(await api(one).get(`/sagas${asked({ status, limit: 100 })}`, { signal })) })),
  ));
  const fields = [
    { name: "of", label: t("sagas.of"), fallback: service, options: Object.keys(OF).map((one) => [one, name(one)]) },
    { name: "status", label: t("desk.status"), options: [["", t("desk.any")], ...OF[service].statuses.map((status) => [status, word(status)])] },
  ];
  const columns = [
    { label: t("sagas.saga"), show: ({ id }) => html`<a href=${address(PAGE, [service, id])}><code>${id}</code></a>` },
    { label: t("sagas.what"), show: (saga) => saga.type ?? workflow(saga) },
    { label: t("desk.begun"), show: ({ startedAt }) => html`<span title=${time(startedAt)}>${ago(startedAt)}</span>` },
    { label: t("desk.status"), show: ({ status }) => html`<${Mark} status=${status} />` },
  ];
  return html`<div class="desk"><${Heading} title=${t("ops.sagas")} live=${live} />
    ${stopped.data?.filter(({ items }) => items.length > 0).map(({ one, status, items, next }) => html`<p class="notice bad" key=${one}>
      ${t("sagas.stopped", { count: items.length, more: next ? "+" : "", service: name(one) })} <a href=${address(PAGE, [], { of: one, status })}>${t("sagas.show")}</a>
    </p>`)}
    <${Filters} page=${PAGE} query=${query} fields=${fields} />
    <${Live} live=${live}>${({ items, next }) => items.length
      ? html`<${Table} caption=${t("ops.sagas")} columns=${columns} rows=${items} rowKey=${({ id }) => id} /><${Pager} page=${PAGE} query=${query} next=${next} />`
      : html`<${Empty} title=${t("sagas.none")} text=${t("sagas.none-text")} />`}<//></div>`;
}

function One({ service, id, session }) {
  const at = `/sagas/${encodeURIComponent(id)}`;
  const live = useLive((signal) => api(service).get(at, { signal }), [service, id]);
  const step = useStep();
  const retry = async () => {
    await step.run(() => api(service).post(`${at}/retry`), t("sagas.retried"));
    live.reload();
  };
  return html`<div class="desk"><${Back} to=${address(PAGE, [], { of: service })}>${t("ops.sagas")}<//>
    <${Heading} title=${live.data ? workflow(live.data) : t("sagas.saga")} live=${live}>${live.data && html`<${Mark} status=${live.data.status} />`}<//>
    <${Live} live=${live}>
      ${(saga) => html`<div class="beside">
        <div class="stack">
          <section class="card">
            <h2>${t("sagas.steps")}</h2>
            <ol class="moves">${saga.steps.map((one, place) => html`<${Step} key=${place} step=${one} />`)}</ol>
            ${saga.status === "running" && saga.currentStep && html`<p class="quiet">${t("sagas.now", { step: stepName(saga.currentStep) })}</p>`}
            <${Said} step=${step} />
            ${saga.status === OF[service].stopped && (session.may("admin") ? html`<${AskFirst} label=${t("sagas.retry")} title=${t("sagas.retry-this")} text=${t("sagas.retry-text")} danger=${false} disabled=${step.busy} onYes=${retry} />` : html`<p class="notice">${t("ops.read-only")}</p>`)}
          </section>
          ${saga.incidents.length > 0 && html`<section class="card">
            <h2>${t("sagas.incidents")}</h2>
            <ol class="moves">${saga.incidents.map((one) => html`<li key=${one.at}>
              <p class="row"><${Mark} status="failed" /><b>${stepName(one.step)}</b><span class="quiet small">${time(one.at)}</span></p>
              <p>${one.error} · ${t(one.stops ? "sagas.stops" : "sagas.went-on")}</p>
              ${one.retriedAt && html`<p class="quiet">${t("sagas.retried-by", { who: one.retriedBy, at: time(one.retriedAt) })}</p>`}
            </li>`)}</ol>
          </section>`}
        </div>
        <section class="card">
          <h2>${t("desk.about")}</h2>
          <${Facts} items=${[
            [t("sagas.saga"), html`<code>${saga.id}</code>`],
            [t("desk.begun"), time(saga.startedAt)],
            [t("sagas.ended"), saga.completedAt && time(saga.completedAt)],
            [t("sagas.event"), saga.type],
            [t("desk.recipient"), saga.recipientId],
          ]} />
          ${service === "order-service" && html`<p><a href=${address("orders", [saga.id])}>${t("sagas.order")}</a></p>`}
        </section>
      </div>`}
    <//></div>`;
}

/** Of an order: {step, phase, status, attempts, startedAt, durationMs, error}; of a notification: {step, sent, endedAt}. */
function Step({ step }) {
  const status = step.status ?? (step.sent ? "sent" : "failed");
  return html`<li>
    <p class="row"><${Mark} status=${status} /><b>${stepName(step.step)}</b>
      <span class="quiet small">${time(step.startedAt ?? step.endedAt)}${step.durationMs ? ` · ${duration(step.durationMs / 1000)}` : ""}${step.attempts > 1 ? ` · ${t("desk.times", { count: step.attempts })}` : ""}</span>
    </p>
    ${step.error && html`<p class="quiet">${step.error}</p>`}
  </li>`;
}

words({
  en: {
    "sagas.of": "Of",
    "sagas.order-service": "Orders",
    "sagas.notification-service": "Messages told in turn",
    "sagas.fulfil_order": "Fulfil the order",
    "sagas.tell_in_turn": "Tell in turn",
    "sagas.saga": "Saga",
    "sagas.what": "What",
    "sagas.ended": "Ended",
    "sagas.stopped": { one: "{count} saga stands still: {service}.", other: "{count}{more} sagas stand still: {service}." },
    "sagas.show": "Show",
    "sagas.none": "No sagas",
    "sagas.none-text": "None has this status.",
    "sagas.steps": "Steps",
    "sagas.now": "Now: {step}",
    "sagas.retry": "Try again",
    "sagas.retry-this": "Try the failed step again?",
    "sagas.retry-text": "Do so once what kept it from succeeding was put right. What is done already is not done twice.",
    "sagas.retried": "It is being tried again.",
    "sagas.incidents": "What failed for good",
    "sagas.stops": "the saga stood still",
    "sagas.went-on": "the saga went on without it",
    "sagas.retried-by": "Tried again by {who}, {at}",
    "sagas.event": "Event",
    "sagas.order": "The order",
  },
  de: {
    "sagas.of": "Wovon",
    "sagas.order-service": "Bestellungen",
    "sagas.notification-service": "Nachrichten der Reihe nach",
    "sagas.fulfil_order": "Bestellung ausführen",
    "sagas.tell_in_turn": "Der Reihe nach benachrichtigen",
    "sagas.saga": "Ablauf",
    "sagas.what": "Was",
    "sagas.ended": "Beendet",
    "sagas.stopped": { one: "{count} Ablauf steht still: {service}.", other: "{count}{more} Abläufe stehen still: {service}." },
    "sagas.show": "Zeigen",
    "sagas.none": "Keine Abläufe",
    "sagas.none-text": "Keiner hat diesen Status.",
    "sagas.steps": "Schritte",
    "sagas.now": "Jetzt: {step}",
    "sagas.retry": "Noch einmal versuchen",
    "sagas.retry-this": "Den gescheiterten Schritt noch einmal versuchen?",
    "sagas.retry-text": "Sobald behoben ist, woran er gescheitert ist. Was getan ist, wird nicht noch einmal getan.",
    "sagas.retried": "Es wird noch einmal versucht.",
    "sagas.incidents": "Was endgültig gescheitert ist",
    "sagas.stops": "der Ablauf stand still",
    "sagas.went-on": "der Ablauf ging ohne ihn weiter",
    "sagas.retried-by": "Noch einmal versucht von {who}, {at}",
    "sagas.event": "Ereignis",
    "sagas.order": "Die Bestellung",
  },
});
