// What the desks share: lists with filters in the address, a step that is taken once and says how it went, and a
// question before what can't be undone.

import { html, useEffect, useLayoutEffect, useRef, useState } from "/web/vendor/preact.js";
import { t, words } from "/web/shared/words.js";

/** `#/money/1?status=failed`; what is empty is left out. */
export function address(page, path = [], query = {}) {
  return `#/${[page, ...path].map(encodeURIComponent).join("/")}${asked(query)}`;
}

/** `?a=1` of a call; what is empty is left out. */
export function asked(query) {
  const known = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  return known.size ? `?${known}` : "";
}

/** Selects and inputs whose values stand in the address. `fields` are {name, label, options: [[value, label]]}, or
 *  without options a text. Another choice begins at the newest. */
export function Filters({ page, path = [], query, fields }) {
  const now = Object.fromEntries(query);
  const choose = (name) => (event) => {
    const { cursor, ...rest } = now;
    location.hash = address(page, path, { ...rest, [name]: event.currentTarget.value.trim() });
  };
  return html`<form class="filters" onSubmit=${(event) => event.preventDefault()}>
    ${fields.map(
      ({ name, label, options, fallback = "" }) => html`<label key=${name}>
        <span>${label}</span>
        ${options
          ? html`<select name=${name} value=${now[name] ?? fallback} onChange=${choose(name)}>
              ${options.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}
            </select>`
          : html`<${Written} name=${name} value=${now[name] ?? ""} autocomplete="off" spellcheck=${false} onChange=${choose(name)} />`}
      </label>`,
    )}
  </form>`;
}

/** An input that stays as somebody is writing it, whatever is fetched meanwhile, until they are done. */
export function Written({ value, onChange, ...rest }) {
  const field = useRef();
  const writing = useRef(false);
  useLayoutEffect(() => {
    if (!writing.current) field.current.value = value;
  }, [value]);
  const done = (event) => {
    writing.current = false;
    onChange(event);
  };
  return html`<input ref=${field} ...${rest} onInput=${() => (writing.current = true)} onChange=${done} />`;
}

/** The way to older rows, and back. */
export function Pager({ page, path = [], query, next }) {
  const { cursor, ...rest } = Object.fromEntries(query);
  if (!next && !cursor) return null;
  return html`<nav class="row pager" aria-label=${t("desk.pages")}>
    ${cursor && html`<a class="button" href=${address(page, path, rest)}>${t("desk.newest")}</a>`}
    ${next && html`<a class="button" href=${address(page, path, { ...rest, cursor: next })}>${t("desk.older")}</a>`}
  </nav>`;
}

/** A list; on a phone each row is a card. `columns` are {label, show(row)}, `rowKey(row)` tells it from others. */
export function Table({ caption, columns, rows, rowKey }) {
  return html`<div class="table stacks">
    <table>
      <caption class="unseen">${caption}</caption>
      <thead><tr>${columns.map(({ label, unseen }) => html`<th scope="col" key=${label}>${unseen ? html`<span class="unseen">${label}</span>` : label}</th>`)}</tr></thead>
      <tbody>
        ${rows.map(
          (row) => html`<tr key=${rowKey(row)}>${columns.map(({ label, show, kind = "" }) => html`<td key=${label} data-label=${label} class=${kind}><div>${show(row)}</div></td>`)}</tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** `items` are [label, value]; those without a value are left out. */
export function Facts({ items, kind = "" }) {
  const known = items.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`<dl class=${`about ${kind}`}>${known.map(([label, value]) => html`<div key=${label}><dt>${label}</dt><dd>${value}</dd></div>`)}</dl>`;
}

const KINDS = {
  good: ["succeeded", "completed", "delivered", "sent", "replayed", "published", "ok"],
  bad: ["failed", "declined", "bounced", "compensation_failed", "refused", "error"],
  warn: ["processing", "waiting", "unanswered", "draft", "unknown", "pending", "given_up"],
  info: ["running", "queued", "sending", "shipped", "edited"],
};

/** A status in its colour and its words. */
export function Mark({ status }) {
  const [kind] = Object.entries(KINDS).find(([, known]) => known.includes(status)) ?? [""];
  return html`<span class=${`mark ${kind}`}>${word(status)}</span>`;
}

/** The word for a status; itself, where there is none. */
export function word(status) {
  return textOr(`status.${status}`, String(status).replaceAll("_", " "));
}

/** The text of a key that may be newer than these words; `otherwise`, where there is none. */
export function textOr(key, otherwise) {
  const found = t(key);
  return found === key ? otherwise : found;
}

/** One step at a time: `run(work, said)` tells how it went, and answers whether it did. Who pressed the button, which
 *  can't be pressed meanwhile, is on it again, or on the page where it is gone. */
export function useStep() {
  const [state, setState] = useState({});
  const pressed = useRef();
  useEffect(() => {
    if (!pressed.current || state.busy || document.activeElement !== document.body) return;
    const { isConnected, disabled } = pressed.current;
    (isConnected && !disabled ? pressed.current : document.getElementById("main")).focus();
  }, [state]);
  const run = async (work, said) => {
    pressed.current = document.activeElement;
    setState({ busy: true });
    try {
      await work();
      setState({ said });
      return true;
    } catch (error) {
      setState({ error });
      return false;
    }
  };
  return { ...state, run, forget: () => setState({}) };
}

/** How a step went. `inside` is left out of the pointers. */
export function Said({ step, inside = "" }) {
  return html`<div aria-live="polite">${step.error ? html`<${Refused} error=${step.error} inside=${inside} />` : step.said && html`<p class="notice good">${step.said}</p>`}</div>`;
}

export function Refused({ error, inside = "" }) {
  return html`<div class="notice bad">
    <p>${error.errors ? t("desk.not-valid") : error instanceof TypeError ? t("state.offline") : error.message}</p>
    ${error.errors && html`<${Problems} problems=${error.errors} inside=${inside} />`}
    ${error.status >= 500 && html`<p class="small code">${t("state.trace", { id: error.traceId })}</p>`}
  </div>`;
}

export function Problems({ problems, inside = "" }) {
  const at = (pointer) => (pointer.startsWith(inside) ? pointer.slice(inside.length) : pointer).replace(/^\//, "").replaceAll("/", ".");
  return html`<ul class="problems">${problems.map(({ pointer, detail }) => html`<li key=${pointer + detail}><code>${at(pointer) || "–"}</code> ${detail}</li>`)}</ul>`;
}

/** A button that asks once. `reason` is the label of a text that is needed besides; `onYes(reason)`. */
export function AskFirst({ label, title, text, reason, danger = true, disabled, onYes }) {
  const dialog = useRef();
  const button = useRef();
  useLayoutEffect(() => {
    const leaving = button.current; // with the one who pressed it, where there is nothing more to ask
    return () => leaving === document.activeElement && document.getElementById("main").focus();
  }, []);
  const submit = (event) => {
    event.preventDefault();
    const said = event.currentTarget.elements.reason?.value.trim();
    dialog.current.close();
    onYes(said);
  };
  return html`<button ref=${button} type="button" class=${danger ? "danger" : ""} disabled=${disabled} onClick=${() => dialog.current.showModal()}>${label}</button>
    <dialog ref=${dialog} aria-label=${title}>
      <form onSubmit=${submit}>
        <h2>${title}</h2>
        <p>${text}</p>
        ${reason && html`<label class="field"><span class="label">${reason}</span><input name="reason" required maxlength="200" autocomplete="off" /></label>`}
        <div class="row end">
          <button type="button" onClick=${() => dialog.current.close()}>${t("desk.no")}</button>
          <button type="submit" class=${danger ? "danger" : "primary"}>${label}</button>
        </div>
      </form>
    </dialog>`;
}

export function Back({ to, children }) {
  return html`<p class="back"><a href=${to}>← ${children}</a></p>`;
}

export function pretty(value) {
  return JSON.stringify(value, null, 2);
}

/** `{value}`, or `{error}` where it is no JSON object. */
export function parsedObject(text) {
  try {
    const value = JSON.parse(text);
    if (value && typeof value === "object" && !Array.isArray(value)) return { value };
    return { error: t("desk.no-object") };
  } catch (error) {
    return { error: error.message };
  }
}

words({
  en: {
    "desk.pages": "Pages",
    "desk.newest": "Newest",
    "desk.older": "Older",
    "desk.any": "All",
    "desk.status": "Status",
    "desk.no": "Keep as it is",
    "desk.not-valid": "Not acceptable:",
    "desk.no-object": "An object is wanted: { … }",
    "desk.nothing": "Nothing here",
    "desk.why": "Why",
    "desk.times": "{count} ×",
    "desk.reason": "Reason",
    "desk.undo": "Undo",
    "desk.about": "About it",
    "desk.begun": "Begun",
    "desk.recipient": "Recipient",
    "desk.template": "Template",
  },
  de: {
    "desk.pages": "Seiten",
    "desk.newest": "Neueste",
    "desk.older": "Ältere",
    "desk.any": "Alle",
    "desk.status": "Status",
    "desk.no": "So lassen",
    "desk.not-valid": "Das geht so nicht:",
    "desk.no-object": "Ein Objekt wird gebraucht: { … }",
    "desk.nothing": "Hier ist nichts",
    "desk.why": "Warum",
    "desk.times": "{count} ×",
    "desk.reason": "Grund",
    "desk.undo": "Zurücknehmen",
    "desk.about": "Woher es kommt",
    "desk.begun": "Begonnen",
    "desk.recipient": "Empfänger",
    "desk.template": "Vorlage",
    "status.running": "läuft",
    "status.completed": "fertig",
    "status.compensation_failed": "Rückabwicklung gescheitert",
    "status.failed": "gescheitert",
    "status.declined": "abgelehnt",
    "status.succeeded": "gelungen",
    "status.processing": "unbekannt",
    "status.partially_refunded": "teilweise erstattet",
    "status.refunded": "erstattet",
    "status.waiting": "wartet",
    "status.replayed": "zugestellt",
    "status.discarded": "verworfen",
    "status.edited": "geändert",
    "status.delivered": "zugestellt",
    "status.refused": "abgewiesen",
    "status.unanswered": "ohne Antwort",
    "status.pending": "steht aus",
    "status.queued": "wartet",
    "status.sending": "wird gesendet",
    "status.sent": "gesendet",
    "status.bounced": "unzustellbar",
    "status.suppressed": "unterdrückt",
    "status.draft": "Entwurf",
    "status.published": "veröffentlicht",
    "status.retired": "abgelöst",
    "status.shipped": "mitgeliefert",
  },
});
