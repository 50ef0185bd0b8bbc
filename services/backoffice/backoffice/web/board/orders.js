// The orders that one may see, as they stand: read once, then live. An older word never overtakes a newer one.

import { useEffect, useMemo, useState } from "/web/vendor/preact.js";
import { api } from "/web/shared/api.js";
import { follow } from "/web/shared/stream.js";
import { t } from "/web/shared/words.js";

export const orders = api("order-service");

/** What people call it by: its id's end. */
export const codeOf = (order) => `#${order.id.slice(-4).toUpperCase()}`;

const SAID_LAST = 30_000;

/** `{all, state, error, put, retry}` of what `queries` find: `all` newest first, undefined before the first answer; `state` is the
 *  stream's. With every new connection all is read again: what came in between may have been told to nobody. `onNew` is
 *  called for an order that wasn't here before; `only` is the one order that matters. */
export function useOrders(queries, { onNew, only } = {}) {
  const [known, setKnown] = useState(null);
  const [state, setState] = useState("connecting");
  const [error, setError] = useState(null);
  const [round, setRound] = useState(0);
  const put = (...found) => setKnown((before) => merged(before ?? new Map(), found));

  useEffect(() => {
    const leaving = new AbortController();
    const { signal } = leaving;
    const seen = new Set();

    const readAll = async () => {
      try {
        const pages = await Promise.all(queries.map((query) => orders.get(`/orders?${query}`, { signal })));
        const found = pages.flatMap((page) => page.items);
        for (const order of found) seen.add(order.id);
        put(...found);
        setError(null);
      } catch (problem) {
        if (!signal.aborted) setError(problem);
      }
    };
    const readOne = async ({ orderId, status }) => {
      try {
        const order = await orders.get(`/orders/${orderId}`, { signal });
        if (!seen.has(orderId) && status === "confirmed") onNew?.(order);
        seen.add(orderId);
        put(order);
      } catch {
        // Erased meanwhile, or the line is gone: then the next connection reads all.
      }
    };
    follow("order-service", "/orders/stream", {
      signal,
      onEvent: ({ data }) => { if (!only || only === data.orderId) readOne(data); },
      onState: (now, problem) => {
        setState(now);
        if (now === "live") readAll();
        if (problem) setError(problem);
      },
    });
    // A server that is away from the start is said to be: the stream only tries again.
    readAll();
    return () => leaving.abort();
  }, [round]);

  const all = useMemo(() => known && [...known.values()].sort((a, b) => (a.id < b.id ? 1 : -1)), [known]);
  return { all, state, error, put, retry: () => { setError(null); setRound(round + 1); } };
}

function merged(before, found) {
  const after = new Map(before);
  for (const order of found) {
    if (!(after.get(order.id)?.version > order.version)) after.set(order.id, order);
  }
  return after;
}

/** Now, again every half minute: for whatever says how long ago something was. */
export function useClock() {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), SAID_LAST);
    return () => clearInterval(timer);
  }, []);
  return now;
}

export const statusWords = (status) => t(`status.${status}`);
