import { html } from "/web/vendor/preact.js";
import { t } from "/web/shared/words.js";

const KIND = { live: "good", connecting: "info", waiting: "warn", refused: "bad" };

/** Whether what one sees is what is. */
export function Live({ state }) {
  return html`<span class="mark ${KIND[state]}" role="status"><span class="dot" aria-hidden="true"></span>${t(`live.${state}`)}</span>`;
}
