// One order: how it stands and why, and everything that happened to it in one column of time.

import { html, useState } from "/web/vendor/preact.js";
import { duration, money, t, time } from "/web/shared/words.js";
import { Back } from "/web/ops/desk.js";
import { Heading, Live, useLive } from "/web/ops/live.js";
import { Mark, OrderMark } from "/web/ops/parts.js";
import { KINDS, read, told } from "/web/ops/story.js";
import { why } from "/web/ops/why.js";

const QUIET = new Set(["log", "span"]); // many, and for whoever asks for them; what went wrong of them is always shown

export function Order({ id }) {
  const live = useLive((signal) => read(id, signal), [id]);
  return html`
    <${Back} to="#/orders">${t("ops.orders")}<//>
    <${Heading} title=${t("ops.order", { id: id.slice(-8) })} live=${live} />
    <${Live} live=${live}>
      ${(known) => html`<div class="stack">
        <${Facts} order=${known.order} />
        <${Why} reasons=${why(known)} />
        <${Story} known=${known} />
      </div>`}
    <//>
  `;
}

function Facts({ order }) {
  const paid = t(`ops.paid.${order.payment.status}`);
  const facts = {
    id: html`<span class="code">${order.id}</span>`,
    status: html`<${OrderMark} status=${order.status} />`,
    paid: order.payment.id ? html`<a href=${`#/money/${order.payment.id}`}>${paid}</a>` : paid,
    told: order.notified ? t(`ops.told.${order.notified.status}`) : t("ops.told.not-yet"),
    customer: `${order.customer.name} (${order.customer.id})`,
    items: order.items.map(({ quantity, name, variation }) => `${quantity} × ${name}${variation ? ` ${variation}` : ""}`).join(", "),
    total: money(order.total),
    location: t(`ops.location.${order.location}`),
  };
  return html`<dl class="card order-facts">
    ${Object.entries(facts).map(([name, value]) => html`<div key=${name}><dt>${t(`ops.column.${name}`)}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

function Why({ reasons }) {
  return html`<section aria-label=${t("ops.why")} aria-live="polite" class="reasons">
    ${reasons.map(
      ({ level, text, href }) => html`<p class=${`notice ${level}`} key=${text}>${href ? html`<a href=${href}>${text}</a>` : text}</p>`,
    )}
  </section>`;
}

function Story({ known }) {
  const [wanted, setWanted] = useState(() => new Set(KINDS.filter((kind) => !QUIET.has(kind))));
  const entries = told(known);
  const shown = entries.filter(({ kind, level }) => wanted.has(kind) || (QUIET.has(kind) && ["warn", "bad"].includes(level)));
  const turn = (kind) => {
    const next = new Set(wanted);
    if (!next.delete(kind)) next.add(kind);
    setWanted(next);
  };
  return html`<section aria-labelledby="story">
    <div class="row spread">
      <h2 id="story">${t("ops.story")}</h2>
      <div class="row kinds" role="group" aria-label=${t("ops.kinds")}>
        ${KINDS.map(
          (kind) => html`<button key=${kind} type="button" class=${`kind ${kind}`} aria-pressed=${wanted.has(kind)} onClick=${() => turn(kind)}>
            ${t(`ops.kind.${kind}`)} <span class="quiet number">${entries.filter((entry) => entry.kind === kind).length}</span>
          </button>`,
        )}
      </div>
    </div>
    <${Missing} known=${known} />
    <ol class="story">
      ${shown.map((entry, place) => html`<${Entry} key=${place} entry=${entry} began=${shown[0].at} />`)}
    </ol>
  </section>`;
}

/** What can't be shown, in words: an empty place would say that nothing happened. */
function Missing({ known }) {
  const silent = ["saga", "events", "payments", "messages", "traces"].filter((part) => known[part].error);
  const traces = known.traces.data;
  return html`<div class="story-notices">
    ${silent.map((part) => html`<p class="notice warn" key=${part}>${t(`ops.missing.${part}`)}</p>`)}
    ${traces && !traces.configured && html`<p class="notice">${t("ops.missing.not-configured")}</p>`}
    ${traces?.configured && !traces.found.length && html`<p class="notice">${t("ops.missing.no-traces")}</p>`}
    ${known.events.data?.items.length === 0 && html`<p class="notice">${t("ops.missing.old-events")}</p>`}
  </div>`;
}

function Entry({ entry, began }) {
  const { at, kind, source, title, level, word, text, took, more } = entry;
  return html`<li class=${`${kind} ${level ?? ""}`}>
    <time datetime=${new Date(at).toISOString()} title=${t("ops.after", { duration: duration((at - began) / 1000) })}>${time(at, { precise: true })}</time>
    <div>
      <p><b>${title}</b> ${word && html`<${Mark} level=${level}>${word}<//>`} ${took !== undefined && html`<small class="number">${duration(took)}</small>`}</p>
      <p class="small quiet"><span class="source">${source}</span>${text && html` · ${text}`}</p>
      ${more && html`<details><summary>${more.title}</summary><pre tabindex="0">${more.text}</pre></details>`}
    </div>
  </li>`;
}
