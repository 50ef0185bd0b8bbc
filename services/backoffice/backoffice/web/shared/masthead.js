// The head of every page: where one is, the way elsewhere, and who one is.

import { html, useEffect, useState } from "/web/vendor/preact.js";
import { signIn, signOut } from "/web/shared/session.js";
import { language, setLanguage, t } from "/web/shared/words.js";

/** The view that the address names: what follows its `#/`. */
export function useHash() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const moved = () => setHash(location.hash);
    moved(); // nobody has listened since it was drawn
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return hash.replace(/^#\/?/, "");
}

/** `who` is the session or null; `children` go between the brand and the person. Put `<main id="main">` behind it. */
export function Masthead({ who, here, children }) {
  const link = (path, key) => html`<a href=${path} aria-current=${here === path ? "page" : undefined}>${t(key)}</a>`;
  const other = language === "en" ? "de" : "en";
  return html`<a class="skip" href="#main" onClick=${toMain}>${t("app.skip")}</a>
    <header class="masthead">
      <a class="brand" href="/"><img src="/web/shared/icon.svg" alt="" width="28" height="28" />Brewline</a>
      ${who?.may("staff") && html`<nav class="places">${link("/", "app.board")}${link("/ops", "app.console")}</nav>`}
      ${children}
      <div class="person">
        <button type="button" class="plain" lang=${other} onClick=${() => setLanguage(other)}>${t("app.language")}</button>
        ${who
          ? html`<span class="who" title=${t("session.as", { name: who.subject, tenant: who.tenantName })}>
                <b>${who.subject}</b><small>${who.tenantName}</small>
              </span>
              <button type="button" onClick=${signOut}>${t("session.sign-out")}</button>`
          : html`<button type="button" class="primary" onClick=${() => signIn()}>${t("session.sign-in")}</button>`}
      </div>
    </header>`;
}

/** The address keeps its own #. */
function toMain(event) {
  event.preventDefault();
  const main = document.getElementById("main");
  main.tabIndex = -1;
  main.focus();
}
