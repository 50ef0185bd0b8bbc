// Why an order stands where it does: sentences, the one that matters first, each `{level, text, href}`.

import { ago, money, t, time } from "/web/shared/words.js";

export function why({ order, saga, payments, unsettled }) {
  return [...stopped(saga), ...waiting(order, unsettled), ...ended(order, payments), ...untold(order)];
}

function* stopped({ data }) {
  const open = (data?.incidents ?? []).find(({ stops, retriedAt }) => stops && !retriedAt);
  if (open) yield { level: "bad", text: t("ops.why.stopped", { step: t(`ops.step.${open.step}`), error: open.error }), href: `#/sagas/order-service/${data.id}` };
}

function* waiting(order, { data }) {
  for (const { kind, paymentId, orderId, provider, attempts, nextCheckAt } of data?.items ?? []) {
    const values = { provider: provider.toUpperCase(), count: attempts, in: ago(nextCheckAt) };
    if (orderId === order.id) yield { level: "warn", text: t(`ops.why.unknown-${kind}`, values), href: `#/money/${paymentId}` };
  }
}

function* ended({ status, payment, total }, { data }) {
  const values = { total: money(total), reason: data?.[0]?.reason ?? t("ops.why.no-reason") };
  if (status === "payment_failed") yield { level: "bad", text: t("ops.why.declined", values) };
  else if (status === "cancelled") yield { level: "", text: t(`ops.why.cancelled-${payment.status}`, values) };
  else if (status === "pending_payment") yield { level: "warn", text: t("ops.why.pending", values) };
  else yield { level: "good", text: t("ops.why.paid", { ...values, status: t(`ops.status.${status}`) }) };
}

function* untold({ notified }) {
  if (notified?.status === "failed") yield { level: "bad", text: t("ops.why.untold", { at: time(notified.at) }) };
}
