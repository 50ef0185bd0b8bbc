// One dead letter: what it says, what is wrong with it, an editor for its data, and who did what.

import { html, useState } from "/web/vendor/preact.js";
import { api } from "/web/shared/api.js";
import { ago, t, time, words } from "/web/shared/words.js";
import { address, AskFirst, Back, Facts, Mark, parsedObject, pretty, Problems, Said, useStep } from "/web/ops/desk.js";
import { Heading, Live, useLive } from "/web/ops/live.js";

const letters = api("notification-service");

export function Letter({ id }) {
  const at = `/dead-letters/${encodeURIComponent(id)}`;
  const live = useLive(async (signal) => {
    const [letter, history] = await Promise.all([letters.get(at, { signal }), letters.get(`${at}/history`, { signal })]);
    return { letter, history: history.items };
  }, [id]);
  const title = live.data?.letter.type || t("letter.one");
  return html`<div class="desk"><${Back} to=${address("dead-letters")}>${t("ops.dead-letters")}<//>
    <${Heading} title=${title} live=${live}>${live.data && html`<${Mark} status=${live.data.letter.status} />`}<//>
    <${Live} live=${live}>
      ${({ letter, history }) => html`<div class="beside">
        <div class="stack"><${Work} letter=${letter} at=${at} reload=${live.reload} /></div>
        <div class="stack"><${About} letter=${letter} /><${History} moves=${history} /></div>
      </div>`}
    <//></div>`;
}

function Work({ letter, at, reload }) {
  const step = useStep();
  const [edit, setEdit] = useState(null); // {text, version} once somebody types
  const open = letter.status === "waiting";
  const object = letter.event && typeof letter.event === "object" && !Array.isArray(letter.event);
  const text = edit?.text ?? pretty(object ? letter.event.data ?? {} : {});
  const { value, error } = parsedObject(text);
  const act = async (work, said) => { if (await step.run(work, said)) setEdit(null); reload(); };
  const save = () => letters.put(at, { body: { data: value, version: edit.version } });
  const replay = async () => {
    if (edit) {
      await save();
      setEdit(null);
    }
    await letters.post(`${at}/replay`);
  };
  return html`<section class="card" aria-labelledby="letter-data">
    <h2 id="letter-data">${t("letter.data")}</h2>
    ${letter.reason && html`<p class="notice bad">${letter.reason}</p>`}
    ${open && letter.problems.length > 0 && html`<div class="notice warn"><p>${t("letter.problems")}</p><${Problems} problems=${letter.problems} inside="/data" /></div>`}
    ${object
      ? html`<textarea class="code tall" aria-labelledby="letter-data" aria-invalid=${Boolean(error)} aria-describedby="letter-error" spellcheck=${false} readonly=${!open} value=${text}
            onInput=${(event) => { const written = event.currentTarget.value; setEdit((before) => ({ text: written, version: before?.version ?? letter.version })); }}></textarea>
          <p id="letter-error" class="field-error" role="status">${error}</p>`
      : html`<p class="notice warn">${t("letter.garbage")}</p><pre>${letter.body}</pre>`}
    <${Said} step=${step} inside="/data" />
    <div class="row">
      ${letter.status !== "discarded" && object && html`<button type="button" class="primary" disabled=${step.busy || Boolean(edit && error)} onClick=${() => act(replay, t("letter.replayed", { app: letter.app }))}>${edit ? t("letter.save-and-replay") : t("letters.replay")}</button>`}
      ${open && edit && html`<button type="button" disabled=${step.busy || Boolean(error)} onClick=${() => act(save, t("letter.saved"))}>${t("letter.save")}</button>
        <button type="button" class="plain" onClick=${() => setEdit(null)}>${t("desk.undo")}</button>`}
      ${open && html`<${AskFirst} label=${t("letters.discard")} title=${t("letters.discard-many", { count: 1 })} text=${t("letters.discard-text")} reason=${t("desk.reason")} disabled=${step.busy}
        onYes=${(reason) => act(() => letters.post(`${at}/discard`, { body: { reason } }), t("letters.discarded-some"))} />`}
    </div>
    ${letter.original && html`<details><summary>${t("letter.original")}</summary><pre tabindex="0">${pretty(letter.original.data)}</pre></details>`}
  </section>`;
}

function About({ letter }) {
  const { data, data_base64, ...envelope } = Object(letter.event);
  return html`<section class="card">
    <h2>${t("desk.about")}</h2>
    <${Facts} items=${[
      [t("letters.app"), letter.app],
      [t("letters.topic"), letter.topic],
      [t("letter.source"), letter.source],
      [t("letter.id"), html`<code>${letter.eventId}</code>`],
      [t("letter.times"), t("letter.died", { count: letter.times, ago: ago(letter.receivedAt) })],
      [t("letter.trace"), letter.traceId && html`<code>${letter.traceId}</code>`],
    ]} />
    ${letter.event && html`<details><summary>${t("letter.envelope")}</summary><pre tabindex="0">${pretty(envelope)}</pre></details>`}
  </section>`;
}

function History({ moves }) {
  return html`<section class="card">
    <h2>${t("letter.history")}</h2>
    ${moves.length === 0 && html`<p class="quiet">${t("letter.untouched")}</p>`}
    <ol class="moves">
      ${moves.map(
        (move) => html`<li key=${move.at + move.action}>
          <p class="row"><${Mark} status=${move.action === "replayed" ? move.outcome ?? "unanswered" : move.action} /><b>${move.by}</b><span class="quiet small">${time(move.at)}</span></p>
          ${move.reason && html`<p>${move.reason}</p>`}
          ${move.after && html`<details><summary>${t("letter.before-after")}</summary><div class="pair"><pre tabindex="0">${pretty(move.before)}</pre><pre tabindex="0">${pretty(move.after)}</pre></div></details>`}
        </li>`,
      )}
    </ol>
  </section>`;
}

words({
  en: {
    "letter.one": "A dead letter",
    "letter.data": "What the event says",
    "letter.problems": "This keeps it from being processed:",
    "letter.garbage": "This is no event, and can only be discarded.",
    "letter.replayed": "{app} has processed it.",
    "letter.save": "Save",
    "letter.save-and-replay": "Save and replay",
    "letter.saved": "Saved. What came is kept beside it.",
    "letter.original": "As it came",
    "letter.source": "Source",
    "letter.id": "Event",
    "letter.times": "Died",
    "letter.died": { one: "once, {ago}", other: "{count} times, last {ago}" },
    "letter.trace": "Trace",
    "letter.envelope": "Envelope",
    "letter.history": "Who did what",
    "letter.untouched": "Nobody has touched it yet.",
    "letter.before-after": "Before and after",
  },
  de: {
    "letter.one": "Ein unzustellbares Ereignis",
    "letter.data": "Was das Ereignis sagt",
    "letter.problems": "Deshalb wird es nicht verarbeitet:",
    "letter.garbage": "Das ist kein Ereignis; man kann es nur verwerfen.",
    "letter.replayed": "{app} hat es verarbeitet.",
    "letter.save": "Sichern",
    "letter.save-and-replay": "Sichern und zustellen",
    "letter.saved": "Gesichert. Was kam, bleibt daneben stehen.",
    "letter.original": "Wie es kam",
    "letter.source": "Quelle",
    "letter.id": "Ereignis",
    "letter.times": "Gestorben",
    "letter.died": { one: "einmal, {ago}", other: "{count}-mal, zuletzt {ago}" },
    "letter.trace": "Trace",
    "letter.envelope": "Umschlag",
    "letter.history": "Wer was getan hat",
    "letter.untouched": "Noch hat es niemand angefasst.",
    "letter.before-after": "Vorher und nachher",
  },
});
