// Server-sent events by fetch, for EventSource can't send a header, and a token in a URL ends up in logs.

import { authorized } from "/web/shared/api.js";
import { problemOf } from "/web/shared/problem.js";

const FIRST_MS = 500;
const LONGEST_MS = 15_000;
const SILENT_MS = 40_000; // the server says something every 15 s; a line that is silent for longer is dead

/** Follows a stream until `signal` is aborted: `onEvent({id, event, data})`, with `data` parsed; `onState("connecting" |
 *  "live" | "waiting" | "refused", problem?)`. What came while it was away is replayed from `lastEventId` on. */
export async function follow(service, path, { onEvent, onState = () => {}, signal, lastEventId } = {}) {
  let pause = FIRST_MS;
  while (!signal?.aborted) {
    onState("connecting");
    const line = new AbortController();
    const end = () => line.abort();
    signal?.addEventListener("abort", end);
    try {
      const headers = { Accept: "text/event-stream", ...(lastEventId && { "Last-Event-ID": lastEventId }) };
      const answer = await authorized(service, path, { headers, signal: line.signal });
      if (!answer.ok) {
        const problem = await problemOf(answer);
        if (answer.status < 500 && ![408, 429].includes(answer.status)) return onState("refused", problem);
        throw problem;
      }
      onState("live");
      pause = FIRST_MS;
      for await (const event of read(answer.body, end)) {
        lastEventId = event.id || lastEventId;
        if (event.data !== undefined) queueMicrotask(() => onEvent(event)); // what it throws is no fault of the line's
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (error.retryAfter) pause = Math.max(pause, error.retryAfter * 1000);
    } finally {
      signal?.removeEventListener("abort", end);
    }
    onState("waiting");
    await slept(pause * (0.75 + Math.random() / 2), signal); // not all at once when the server is back
    pause = Math.min(2 * pause, LONGEST_MS);
  }
}

async function* read(body, tooSilent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let silence = setTimeout(tooSilent, SILENT_MS);
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(tooSilent, SILENT_MS);
      const blocks = (rest + value.replaceAll("\r\n", "\n")).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) yield parsed(block);
    }
  } finally {
    clearTimeout(silence);
    reader.cancel().catch(() => {});
  }
}

function parsed(block) {
  const event = { id: "", event: "message", data: undefined };
  const data = [];
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "data") data.push(value);
    else if (name === "id" || name === "event") event[name] = value;
  }
  if (data.length) event.data = JSON.parse(data.join("\n"));
  return event;
}

function slept(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
