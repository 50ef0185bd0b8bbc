// All that is known of one order, from every service, in one order of time.

import { api } from "/web/shared/api.js";
import { money, t } from "/web/shared/words.js";

export const KINDS = ["step", "event", "money", "message", "log", "span"];

const TRACES = 12; // of one order: the request that placed it, and those that moved it since

/** `{order, saga, events, payments, unsettled, messages, traces}`: each but the order is `{data}`, or `{error}` where its
 *  service did not answer. Throws where the order can't be read. */
export async function read(id, signal) {
  const get = (service, path) => api(service).get(path, { signal });
  const order = await get("order-service", `/orders/${id}`);
  const [saga, events, payments, unsettled, messages] = await Promise.all([
    tried(get("order-service", `/sagas/${id}`)),
    tried(get("order-service", `/orders/${id}/events`)),
    tried(paymentsOf(id, get)),
    tried(get("payment-service", "/payments/unsettled?limit=100")),
    tried(messagesOf(id, get)),
  ]);
  const traces = await tried(tracesOf(saga.data, events.data, get));
  return { order, saga, events, payments, unsettled, messages, traces };
}

async function tried(asked) {
  try {
    return { data: await asked };
  } catch (error) {
    return { error };
  }
}

async function paymentsOf(id, get) {
  const { items } = await get("payment-service", `/payments?orderId=${id}`);
  return Promise.all(
    items.map(async (payment) => ({ ...payment, moves: (await get("payment-service", `/payments/${payment.id}/moves`)).items })),
  );
}

async function messagesOf(id, get) {
  const { items } = await get("notification-service", `/notifications?subjectId=${id}&pageSize=50`);
  return Promise.all(items.map(({ id: message }) => get("notification-service", `/notifications/${message}`)));
}

/** `{configured, found: [trace]}`: those that are kept of the order's. */
async function tracesOf(saga, events, get) {
  const ids = [...new Set([saga?.traceId, ...(events?.items ?? []).map(({ traceId }) => traceId)])].filter(Boolean);
  const found = [];
  for (const id of ids.slice(0, TRACES)) {
    try {
      found.push(await get("backoffice-service", `/traces/${id}`));
    } catch (error) {
      if (error.errorType === "traces-not-configured") return { configured: false, found: [] };
      if (error.errorType !== "trace-not-found") throw error;
    }
  }
  return { configured: true, found };
}

/** `[{at, kind, source, title, level, text, took, more}]`, oldest first: `at` in milliseconds, `took` in seconds; `more` is
 *  `{title, text}` for whoever wants to see it. */
export function told({ saga, events, payments, messages, traces }) {
  const entries = [
    ...(saga.data ? stepsOf(saga.data) : []),
    ...(events.data?.items ?? []).map(eventOf),
    ...(payments.data ?? []).flatMap(movesOf),
    ...(messages.data ?? []).flatMap(lettersOf),
    ...(traces.data?.found ?? []).flatMap(traceOf),
  ];
  return entries.sort((one, other) => one.at - other.at);
}

const STEP = { completed: "good", sent: "good", delivered: "good", unknown: "warn", failed: "bad" };

function stepsOf({ steps, incidents }) {
  const performed = steps.map(({ step, status, attempts, startedAt, durationMs, error }) => ({
    at: Date.parse(startedAt),
    kind: "step",
    source: "order-service",
    title: t(`ops.step.${step}`),
    level: STEP[status],
    word: t(`ops.stepped.${status}`),
    text: [error, attempts > 1 && t("ops.attempts", { count: attempts })].filter(Boolean).join(" · "),
    took: durationMs === null ? undefined : durationMs / 1000,
  }));
  const failed = incidents.map(({ step, error, at, stops, retriedAt, retriedBy }) => ({
    at: Date.parse(at),
    kind: "step",
    source: "order-service",
    title: t("ops.incident", { step: t(`ops.step.${step}`) }),
    level: "bad",
    word: t(stops ? "ops.incident.stops" : "ops.incident.goes-on"),
    text: [error, retriedAt && t("ops.incident.retried", { by: retriedBy })].filter(Boolean).join(" · "),
  }));
  return [...performed, ...failed];
}

function eventOf({ type, status, version, createdAt, publishedAt, attempts, error }) {
  return {
    at: Date.parse(createdAt),
    kind: "event",
    source: "order-service",
    title: type,
    level: publishedAt ? "" : error ? "bad" : "warn",
    word: publishedAt ? "" : t("ops.unpublished"),
    text: [t("ops.event", { status: t(`ops.status.${status}`), version }), error && `${error} (${attempts})`].filter(Boolean).join(" · "),
    took: publishedAt ? (Date.parse(publishedAt) - Date.parse(createdAt)) / 1000 : undefined,
  };
}

const PAID = { succeeded: "good", refunded: "good", partially_refunded: "good", processing: "warn", declined: "bad", failed: "bad" };

function movesOf({ provider, amount, createdAt, moves }) {
  const asked = {
    at: Date.parse(createdAt),
    kind: "money",
    source: "payment-service",
    title: t("ops.charge", { amount: money(amount), provider: provider.toUpperCase() }),
  };
  const moved = moves.map(({ refundId, toStatus, actor, reason, reference, at }) => ({
    at: Date.parse(at),
    kind: "money",
    source: "payment-service",
    title: t(refundId ? "ops.refund" : "ops.payment"),
    level: PAID[toStatus],
    word: t(`ops.paid.${toStatus}`),
    text: [reason, reference, t("ops.by", { actor })].filter(Boolean).join(" · "),
  }));
  return [asked, ...moved];
}

const SENT = { sent: "good", delivered: "good", failed: "bad", suppressed: "warn" };

function lettersOf({ channel, template, recipientId, status, subject, content, error, tries, createdAt, deliveredAt }) {
  const kind = "message";
  const source = "notification-service";
  const name = t(`ops.channel.${channel}`);
  return [
    {
      at: Date.parse(createdAt),
      kind,
      source,
      title: `${name}: ${subject || template}`,
      level: SENT[status] ?? "warn",
      word: t(`ops.message.${status}`),
      text: [t("ops.to", { recipient: recipientId }), error].filter(Boolean).join(" · "),
      more: content ? { title: t("ops.content"), text: content } : undefined,
    },
    ...tries.map(({ channel: by, provider, outcome, error: why, endedAt }) => ({
      at: Date.parse(endedAt),
      kind,
      source,
      title: t("ops.try", { channel: t(`ops.channel.${by}`), provider }),
      level: why ? "bad" : "",
      text: [outcome, why].filter(Boolean).join(" · "),
    })),
    ...(deliveredAt ? [{ at: Date.parse(deliveredAt), kind, source, title: t("ops.arrived", { channel: name }), level: "good" }] : []),
  ];
}

/** A trace is `{spans: [{service, name, start, durationMs, status, attributes}], logs: [{service, at, level, name, attributes}]}`. */
function traceOf({ spans, logs }) {
  const done = spans.map(({ service, name, start, durationMs, status, attributes }) => ({
    at: Date.parse(start),
    kind: "span",
    source: Object.keys(attributes).some((name) => name.startsWith(OF_DAPR)) ? t("ops.of-sidecar", { service }) : service,
    title: name,
    level: status === "error" ? "bad" : "",
    took: durationMs / 1000,
    more: fieldsOf(attributes),
  }));
  const said = logs.map(({ service, at, level, name, attributes }) => ({
    at: Date.parse(at),
    kind: "log",
    source: service,
    title: name,
    level: LOUD[level?.toLowerCase()] ?? "",
    text: brief(attributes),
    more: fieldsOf(attributes),
  }));
  return [...done, ...said];
}

const OF_DAPR = "dapr."; // what only a sidecar says
const LOUD = { warn: "warn", warning: "warn", error: "bad", critical: "bad", fatal: "bad" };

function fieldsOf(attributes) {
  const fields = Object.entries(attributes);
  if (!fields.length) return undefined;
  const plain = (value) => (typeof value === "object" ? JSON.stringify(value) : value);
  return { title: t("ops.fields"), text: fields.map(([name, value]) => `${name}: ${plain(value)}`).join("\n") };
}

const SHORT = 40; // characters of a field that is read at once
const FEW = 4; // of them
const OF_NO_WORD = /^[0-9a-f-]{32,36}$|^\d{4}-\d\d-\d\dT/; // ids and times

function brief(attributes) {
  const telling = Object.entries(attributes).filter(([, value]) => String(value).length <= SHORT && !OF_NO_WORD.test(value));
  return telling.slice(0, FEW).map(([name, value]) => `${name}: ${value}`).join(" · ");
}
