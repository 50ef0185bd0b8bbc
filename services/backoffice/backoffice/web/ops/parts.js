// What the console's pages are made of.

import { html } from "/web/vendor/preact.js";
import { t } from "/web/shared/words.js";

/** `level` is good, warn, bad, info or nothing. */
export function Mark({ level = "", children }) {
  return html`<span class=${`mark ${level}`}>${children}</span>`;
}

const STANDS = { pending_payment: "warn", payment_failed: "bad", cancelled: "", delivered: "good" };

/** How an order stands. */
export function OrderMark({ status }) {
  return html`<${Mark} level=${STANDS[status] ?? "info"}>${t(`ops.status.${status}`)}<//>`;
}

/** A card that may have nothing to show, and then says why: `of` is `{data}`, `{error}` or `{denied}`. Its texts are
 *  `ops.<name>` and `ops.<name>.none`. */
export function Part({ name, of, empty, children }) {
  const instead = of?.denied ? "ops.denied" : of?.error ? "ops.no-answer" : empty ? `ops.${name}.none` : undefined;
  return html`<section class="card" aria-labelledby=${`part-${name}`}>
    <h2 id=${`part-${name}`}>${t(`ops.${name}`)}</h2>
    ${instead ? html`<p class="quiet">${t(instead)}</p>` : children}
  </section>`;
}

/** A list of `row(item)`, or the words for none: `ops.<none>.none`. */
export function Rows({ of = [], row, none }) {
  if (!of.length) return html`<p class="quiet">${t(`ops.${none}.none`)}</p>`;
  return html`<ul class="rows">${of.map(row)}</ul>`;
}
