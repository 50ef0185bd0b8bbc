// Orders by the second, placed by this page with the person's own token, as a customer's page would.

import { api } from "/web/shared/api.js";
import { language } from "/web/shared/words.js";

const UNANSWERED = 100; // more are not sent meanwhile

/** Until `seconds` are over or `signal` is aborted, and all are answered. `onState({placed, refused: {why: times}, ms})`. */
export async function placeOrders({ rate, seconds, session, signal, onState }) {
  const orders = api("order-service");
  const { items } = await orders.get("/catalog", { signal });
  const state = { placed: 0, refused: {}, ms: [] };
  const open = new Set();
  const one = async () => {
    const began = performance.now();
    try {
      await orders.post("/orders", { body: order(items, session) });
      state.placed += 1;
    } catch (error) {
      const why = error.errorType ?? "no-answer";
      state.refused[why] = (state.refused[why] ?? 0) + 1;
    }
    state.ms.push(performance.now() - began);
    onState({ ...state });
  };
  const began = performance.now();
  for (let sent = 0; sent < rate * seconds && !signal.aborted; sent += 1) {
    await until(began + (sent * 1000) / rate, signal);
    if (signal.aborted || open.size >= UNANSWERED) continue;
    const placing = one().finally(() => open.delete(placing));
    open.add(placing);
  }
  await Promise.all(open);
}

function order(items, { subject }) {
  const { sku, variations } = any(items);
  return {
    customer: { id: subject.slice(0, 64), name: subject, email: "load@example.com", locale: language },
    items: [{ sku, variation: any(variations).name, quantity: 1 }],
    location: "take-away",
    payment: { method: "credit_card", token: "tok_ok" },
  };
}

const any = (list) => list[Math.floor(Math.random() * list.length)];

function until(at, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, Math.max(0, at - performance.now()));
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
