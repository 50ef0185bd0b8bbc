// Bulk: one template to thousands, how far each has come, and what became of every recipient.

import { html } from "/web/vendor/preact.js";
import { api } from "/web/shared/api.js";
import { Empty } from "/web/shared/states.js";
import { ago, duration, number, t, time, words } from "/web/shared/words.js";
import { address, asked, Back, Facts, Filters, Mark, Pager, Table, word } from "/web/ops/desk.js";
import { Heading, Live, useLive } from "/web/ops/live.js";

const PAGE = "bulk";
const STANDINGS = ["pending", "queued", "sending", "sent", "delivered", "bounced", "failed", "suppressed"];
const bulks = api("notification-service");

export default function Bulk({ path, query }) {
  return path[0] ? html`<${One} id=${path[0]} query=${query} key=${path[0]} />` : html`<${List} query=${query} />`;
}

function List({ query }) {
  const live = useLive((signal) => bulks.get(`/notifications/bulk${asked(Object.fromEntries(query))}`, { signal }), [String(query)]);
  const columns = [
    { label: t("desk.template"), show: ({ id, templateCategory, templateName }) => html`<a href=${address(PAGE, [id])}><b>${templateName}</b></a><br /><span class="small quiet">${templateCategory}</span>` },
    { label: t("bulk.channel"), show: ({ channel }) => channel },
    { label: t("bulk.taken"), show: (bulk) => html`<${Progress} done=${bulk.taken} total=${bulk.total} label=${t("bulk.taken")} />` },
    { label: t("desk.begun"), show: ({ createdAt }) => html`<span title=${time(createdAt)}>${ago(createdAt)}</span>` },
  ];
  return html`<div class="desk"><${Heading} title=${t("ops.bulk")} live=${live} />
    <${Live} live=${live}>${({ items, next }) => items.length
      ? html`<${Table} caption=${t("ops.bulk")} columns=${columns} rows=${items} rowKey=${({ id }) => id} /><${Pager} page=${PAGE} query=${query} next=${next} />`
      : html`<${Empty} title=${t("bulk.none")} text=${t("bulk.none-text")} />`}<//></div>`;
}

function Progress({ done, total, label }) {
  return html`<span class="progress"><progress value=${done} max=${total} aria-label=${label}></progress><span class="number">${number(done)} / ${number(total)}</span></span>`;
}

function One({ id, query }) {
  const at = `/notifications/bulk/${encodeURIComponent(id)}`;
  const live = useLive((signal) => bulks.get(at, { signal }), [id], 2000);
  return html`<div class="desk"><${Back} to=${address(PAGE)}>${t("ops.bulk")}<//>
    <${Heading} title=${live.data ? live.data.templateName : t("ops.bulk")} live=${live} />
    <${Live} live=${live}>${(bulk) => html`<div class="stack">
      <section class="card">
        <${Progress} done=${ended(bulk)} total=${bulk.total} label=${t("bulk.ended")} />
        <p class="quiet">${bulk.completedAt ? t("bulk.completed", { at: time(bulk.completedAt) }) : bulk.etaSeconds !== null ? t("bulk.eta", { time: duration(bulk.etaSeconds) }) : t("bulk.unknown-pace")}</p>
        <${Facts} kind="tiles" items=${STANDINGS.map((standing) => [word(standing), number(bulk.counts[standing])])} />
      </section>
      <${Recipients} at=${at} id=${id} query=${query} />
    </div>`}<//></div>`;
}

const ended = ({ total, counts }) => total - counts.pending - counts.queued - counts.sending;

function Recipients({ at, id, query }) {
  const live = useLive((signal) => bulks.get(`${at}/recipients${asked(Object.fromEntries(query))}`, { signal }), [id, String(query)]);
  const columns = [
    { label: t("bulk.number"), show: ({ number: place }) => number(place + 1) },
    { label: t("desk.recipient"), show: ({ recipientId }) => recipientId },
    { label: t("desk.status"), show: ({ status }) => html`<${Mark} status=${status} />` },
    { label: t("desk.why"), show: ({ error }) => error ?? "–" },
  ];
  const fields = [{ name: "status", label: t("desk.status"), options: [["", t("desk.any")], ...STANDINGS.map((one) => [one, word(one)])] }];
  return html`<section>
    <h2>${t("bulk.recipients")}</h2>
    <${Filters} page=${PAGE} path=${[id]} query=${query} fields=${fields} />
    <${Live} live=${live}>${({ items, next }) => items.length
      ? html`<${Table} caption=${t("bulk.recipients")} columns=${columns} rows=${items} rowKey=${({ number: place }) => place} /><${Pager} page=${PAGE} path=${[id]} query=${query} next=${next} />`
      : html`<${Empty} title=${t("desk.nothing")} />`}<//>
  </section>`;
}

words({
  en: {
    "bulk.channel": "Channel",
    "bulk.taken": "Taken up",
    "bulk.ended": "Ended",
    "bulk.none": "No bulk yet",
    "bulk.none-text": "One begins with POST /api/v1/notifications/bulk.",
    "bulk.completed": "Completed {at}",
    "bulk.eta": "About {time} to go",
    "bulk.unknown-pace": "Under way; its pace isn't known yet",
    "bulk.recipients": "Recipients",
    "bulk.number": "No.",
  },
  de: {
    "bulk.channel": "Weg",
    "bulk.taken": "In Arbeit genommen",
    "bulk.ended": "Beendet",
    "bulk.none": "Noch keine Rundsendung",
    "bulk.none-text": "Eine beginnt mit POST /api/v1/notifications/bulk.",
    "bulk.completed": "Fertig {at}",
    "bulk.eta": "Noch etwa {time}",
    "bulk.unknown-pace": "Unterwegs; wie schnell, ist noch nicht bekannt",
    "bulk.recipients": "Empfänger",
    "bulk.number": "Nr.",
  },
});
