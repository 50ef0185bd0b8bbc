// An order is sent until its answer is known: each time the same one, by its key.

import { keyFor, forgetKey } from "/web/board/basket.js";
import { orders } from "/web/board/orders.js";

const PAUSES_MS = [500, 1000, 2000, 4000];
const UNSURE = [408, 429, 500, 502, 503, 504];

/** The order. Throws ProblemError, or TypeError where nobody answered in the end. `onTrying` is called before each repetition. */
export async function place(body, onTrying) {
  const key = keyFor(body);
  for (let attempt = 0; ; attempt++) {
    try {
      const order = await orders.post("/orders", { body, headers: { "Idempotency-Key": key } });
      forgetKey();
      return order;
    } catch (error) {
      const again = error instanceof TypeError || UNSURE.includes(error.status) || error.errorType === "idempotency-in-flight";
      if (!again) {
        forgetKey(); // it was refused: what is ordered next is another one
        throw error;
      }
      if (attempt === PAUSES_MS.length) throw error;
      onTrying();
      await new Promise((resolve) => setTimeout(resolve, Math.max(PAUSES_MS[attempt], 1000 * (error.retryAfter ?? 0))));
    }
  }
}

/** Which field of the form a refusal is about: `{field: message}`. */
export function fieldsOf(error) {
  const fields = {};
  for (const { pointer = "", detail, message } of error.errors ?? []) {
    const [, part, name] = pointer.replace(/^#/, "").split("/");
    const field = part === "customer" ? name : part === "payment" ? "card" : part;
    if (field) fields[field] = detail ?? message;
  }
  return fields;
}
