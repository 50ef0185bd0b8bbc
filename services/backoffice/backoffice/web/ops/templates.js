// Templates: every version, an editor with its preview beside it, and what is sent from now on.

import { html, useEffect, useState } from "/web/vendor/preact.js";
import { api } from "/web/shared/api.js";
import { Empty } from "/web/shared/states.js";
import { t, time, words } from "/web/shared/words.js";
import { address, AskFirst, asked, Back, Filters, Mark, parsedObject, pretty, Said, Table, useStep } from "/web/ops/desk.js";
import { Heading, Live, useLive } from "/web/ops/live.js";
import { Preview } from "/web/ops/template-preview.js";

const PAGE = "templates";
const PARTS = ["subject", "text", "html", "sms", "push"];
const templates = api("notification-service");

export default function Templates({ path, query, session }) {
  const [category, name, locale] = path;
  return locale ? html`<${Editor} key=${path.join("/")} category=${category} name=${name} locale=${locale} session=${session} />` : html`<${List} query=${query} />`;
}

async function everything(signal) {
  const found = [];
  for (let cursor; cursor !== null; ) {
    const page = await templates.get(`/templates${asked({ limit: 100, cursor })}`, { signal });
    found.push(...page.items);
    cursor = page.next;
  }
  return found;
}

/** One for each template in each language: its newest version, and the one that is sent. */
function grouped(versions) {
  const groups = new Map();
  for (const head of versions) {
    const key = [head.category, head.name, head.locale].join("/");
    const group = groups.get(key) ?? { ...head, key };
    const sent = ["published", "shipped"].includes(head.status) ? head : group.sent;
    groups.set(key, { ...group, newest: !group.newest || head.version > group.newest.version ? head : group.newest, sent });
  }
  return [...groups.values()];
}

function List({ query }) {
  const live = useLive(everything, [], 30_000);
  const columns = [
    { label: t("desk.template"), show: ({ category, name, locale }) => html`<a href=${address(PAGE, [category, name, locale])}><b>${name}</b></a><br /><span class="small quiet">${category}</span>` },
    { label: t("templates.locale"), show: ({ locale }) => locale },
    { label: t("templates.sent"), show: ({ sent }) => (sent ? html`<${Version} head=${sent} />` : "–") },
    { label: t("templates.newest"), show: ({ newest }) => html`<${Version} head=${newest} />` },
  ];
  return html`<div class="desk"><${Heading} title=${t("ops.templates")} live=${live} />
    <${Live} live=${live}>${(versions) => {
      const categories = [...new Set(versions.map(({ category }) => category))];
      const wanted = query.get("category");
      const shown = grouped(versions).filter(({ category }) => !wanted || category === wanted);
      const fields = [{ name: "category", label: t("templates.category"), options: [["", t("desk.any")], ...categories.map((one) => [one, one])] }];
      return html`<${Filters} page=${PAGE} query=${query} fields=${fields} />
        ${shown.length ? html`<${Table} caption=${t("ops.templates")} columns=${columns} rows=${shown} rowKey=${({ key }) => key} />` : html`<${Empty} title=${t("desk.nothing")} />`}`;
    }}<//></div>`;
}

function Version({ head }) {
  return html`<span class="row"><${Mark} status=${head.status} />${head.version > 0 && html`<span class="quiet">${t("templates.version", { version: head.version })}</span>`}</span>`;
}

function Editor({ category, name, locale, session }) {
  const at = `/templates/${category}/${name}`;
  const live = useLive(async (signal) => {
    const [template, versions] = await Promise.all([
      templates.get(`${at}${asked({ locale })}`, { signal }),
      templates.get(`${at}/versions${asked({ locale, limit: 50 })}`, { signal }),
    ]);
    return { template, versions: versions.items };
  }, [at, locale]);
  const admin = session.may("admin");
  return html`<div class="desk"><${Back} to=${address(PAGE, [], { category })}>${t("ops.templates")}<//>
    <${Heading} title=${`${name} · ${locale}`} live=${live}>${live.data && html`<${Version} head=${live.data.template} />`}<//>
    <${Live} live=${live}>${(data) => html`<${Work} ...${data} at=${at} locale=${locale} admin=${admin} reload=${live.reload} />`}<//></div>`;
}

function Work({ template, versions, at, locale, admin, reload }) {
  const [edit, setEdit] = useState(null); // {source, sample} once somebody types; the version that it stands on
  const step = useStep();
  const source = edit?.source ?? template.source;
  const sampleText = edit?.sample ?? pretty(template.sample);
  const sample = parsedObject(sampleText);
  const change = (changed) => setEdit((before) => ({ source, sample: sampleText, version: template.version, ...before, ...changed }));
  const save = async () => {
    const body = { locale, source, sample: sample.value, version: edit.version };
    if (await step.run(() => templates.put(at, { body }), t("templates.saved"))) setEdit(null);
    reload();
  };
  const publish = (version) => async () => {
    await step.run(() => templates.post(`${at}/publish`, { body: { locale, version } }), t("templates.published", { version }));
    reload();
  };
  const begin = (version) => step.run(async () => {
    const older = await templates.get(`${at}${asked({ locale, version: String(version) })}`);
    change({ source: older.source, sample: pretty(older.sample) });
  });
  return html`<div class="beside even">
    <section class="card" aria-label=${t("templates.words")}>
      ${PARTS.map((part) => html`<label class="field" key=${part}>
        <span class="label">${t(`templates.${part}`)}</span>
        ${part === "subject"
          ? html`<input class="code" name=${part} readonly=${!admin} spellcheck=${false} value=${source[part]} onInput=${(event) => change({ source: { ...source, [part]: event.currentTarget.value } })} />`
          : html`<textarea class=${`code ${part}`} name=${part} readonly=${!admin} spellcheck=${false} value=${source[part]} onInput=${(event) => change({ source: { ...source, [part]: event.currentTarget.value } })}></textarea>`}
      </label>`)}
      <label class="field">
        <span class="label">${t("templates.sample")}</span>
        <textarea class="code" name="sample" readonly=${!admin} spellcheck=${false} aria-invalid=${Boolean(sample.error)} aria-describedby="sample-error" value=${sampleText} onInput=${(event) => change({ sample: event.currentTarget.value })}></textarea>
        <span id="sample-error" class="field-error" role="status">${sample.error}</span>
      </label>
    </section>
    <div class="stack follows">
      ${!admin && html`<p class="notice">${t("ops.read-only")}</p>`}
      ${admin && html`<section class="card">
        <${Said} step=${step} inside="/source" />
        <div class="row">
          <button type="button" class="primary" disabled=${!edit || Boolean(sample.error) || step.busy} onClick=${save}>${t("templates.save")}</button>
          ${edit && html`<button type="button" class="plain" onClick=${() => setEdit(null)}>${t("desk.undo")}</button>`}
          ${!edit && template.status === "draft" && html`<${Publish} version=${template.version} disabled=${step.busy} onYes=${publish(template.version)} />`}
        </div>
      </section>`}
      <${Previewing} source=${source} sample=${sample.value} locale=${locale} stored=${admin ? null : at} />
      <${Versions} versions=${versions} shown=${edit ? null : template.version} admin=${admin} busy=${step.busy} publish=${publish} begin=${begin} />
    </div>
  </div>`;
}

function Publish({ version, disabled, onYes }) {
  return html`<${AskFirst} label=${t("templates.publish")} title=${t("templates.publish-this", { version })} text=${t("templates.publish-text")} danger=${false} disabled=${disabled} onYes=${onYes} />`;
}

/** Rendered by the service a moment after somebody has stopped typing. Who may not edit sees what is kept. */
function Previewing({ source, sample, locale, stored }) {
  const [state, setState] = useState({});
  const key = JSON.stringify([source, sample]);
  useEffect(() => {
    if (!sample) return undefined;
    const leaving = new AbortController();
    const body = stored ? { locale } : { source, sample, locale };
    const path = stored ? `${stored}/preview` : "/templates/preview";
    const timer = setTimeout(() => {
      templates.post(path, { body, signal: leaving.signal }).then(
        (preview) => setState({ preview }),
        (error) => { if (!leaving.signal.aborted) setState((before) => ({ ...before, error })); },
      );
    }, state.preview ? 400 : 0);
    return () => { clearTimeout(timer); leaving.abort(); };
  }, [key, locale]);
  return html`<${Preview} preview=${state.preview} error=${state.error} />`;
}

function Versions({ versions, shown, admin, busy, publish, begin }) {
  return html`<section class="card">
    <h2>${t("templates.versions")}</h2>
    <ol class="moves">${versions.map((head) => html`<li key=${head.version}>
      <div class="row spread">
        <span class="row"><b>${t("templates.version", { version: head.version })}</b><${Mark} status=${head.status} />${head.createdAt && html`<span class="quiet small">${head.author} · ${time(head.publishedAt ?? head.createdAt)}</span>`}</span>
        ${admin && head.version !== shown && html`<span class="row">
          <button type="button" class="plain" disabled=${busy} onClick=${() => begin(head.version)}>${t("templates.begin")}</button>
          ${head.status === "retired" && html`<${Publish} version=${head.version} disabled=${busy} onYes=${publish(head.version)} />`}
        </span>`}
      </div>
    </li>`)}</ol>
  </section>`;
}

words({
  en: {
    "templates.category": "Category",
    "templates.locale": "Language",
    "templates.sent": "Sent now",
    "templates.newest": "Newest",
    "templates.version": "Version {version}",
    "templates.words": "The template's words",
    "templates.subject": "Subject",
    "templates.text": "E-mail, plain",
    "templates.html": "E-mail, HTML",
    "templates.sms": "SMS",
    "templates.push": "Push",
    "templates.sample": "Sample: what the preview knows (JSON)",
    "templates.save": "Save as a draft",
    "templates.saved": "Saved as a draft. What is sent stays as it is until you publish it.",
    "templates.publish": "Publish",
    "templates.publish-this": "Publish version {version}?",
    "templates.publish-text": "It is sent from now on, to everybody.",
    "templates.published": "Version {version} is sent from now on.",
    "templates.versions": "Versions",
    "templates.begin": "Begin with it",
  },
  de: {
    "templates.category": "Gruppe",
    "templates.locale": "Sprache",
    "templates.sent": "Gesendet wird",
    "templates.newest": "Neueste",
    "templates.version": "Fassung {version}",
    "templates.words": "Die Worte der Vorlage",
    "templates.subject": "Betreff",
    "templates.text": "E-Mail, Text",
    "templates.html": "E-Mail, HTML",
    "templates.sms": "SMS",
    "templates.push": "Push",
    "templates.sample": "Beispiel: was die Vorschau weiß (JSON)",
    "templates.save": "Als Entwurf sichern",
    "templates.saved": "Als Entwurf gesichert. Gesendet wird wie bisher, bis Sie ihn veröffentlichen.",
    "templates.publish": "Veröffentlichen",
    "templates.publish-this": "Fassung {version} veröffentlichen?",
    "templates.publish-text": "Ab sofort wird sie gesendet, an alle.",
    "templates.published": "Ab sofort wird Fassung {version} gesendet.",
    "templates.versions": "Fassungen",
    "templates.begin": "Damit beginnen",
  },
});
