// What a template looks like once it is sent. A mail's own styles are kept apart from the page's, in a shadow tree, and
// are set by script: the page's policy lets no markup bring any.

import { html, useEffect, useRef } from "/web/vendor/preact.js";
import { Loading } from "/web/shared/states.js";
import { t, words } from "/web/shared/words.js";
import { Problems, Refused } from "/web/ops/desk.js";

export function Preview({ preview, error }) {
  return html`<section class="card preview" aria-label=${t("preview.title")}>
    <h2>${t("preview.title")}</h2>
    ${error && html`<${Refused} error=${error} inside="/source" />`}
    ${!preview && !error && html`<${Loading} />`}
    ${preview && html`
      ${preview.errors.length > 0 && html`<div class="notice warn"><p>${t("preview.errors")}</p><${Problems} problems=${preview.errors} inside="/source" /></div>`}
      ${(preview.subject || preview.html || preview.text) && html`<div class="letter">
        <p class="letter-subject"><b>${preview.subject || "–"}</b></p>
        ${preview.html ? html`<${Mail} source=${preview.html} />` : html`<pre>${preview.text}</pre>`}
      </div>`}
      ${preview.html && preview.text && html`<details><summary>${t("templates.text")}</summary><pre tabindex="0">${preview.text}</pre></details>`}
      ${preview.sms.text && html`<p class="label">${t("templates.sms")}</p>
        <p class="bubble">${preview.sms.text}</p>
        <p class="small quiet">${t("preview.segments", { count: preview.sms.segments, units: preview.sms.units, encoding: preview.sms.encoding })}</p>`}
      ${preview.push && html`<p class="label">${t("templates.push")}</p><p class="bubble">${preview.push}</p>`}`}
  </section>`;
}

function Mail({ source }) {
  const host = useRef();
  useEffect(() => {
    const root = host.current.shadowRoot ?? host.current.attachShadow({ mode: "open" });
    const renamed = source.replace(/<(\/?)style\b/gi, "<$1template").replace(/\sstyle\s*=/gi, " data-style=");
    const mail = new DOMParser().parseFromString(renamed, "text/html");
    const sheets = [...mail.querySelectorAll("template")].map((template) => sheet(template.innerHTML));
    for (const inert of mail.querySelectorAll("script, template, base, link, meta")) inert.remove();
    for (const link of mail.querySelectorAll("a[href]")) link.removeAttribute("href"); // it is a preview: nowhere to go
    root.adoptedStyleSheets = [sheet(":host { display: block; background: #fff; color: #222; }"), ...sheets];
    root.replaceChildren(...mail.body.childNodes);
    for (const element of root.querySelectorAll("[data-style]")) element.style.cssText = element.dataset.style;
  }, [source]);
  return html`<div class="mail" ref=${host}></div>`;
}

function sheet(text) {
  const made = new CSSStyleSheet();
  made.replaceSync(text);
  return made;
}

words({
  en: {
    "preview.title": "Preview",
    "preview.errors": "This keeps it from being published:",
    "preview.segments": { one: "{count} segment, {units} units of {encoding}", other: "{count} segments, {units} units of {encoding}" },
  },
  de: {
    "preview.title": "Vorschau",
    "preview.errors": "So kann sie nicht veröffentlicht werden:",
    "preview.segments": { one: "{count} Teil, {units} Zeichen in {encoding}", other: "{count} Teile, {units} Zeichen in {encoding}" },
  },
});
