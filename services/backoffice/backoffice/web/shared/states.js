// What a part of a page shows while it has nothing, not yet, or no more.

import { html } from "/web/vendor/preact.js";
import { signIn } from "/web/shared/session.js";
import { t } from "/web/shared/words.js";

/** Bars in the place of `lines` lines. */
export function Loading({ lines = 3, label = t("state.loading") }) {
  const bars = Array.from({ length: lines }, (_, index) => html`<span class="bar" key=${index}></span>`);
  return html`<div class="state loading" role="status"><span class="unseen">${label}</span>${bars}</div>`;
}

/** `children` are what one can do about it. */
export function Empty({ title, text, children }) {
  return html`<div class="state empty"><p class="state-title">${title}</p>${text && html`<p>${text}</p>`}${children}</div>`;
}

/** `error` is a ProblemError, or a TypeError where nobody answered. */
export function Failed({ error, retry }) {
  if (error.status === 401) return html`<${Ended} />`;
  const text = error instanceof TypeError ? t("state.offline") : error.message;
  return html`<div class="state failed" role="alert">
    <p class="state-title">${t("state.failed")}</p>
    <p>${text}</p>
    ${error.traceId && html`<p class="quiet code">${t("state.trace", { id: error.traceId })}</p>`}
    ${retry && html`<button type="button" onClick=${retry}>${t("state.retry")}</button>`}
  </div>`;
}

function Ended() {
  return html`<div class="state failed" role="alert">
    <p class="state-title">${t("session.ended.title")}</p>
    <p>${t("session.ended.text")}</p>
    <button type="button" class="primary" onClick=${() => signIn()}>${t("session.sign-in")}</button>
  </div>`;
}
