// The sandbox's switches, on one machine alone: what the outside world does wrong, by per cent; orders by the second; and
// what arrived.

import { html, useEffect, useRef, useState } from "/web/vendor/preact.js";
import { config } from "/web/shared/config.js";
import { problemOf } from "/web/shared/problem.js";
import { Empty } from "/web/shared/states.js";
import { ago, t, time, words } from "/web/shared/words.js";
import { Facts, Said, useStep, Written } from "/web/ops/desk.js";
import { Heading, Live, useLive } from "/web/ops/live.js";
import { placeOrders } from "/web/ops/load.js";

const MODES = ["ok", "error", "timeout", "throttle", "reset", "lost-reply"];

async function sandbox(path, { method = "GET", body, signal } = {}) {
  const headers = { Accept: "application/json", ...(body && { "Content-Type": "application/json" }) };
  const answer = await fetch((await config()).sandbox + path, { method, headers, signal, body: body && JSON.stringify(body) });
  if (!answer.ok) throw await problemOf(answer);
  return answer.status === 204 ? null : answer.json();
}

export default function Sandbox({ session }) {
  const live = useLive(async (signal) => {
    const [faults, mails] = await Promise.all([sandbox("/sandbox/faults", { signal }), sandbox("/sandbox/inbox?limit=10", { signal })]);
    return { faults, mails };
  });
  return html`<div class="desk"><${Heading} title=${t("ops.sandbox")} live=${live} />
    <p class="quiet">${t("sandbox.text")}</p>
    <${Live} live=${live}>${({ faults, mails }) => html`<div class="beside even">
      <div class="stack"><${Faults} faults=${faults} reload=${live.reload} /><${Load} session=${session} /></div>
      <${Inbox} mails=${mails} />
    </div>`}<//></div>`;
}

function Faults({ faults, reload }) {
  const step = useStep();
  const last = useRef(Promise.resolve());
  const act = (work) => { last.current = last.current.then(() => step.run(work)).then(reload); }; // in the order they were made
  const set = (target, fault) => act(() => sandbox(`/sandbox/faults/${target}`, { method: "PUT", body: fault }));
  return html`<section class="card">
    <h2 class="row spread">${t("sandbox.faults")}
      <button type="button" disabled=${step.busy} onClick=${() => act(() => sandbox("/sandbox/faults", { method: "DELETE" }))}>${t("sandbox.all-well")}</button>
    </h2>
    <${Said} step=${step} />
    ${Object.entries(faults).map(([target, fault]) => html`<${Fault} key=${target} target=${target} fault=${Array.isArray(fault) ? null : fault} set=${set} />`)}
  </section>`;
}

/** `fault` is null where a program has set a mixture. Another one takes the place of either. */
function Fault({ target, fault, set }) {
  const { mode = "", rate = 1, status, delayMs } = fault ?? {};
  const change = (changed) => set(target, { mode, rate, ...(status && { status }), ...(delayMs && { delayMs }), ...changed });
  return html`<fieldset class="fault">
    <legend>${target}</legend>
    <label><span class="unseen">${t("sandbox.mode")}</span>
      <select value=${mode} onChange=${(event) => set(target, { mode: event.currentTarget.value, rate })}>
        ${!fault && html`<option value="">${t("sandbox.mixture")}</option>`}
        ${MODES.map((one) => html`<option key=${one} value=${one}>${t(`sandbox.${one}`)}</option>`)}
      </select>
    </label>
    <label class="row"><${Written} type="number" required min="0" max="100" step="1" disabled=${!fault || mode === "ok"} value=${Math.round(rate * 100)} aria-label=${t("sandbox.rate", { target })}
      onChange=${({ currentTarget: share }) => share.reportValidity() && change({ rate: share.valueAsNumber / 100 })} /> %</label>
  </fieldset>`;
}

function Load({ session }) {
  const [rate, setRate] = useState(5);
  const [seconds, setSeconds] = useState(20);
  const [state, setState] = useState(null); // {placed, refused, ms, running}
  const leaving = useRef();
  const step = useStep();
  useEffect(() => () => leaving.current?.abort(), []);
  const start = (event) => {
    event.preventDefault();
    leaving.current = new AbortController();
    step.run(() => placeOrders({ rate, seconds, session, signal: leaving.current.signal, onState: setState }));
  };
  const count = (label, value, set, max) => html`<label class="field"><span class="label">${label}</span><input type="number" min="1" max=${max} required value=${value} onInput=${(event) => set(event.currentTarget.valueAsNumber)} /></label>`;
  return html`<form class="card" onSubmit=${start}>
    <h2>${t("sandbox.load")}</h2>
    <p class="quiet">${t("sandbox.load-text", { name: session.subject })}</p>
    <div class="row numbers">${count(t("sandbox.per-second"), rate, setRate, 50)}${count(t("sandbox.seconds"), seconds, setSeconds, 600)}</div>
    <div class="row">
      <button type="submit" class="primary" disabled=${step.busy}>${t("sandbox.start")}</button>
      ${step.busy && html`<button type="button" onClick=${() => leaving.current.abort()}>${t("sandbox.stop")}</button>`}
    </div>
    <${Said} step=${step} />
    ${state && html`<div class="results" aria-live="polite"><${Facts} kind="tiles" items=${[
      [t("sandbox.placed"), state.placed],
      ...Object.entries(state.refused).map(([why, times]) => [why, times]),
      ["p50", state.ms.length > 0 && `${at(state.ms, 0.5)} ms`],
      ["p95", state.ms.length > 0 && `${at(state.ms, 0.95)} ms`],
    ].map(([label, value]) => [label, value === false ? "" : String(value)])} /></div>`}
  </form>`;
}

function at(values, share) {
  const sorted = [...values].sort((one, other) => one - other);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]);
}

function Inbox({ mails }) {
  return html`<section class="card">
    <h2>${t("sandbox.inbox")}</h2>
    ${mails.length === 0 && html`<${Empty} title=${t("sandbox.no-mail")} />`}
    <ol class="moves">${mails.map((mail) => html`<li key=${mail.messageId + mail.at}>
      <details>
        <summary><b>${mail.subject}</b> <span class="quiet small">${mail.to} · <span title=${time(mail.at)}>${ago(mail.at)}</span></span></summary>
        <pre tabindex="0">${mail.text}</pre>
      </details>
    </li>`)}</ol>
  </section>`;
}

words({
  en: {
    "sandbox.text": "The world outside, played on this machine: payment providers, SMS, mail, push and INN8.",
    "sandbox.faults": "What goes wrong",
    "sandbox.all-well": "All well again",
    "sandbox.mode": "Fault",
    "sandbox.rate": "Share of the calls to {target} that are hit",
    "sandbox.mixture": "a mixture",
    "sandbox.ok": "all is well",
    "sandbox.error": "answers 503",
    "sandbox.timeout": "answers nothing",
    "sandbox.throttle": "too many requests",
    "sandbox.reset": "hangs up",
    "sandbox.lost-reply": "does it, and the answer is lost",
    "sandbox.load": "Orders by the second",
    "sandbox.load-text": "This page places them for {name}, while it is open.",
    "sandbox.per-second": "Orders a second",
    "sandbox.seconds": "For how many seconds",
    "sandbox.start": "Start",
    "sandbox.stop": "Stop",
    "sandbox.placed": "Placed",
    "sandbox.inbox": "Inbox",
    "sandbox.no-mail": "No mail yet",
  },
  de: {
    "sandbox.text": "Die Welt draußen, auf diesem Rechner gespielt: Zahlungsanbieter, SMS, Mail, Push und INN8.",
    "sandbox.faults": "Was schiefgeht",
    "sandbox.all-well": "Alles wieder gut",
    "sandbox.mode": "Fehler",
    "sandbox.rate": "Anteil der Aufrufe an {target}, die es trifft",
    "sandbox.mixture": "eine Mischung",
    "sandbox.ok": "alles gut",
    "sandbox.error": "antwortet 503",
    "sandbox.timeout": "antwortet nicht",
    "sandbox.throttle": "zu viele Anfragen",
    "sandbox.reset": "legt auf",
    "sandbox.lost-reply": "tut es, und die Antwort geht verloren",
    "sandbox.load": "Bestellungen je Sekunde",
    "sandbox.load-text": "Diese Seite gibt sie für {name} auf, solange sie offen ist.",
    "sandbox.per-second": "Bestellungen je Sekunde",
    "sandbox.seconds": "Wie viele Sekunden lang",
    "sandbox.start": "Los",
    "sandbox.stop": "Halt",
    "sandbox.placed": "Aufgegeben",
    "sandbox.inbox": "Posteingang",
    "sandbox.no-mail": "Noch keine Post",
  },
});
