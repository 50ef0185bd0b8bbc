// What the page "Now" asks of every service, each answer on its own: this page is looked at when something is broken.

import { api } from "/web/shared/api.js";

export const services = [
  "order-service",
  "payment-service",
  "notification-service",
  "datasource-service",
  "backoffice-service",
];

const PATIENCE = 4000; // milliseconds: what takes longer does not answer
const ADMIN = new Set(["dead-letters", "quarantine"]);

const SOURCES = {
  metrics: ["order-service", "/metrics/now"],
  unsettled: ["payment-service", "/payments/unsettled?limit=50"],
  stopped: ["order-service", "/sagas?status=compensation_failed&limit=20"],
  untold: ["notification-service", "/sagas?status=failed&limit=20"],
  syncs: ["datasource-service", "/sync/logs?limit=20"],
  "dead-letters": ["notification-service", "/dead-letters?status=waiting"],
  quarantine: ["datasource-service", "/sync/quarantine?limit=20"],
};

/** `{services: {name: {health, ops, recurring}}, metrics, unsettled, …}`: each is `{data}`, or `{error}`; a source that
 * asks for another role than this person has is `{denied: true}`. */
export async function lookAtAll(session, signal) {
  const admin = session.may("admin");
  const about = services.map(async (name) => [name, await lookAt(name, admin, signal)]);
  const others = Object.entries(SOURCES).map(async ([name, [service, path]]) => [
    name,
    ADMIN.has(name) && !admin ? { denied: true } : await ask(service, path, signal),
  ]);
  return {
    services: Object.fromEntries(await Promise.all(about)),
    ...Object.fromEntries(await Promise.all(others)),
  };
}

async function lookAt(name, admin, signal) {
  const [health, ops, recurring] = await Promise.all([
    ask(name, "/health", signal),
    ask(name, "/ops", signal),
    admin ? ask(name, "/recurring", signal) : { denied: true },
  ]);
  return { health: told(health), ops, recurring };
}

/** An unhealthy service says so by a problem that tells of its checks. */
function told(health) {
  const problem = health.error;
  return problem?.errorType === "unhealthy"
    ? { data: { status: problem.health, checks: problem.checks ?? {} } }
    : health;
}

async function ask(service, path, signal) {
  try {
    const patient = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]);
    return { data: await api(service).get(path, { signal: patient }) };
  } catch (error) {
    return error.status === 403 ? { denied: true } : { error };
  }
}

/** The newest log of each entity that has ended. */
export function lastOfEach(logs) {
  const last = new Map();
  for (const log of logs) if (log.endTime && !last.has(log.entityType)) last.set(log.entityType, log);
  return [...last.values()];
}
