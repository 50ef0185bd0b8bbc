// "Map": who called whom and whose events were heard, drawn from the spans; the table beside it says the same.

import { html } from "/web/vendor/preact.js";
import { api } from "/web/shared/api.js";
import { Empty } from "/web/shared/states.js";
import { duration, number, t, words } from "/web/shared/words.js";
import { Filters, Table } from "/web/ops/desk.js";
import { Heading, Live, useLive } from "/web/ops/live.js";
import { drawn } from "/web/ops/map-layout.js";
import { Mark } from "/web/ops/parts.js";

const USUAL = "15";
const MINUTES = ["5", USUAL, "60", "1440"];
const NO_MAP = new Set(["traces-not-configured", "no-map"]); // an answer, and no failure
const WIDE = 900; // what is wider can be scrolled, rather than too small to be read
const MANY = 0.05; // of the calls: then errors are no accident any more

export default function ServiceMap({ query }) {
  const minutes = query.get("minutes") ?? USUAL;
  const live = useLive((signal) => look(minutes, signal), [minutes]);
  const options = MINUTES.map((value) => [value, timeOf(value)]);
  return html`<div class="desk">
    <${Heading} title=${t("ops.map")} live=${live} />
    ${!live.data?.without && html`<${Filters} page="map" query=${query} fields=${[{ name: "minutes", label: t("map.since"), options, fallback: USUAL }]} />`}
    <${Live} live=${live}>${(found) => html`<${Found} ...${found} />`}<//>
  </div>`;
}

/** "15 minutes", "1 hour". */
function timeOf(minutes) {
  const [value, unit] = minutes < 60 ? [minutes, "minute"] : [minutes / 60, "hour"];
  return number(value, { style: "unit", unit, unitDisplay: "long" });
}

/** `{edges}`, or `{without}`: why there is no map. */
async function look(minutes, signal) {
  try {
    return await api("backoffice-service").get(`/traces/map?minutes=${encodeURIComponent(minutes)}`, { signal });
  } catch (error) {
    if (!NO_MAP.has(error.errorType)) throw error;
    return { without: error.errorType };
  }
}

function Found({ edges, without }) {
  if (without) return html`<${Empty} title=${t(`map.${without}`)} text=${t(`map.${without}.text`)} />`;
  if (!edges.length) return html`<${Empty} title=${t("map.empty")} text=${t("map.empty.text")} />`;
  return html`<div class="stack"><${Picture} edges=${edges} /><${Calls} edges=${edges} /></div>`;
}

const keyOf = ({ caller, callee, kind }) => `${caller} ${callee} ${kind}`;

const share = ({ errors, count }) => errors / count;

function level(edge) {
  return share(edge) >= MANY ? "bad" : edge.errors ? "warn" : "";
}

const percent = (edge) => number(share(edge), { style: "percent", maximumFractionDigits: share(edge) < 0.01 ? 1 : 0 });

function Picture({ edges }) {
  const { width, height, nodes, lines } = drawn(edges);
  return html`<section class="card map" aria-label=${t("map.picture")}>
    <div class="map-scroll" tabindex="0" role="group" aria-label=${t("map.picture")}>
      <svg class=${width > WIDE ? "wide" : ""} width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} role="img" aria-label=${t("map.drawn", { count: nodes.length })}>
        ${lines.map(({ edge, path, tip, stroke }) => html`<g key=${keyOf(edge)} class=${`line ${edge.kind} ${level(edge)}`}>
          <path class="way" d=${path} stroke-width=${stroke} />
          <path class="tip" d=${tip} />
        </g>`)}
        ${nodes.map(({ name, ours, x, y, wide, high, heard, asked }) => html`<g key=${name} class=${`node ${ours ? "ours" : ""}`}>
          <rect x=${x - wide / 2} y=${y - high / 2} width=${wide} height=${high} rx="10" />
          <text x=${x} y=${y - 4} class="name">${short(name)}</text>
          <text x=${x} y=${y + 15}>${t("map.in-out", { in: number(heard), out: number(asked) })}</text>
        </g>`)}
        ${lines.map(({ edge, said }) => html`<text key=${keyOf(edge)} x=${said.x} y=${said.y} class=${`said ${level(edge)}`}>
          ${number(edge.count)} · ${duration(edge.p50Ms / 1000)}${edge.errors > 0 && html`<tspan class="errors" x=${said.x} dy="1.2em">${t("map.failed", { share: percent(edge) })}</tspan>`}
        </text>`)}
      </svg>
    </div>
    <p class="small quiet legend">${t("map.legend")}</p>
  </section>`;
}

const LONGEST = 19; // characters that have room in a frame; the table has them all

function short(name) {
  const own = name.replace(/-service$/, "");
  return own.length > LONGEST ? `${own.slice(0, LONGEST - 1)}…` : own;
}

function Calls({ edges }) {
  const columns = [
    { label: t("map.caller"), show: ({ caller }) => html`<b>${caller}</b>` },
    { label: t("map.callee"), show: ({ callee }) => html`<b>${callee}</b>` },
    { label: t("map.kind"), show: ({ kind }) => t(`map.${kind}`) },
    { label: t("map.count"), kind: "number", show: ({ count }) => number(count) },
    { label: "p50", kind: "number", show: ({ p50Ms }) => duration(p50Ms / 1000) },
    { label: "p95", kind: "number", show: ({ p95Ms }) => duration(p95Ms / 1000) },
    { label: t("map.errors"), kind: "number", show: (edge) => (edge.errors ? html`${number(edge.errors)} <${Mark} level=${level(edge)}>${percent(edge)}<//>` : "–") },
  ];
  const worst = [...edges].sort((one, other) => share(other) - share(one) || other.count - one.count);
  return html`<${Table} caption=${t("map.table")} columns=${columns} rows=${worst} rowKey=${keyOf} />`;
}

words({
  en: {
    "map.since": "Of the last",
    "map.picture": "Services and the ways between them",
    "map.drawn": { one: "{count} service, as the table below has it", other: "{count} services, as the table below has them" },
    "map.in-out": "{in} in · {out} out",
    "map.failed": "{share} failed",
    "map.legend": "On each way: how many, and the median time. A whole line is a call, a broken one an event that was heard, with the time that its handling took. What has a broken frame is not ours.",
    "map.table": "Who called whom, and whose events were heard; what fails comes first",
    "map.caller": "From",
    "map.callee": "To",
    "map.kind": "What",
    "map.call": "call",
    "map.event": "event",
    "map.count": "Count",
    "map.errors": "Failed",
    "map.traces-not-configured": "No store of traces is configured",
    "map.traces-not-configured.text": "The map is drawn from traces. The setting BACKOFFICE_TRACES names where they are kept; “brewline up” starts a store of its own.",
    "map.no-map": "This store of traces draws no map",
    "map.no-map.text": "Tempo answers for one trace at a time. A single order's trace is on the order's page.",
    "map.empty": "Nobody has called anybody",
    "map.empty.text": "No call was traced in this time. Place an order, or look further back.",
  },
  de: {
    "map.since": "Aus den letzten",
    "map.picture": "Dienste und die Wege zwischen ihnen",
    "map.drawn": { one: "{count} Dienst, wie in der Tabelle darunter", other: "{count} Dienste, wie in der Tabelle darunter" },
    "map.in-out": "{in} ein · {out} aus",
    "map.failed": "{share} gescheitert",
    "map.legend": "An jedem Weg: wie oft, und die mittlere Zeit (Median). Eine ganze Linie ist ein Aufruf, eine gestrichelte ein Ereignis, das gehört wurde, mit der Zeit seiner Behandlung. Was gestrichelt umrandet ist, gehört nicht zu uns.",
    "map.table": "Wer wen aufrief, und wessen Ereignisse gehört wurden; was scheitert, kommt zuerst",
    "map.caller": "Von",
    "map.callee": "Nach",
    "map.kind": "Was",
    "map.call": "Aufruf",
    "map.event": "Ereignis",
    "map.count": "Anzahl",
    "map.errors": "Gescheitert",
    "map.traces-not-configured": "Kein Trace-Speicher ist eingerichtet",
    "map.traces-not-configured.text": "Die Karte wird aus Traces gezeichnet. Die Einstellung BACKOFFICE_TRACES nennt, wo sie liegen; „brewline up“ startet einen eigenen Speicher.",
    "map.no-map": "Dieser Trace-Speicher zeichnet keine Karte",
    "map.no-map.text": "Tempo antwortet nur auf einzelne Traces. Der einer Bestellung steht auf ihrer Seite.",
    "map.empty": "Niemand hat jemanden aufgerufen",
    "map.empty.text": "In dieser Zeit wurde kein Aufruf verzeichnet. Bestellen Sie etwas, oder sehen Sie weiter zurück.",
  },
});
