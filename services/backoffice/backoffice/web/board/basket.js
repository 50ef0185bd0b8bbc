// What one is about to order. It survives the way to the sign-in page and back; nothing about the person is kept.

import { useState } from "/web/vendor/preact.js";

const KEPT = "brewline-basket";
const ATTEMPT = "brewline-attempt";

/** `{lines, add(product, variation), change(line, by), clear()}`; a line is `{sku, name, variation, price, quantity}`. */
export function useBasket() {
  const [lines, setLines] = useState(read);
  const keep = (next) => {
    sessionStorage.setItem(KEPT, JSON.stringify(next));
    setLines(next);
  };
  const change = (line, by) =>
    keep(lines.map((one) => (same(one, line) ? { ...one, quantity: one.quantity + by } : one)).filter((one) => one.quantity > 0));
  const add = (product, variation) => {
    const line = { sku: product.sku, name: product.name, variation: variation.name, price: variation.price, quantity: 1 };
    if (lines.some((one) => same(one, line))) change(line, 1);
    else keep([...lines, line]);
  };
  return { lines, add, change, clear: () => keep([]) };
}

const same = (one, other) => one.sku === other.sku && one.variation === other.variation;

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT)) ?? [];
  } catch {
    return [];
  }
}

/** For people to see: what counts is the server's. In the smallest unit there is no rounding. */
export function totalOf(lines) {
  const cents = lines.reduce((sum, { price, quantity }) => sum + Math.round(Number(price.amount) * 10_000) * quantity, 0);
  return { amount: String(cents / 10_000), currency: lines[0]?.price.currency ?? "USD" };
}

/** The Idempotency-Key of this very order: the same again until its answer is known, also after a reload. */
export function keyFor(body) {
  const content = hash(JSON.stringify(body));
  const [kept, key] = (sessionStorage.getItem(ATTEMPT) ?? "").split(" ");
  if (kept === content && key) return key;
  const fresh = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  sessionStorage.setItem(ATTEMPT, `${content} ${fresh}`);
  return fresh;
}

export function forgetKey() {
  sessionStorage.removeItem(ATTEMPT);
}

/** FNV-1a: only to tell one order from the next, without keeping who it is for. */
function hash(text) {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  return (value >>> 0).toString(16);
}
