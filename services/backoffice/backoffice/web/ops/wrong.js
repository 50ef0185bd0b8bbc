// What is wrong, worst first, of what `sources.js` has found: `[{bad, text, href}]`, `bad` where somebody must act and
// not only watch.

import { t } from "/web/shared/words.js";
import { lastOfEach } from "/web/ops/sources.js";

const WAITS = 10; // seconds that an event may wait to be published, or may be old when it is handled
const UNKNOWN = 60; // seconds that a payment may be unknown before anybody need hear of it
const DAY = 86_400; // seconds after which a person settles it
const FRESH = 300; // seconds: an event that was handled before that says nothing of now

export function whatIsWrong(found, now = Date.now()) {
  const wrong = [...aboutServices(found.services, now), ...aboutWork(found, now)];
  return wrong.sort((one, other) => other.bad - one.bad);
}

function* aboutServices(services, now) {
  for (const [service, { health, ops, recurring }] of Object.entries(services)) {
    if (health.error && ops.error) {
      yield { bad: true, text: t("ops.wrong.silent", { service }) };
      continue;
    }
    yield* aboutHealth(service, health.data);
    if (ops.data) yield* aboutProcess(service, ops.data, now);
    yield* aboutRecurring(service, recurring.data);
  }
}

function* aboutHealth(service, health) {
  if (!health || health.status === "Healthy") return;
  const checks = Object.entries(health.checks ?? {})
    .filter(([, check]) => check.status !== "Healthy")
    .map(([name]) => name)
    .join(", ");
  yield { bad: health.status === "Unhealthy", text: t("ops.wrong.health", { service, checks, status: t(`ops.health.${health.status}`) }) };
}

function* aboutProcess(service, { sidecar, outbox, handled }, now) {
  if (!sidecar) yield { bad: true, text: t("ops.wrong.sidecar", { service }) };
  for (const { target, state } of sidecar?.breakers ?? []) {
    if (state !== "closed") yield { bad: state === "open", text: t(`ops.wrong.breaker-${state}`, { service, target }) };
  }
  if (outbox && outbox.oldestSeconds > WAITS) {
    const seconds = Math.round(outbox.oldestSeconds);
    yield { bad: seconds > UNKNOWN, text: t("ops.wrong.outbox", { service, waiting: outbox.waiting, seconds }) };
  }
  for (const { topic, at, ageSeconds } of handled) {
    if (ageSeconds > WAITS && now - Date.parse(at) < FRESH * 1000)
      yield { bad: false, text: t("ops.wrong.lag", { service, topic, seconds: Math.round(ageSeconds) }) };
  }
}

function* aboutRecurring(service, recurring) {
  for (const { name, runs } of recurring?.items ?? []) {
    const ended = runs.find(({ status }) => status !== "running");
    if (ended && ended.status !== "completed")
      yield { bad: ended.status === "failed", text: t("ops.wrong.recurring", { service, name, status: t(`ops.run.${ended.status}`) }) };
  }
}

function* aboutWork(found, now) {
  for (const { orderId, since, kind } of found.unsettled.data?.items ?? []) {
    const seconds = (now - Date.parse(since)) / 1000;
    if (seconds > UNKNOWN)
      yield { bad: seconds > DAY, text: t(`ops.wrong.unknown-${kind}`, { order: orderId.slice(-8) }), href: `#/orders/${orderId}` };
  }
  yield* counted(found.stopped, "ops.wrong.stopped", "#/sagas", true);
  yield* counted(found.untold, "ops.wrong.untold", "#/sagas", true);
  yield* counted(found["dead-letters"], "ops.wrong.dead-letters", "#/dead-letters", false);
  yield* counted(found.quarantine, "ops.wrong.quarantine", undefined, false);
  for (const { entityType, status } of lastOfEach(found.syncs.data?.items ?? [])) {
    if (["Failed", "PartialSuccess"].includes(status))
      yield { bad: status === "Failed", text: t("ops.wrong.sync", { entity: t(`ops.entity.${entityType}`), status: t(`ops.sync.${status}`) }) };
  }
}

function* counted({ data }, key, href, bad) {
  const count = data?.items.length ?? 0;
  if (count) yield { bad, text: t(key, { count, many: data.next ? `${count}+` : count }), href };
}
