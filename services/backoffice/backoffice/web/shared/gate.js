// What a page shows to whoever may not see it.

import { html } from "/web/vendor/preact.js";
import { signIn } from "/web/shared/session.js";
import { t } from "/web/shared/words.js";

function Cup() {
  return html`<img src="/web/shared/icon.svg" alt="" width="64" height="64" />`;
}

export function SignInFirst() {
  return html`<div class="state empty">
    <${Cup} />
    <h1 class="state-title">${t("session.needed.title")}</h1>
    <p>${t("session.needed.text")}</p>
    <button type="button" class="primary" onClick=${() => signIn()}>${t("session.sign-in")}</button>
  </div>`;
}

export function NotForYou({ who }) {
  return html`<div class="state empty">
    <${Cup} />
    <h1 class="state-title">${t("session.refused.title")}</h1>
    <p>${t("session.refused.text", { name: who.subject })}</p>
    <p class="row">
      <a class="button" href="/">${t("session.home")}</a>
      <button type="button" onClick=${() => signIn({ another: true })}>${t("session.another")}</button>
    </p>
  </div>`;
}
