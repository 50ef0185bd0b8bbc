// "Now": what is wrong, first; then how each service is, and what is under way.

import { html } from "/web/vendor/preact.js";
import { ago, duration, money, t, time } from "/web/shared/words.js";
import { Heading, Live, useLive } from "/web/ops/live.js";
import { Mark, Part, Rows } from "/web/ops/parts.js";
import { lastOfEach, lookAtAll } from "/web/ops/sources.js";
import { whatIsWrong } from "/web/ops/wrong.js";
import "/web/ops/now-words.js";

export default function Now({ session }) {
  const live = useLive((signal) => lookAtAll(session, signal));
  return html`
    <${Heading} title=${t("ops.now")} live=${live} />
    <${Live} live=${live}>${(found) => html`<${Found} found=${found} />`}<//>
  `;
}

function Found({ found }) {
  const services = Object.entries(found.services);
  return html`<div class="stack">
    <${Wrong} wrong=${whatIsWrong(found)} />
    <section class="services" aria-label=${t("ops.services")}>
      ${services.map(([name, known]) => html`<${Service} key=${name} name=${name} ...${known} />`)}
    </section>
    <div class="parts">
      <${Orders} metrics=${found.metrics} />
      <${Unsettled} unsettled=${found.unsettled} />
      <${Events} services=${services} />
      <${Breakers} services=${services} />
      <${Recurring} services=${services} />
      <${Syncs} syncs=${found.syncs} quarantine=${found.quarantine} />
    </div>
  </div>`;
}

function Wrong({ wrong }) {
  const level = wrong.length === 0 ? "good" : wrong.some(({ bad }) => bad) ? "bad" : "warn";
  return html`<section class=${`card wrong ${level}`} aria-labelledby="wrong" aria-live="polite">
    <h2 id="wrong">${wrong.length ? t("ops.wrong", { count: wrong.length }) : t("ops.all-well")}</h2>
    ${wrong.length > 0 &&
    html`<ul>
      ${wrong.map(
        ({ bad, text, href }) => html`<li key=${text}>
          <${Mark} level=${bad ? "bad" : "warn"}>${t(bad ? "ops.act" : "ops.watch")}<//>
          ${href ? html`<a href=${href}>${text}</a>` : html`<span>${text}</span>`}
        </li>`,
      )}
    </ul>`}
  </section>`;
}

const HEALTH = { Healthy: "good", Degraded: "warn", Unhealthy: "bad", silent: "bad" };

function Service({ name, health, ops }) {
  const status = health.data?.status ?? "silent";
  const app = ops.data?.app;
  const sidecar = ops.data?.sidecar;
  return html`<article class="card service">
    <h2><span>${name}</span> <${Mark} level=${HEALTH[status]}>${t(`ops.health.${status}`)}<//></h2>
    ${app &&
    html`<dl>
      <dt>${t("ops.app")}</dt>
      <dd>${t("ops.version-port", app)} <small>${t("ops.up", { ago: ago(app.startedAt) })}</small></dd>
      <dt>${t("ops.sidecar")}</dt>
      <dd>
        ${sidecar
          ? html`${t("ops.version-port", sidecar)} <small>${t("ops.components", { count: sidecar.components.length })}</small>`
          : html`<${Mark} level="bad">${t("ops.health.silent")}<//>`}
      </dd>
    </dl>`}
    <ul class="checks">
      ${Object.entries(health.data?.checks ?? {}).map(
        ([check, { status, latencyMs }]) => html`<li key=${check}>
          <${Mark} level=${HEALTH[status]}>${check} ${status === "Healthy" ? duration(latencyMs / 1000) : t("ops.down")}<//>
        </li>`,
      )}
    </ul>
  </article>`;
}

function Orders({ metrics }) {
  const { minutes = [], steps = [] } = metrics.data ?? {};
  const total = minutes.reduce((sum, { orders }) => sum + orders, 0);
  return html`<${Part} name="minutes" of=${metrics} empty=${total === 0}>
    <${Bars} minutes=${minutes} total=${total} />
    <table>
      <thead>
        <tr>
          <th scope="col">${t("ops.step")}</th>
          <th scope="col" class="number">${t("ops.count")}</th>
          <th scope="col" class="number">p50</th>
          <th scope="col" class="number">p99</th>
        </tr>
      </thead>
      <tbody>
        ${steps.map(
          ({ step, count, p50Ms, p99Ms }) => html`<tr key=${step}>
            <th scope="row">${t(`ops.step.${step}`)}</th>
            <td class="number">${count}</td>
            <td class="number">${duration(p50Ms / 1000)}</td>
            <td class="number">${duration(p99Ms / 1000)}</td>
          </tr>`,
        )}
      </tbody>
    </table>
  <//>`;
}

const HIGH = 40; // of the bars' picture, in its own units

function Bars({ minutes, total }) {
  const most = Math.max(...minutes.map(({ orders }) => orders));
  return html`
    <p><strong class="figure">${minutes.at(-2).orders}</strong> ${t("ops.last-minute", { total, count: minutes.length })}</p>
    <svg class="bars" viewBox=${`0 0 ${minutes.length * 10} ${HIGH}`} preserveAspectRatio="none" aria-hidden="true">
      ${minutes.map(({ orders }, place) => {
        const height = Math.max((orders / most) * HIGH, 1);
        return html`<rect key=${place} x=${place * 10 + 1} y=${HIGH - height} width="8" height=${height} />`;
      })}
    </svg>
  `;
}

function Unsettled({ unsettled }) {
  const row = (one) => html`<li key=${one.id}>
    <a href=${`#/orders/${one.orderId}`}>${t(`ops.kind.${one.kind}`)} ${money(one.amount)}</a>
    <span class="quiet">${t("ops.asked", { provider: one.provider.toUpperCase(), count: one.attempts })}</span>
    <small>${t("ops.next-check", { ago: ago(one.since), at: time(one.nextCheckAt), in: ago(one.nextCheckAt) })}</small>
  </li>`;
  return html`<${Part} name="unsettled" of=${unsettled}><${Rows} of=${unsettled.data?.items} row=${row} none="unsettled" /><//>`;
}

function Events({ services }) {
  const known = services.filter(([, { ops }]) => ops.data);
  return html`<${Part} name="events" empty=${!known.length}>
    <table>
      <thead>
        <tr>
          <th scope="col">${t("ops.service")}</th>
          <th scope="col" class="number">${t("ops.waiting")}</th>
          <th scope="col">${t("ops.heard")}</th>
        </tr>
      </thead>
      <tbody>
        ${known.map(
          ([name, { ops }]) => html`<tr key=${name}>
            <th scope="row">${name}</th>
            <td class="number"><${Outbox} outbox=${ops.data.outbox} /></td>
            <td><${Heard} handled=${ops.data.handled} /></td>
          </tr>`,
        )}
      </tbody>
    </table>
  <//>`;
}

function Outbox({ outbox }) {
  if (!outbox) return "–";
  return outbox.waiting ? html`${outbox.waiting} <small>${duration(outbox.oldestSeconds)}</small>` : 0;
}

function Heard({ handled }) {
  if (!handled.length) return html`<small>${t("ops.heard.none")}</small>`;
  return html`<ul class="heard">
    ${handled.map(
      ({ topic, at, ageSeconds }) => html`<li key=${topic}>
        ${topic} <b>${ageSeconds === null ? "?" : duration(ageSeconds)}</b> <small>${ago(at)}</small>
      </li>`,
    )}
  </ul>`;
}

const BREAKER = { closed: "good", "half-open": "warn", open: "bad" };

function Breakers({ services }) {
  const found = services.flatMap(([service, { ops }]) =>
    (ops.data?.sidecar?.breakers ?? []).map((breaker) => ({ service, ...breaker })),
  );
  const row = ({ service, target, state }) => html`<li key=${service + target}>
    <span>${service} → ${target}</span> <${Mark} level=${BREAKER[state]}>${t(`ops.breaker.${state}`)}<//>
  </li>`;
  const closed = found.filter(({ state }) => state === "closed");
  return html`<${Part} name="breakers" empty=${!found.length}>
    <ul class="rows">${found.filter(({ state }) => state !== "closed").map(row)}</ul>
    ${closed.length > 0 &&
    html`<details>
      <summary>${t("ops.breakers.closed", { count: closed.length })}</summary>
      <ul class="rows">${closed.map(row)}</ul>
    </details>`}
  <//>`;
}

const RUN = { completed: "good", running: "info", postponed: "warn", interrupted: "warn", failed: "bad" };

function Recurring({ services }) {
  const denied = services.every(([, { recurring }]) => recurring.denied);
  const works = services.flatMap(([service, { recurring }]) =>
    (recurring.data?.items ?? []).map((work) => ({ service, ...work })),
  );
  const row = ({ service, name, schedule, paused, runs: [last] }) => {
    const status = paused ? "paused" : (last?.status ?? "never");
    return html`<li key=${service + name}>
      <span>${name}</span> <${Mark} level=${RUN[status]}>${t(`ops.run.${status}`)}<//>
      <small>${[service, schedule, last && ago(last.startedAt), last?.error].filter(Boolean).join(" · ")}</small>
    </li>`;
  };
  return html`<${Part} name="recurring" of=${{ denied }}><${Rows} of=${works} row=${row} none="recurring" /><//>`;
}

const SYNC = { Success: "good", NoData: "good", PartialSuccess: "warn", Failed: "bad" };

function Syncs({ syncs, quarantine }) {
  const kept = quarantine.data?.items.length;
  const row = ({ entityType, status, startTime, recordCount, errorCount }) => html`<li key=${entityType}>
    <span>${t(`ops.entity.${entityType}`)}</span> <${Mark} level=${SYNC[status]}>${t(`ops.sync.${status}`)}<//>
    <small>${t("ops.rows", { count: recordCount, errors: errorCount })} · ${ago(startTime)}</small>
  </li>`;
  return html`<${Part} name="syncs" of=${syncs}>
    <${Rows} of=${lastOfEach(syncs.data?.items ?? [])} row=${row} none="syncs" />
    ${kept !== undefined && html`<p>${t("ops.quarantine", { count: kept, many: quarantine.data.next ? `${kept}+` : kept })}</p>`}
  <//>`;
}
