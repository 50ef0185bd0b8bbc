// What a page shows, fetched again every few seconds while somebody looks at it. A fetch that fails leaves the last
// answer standing, and the page says how old that is.

import { html, useCallback, useEffect, useRef, useState } from "/web/vendor/preact.js";
import { Failed, Loading } from "/web/shared/states.js";
import { language, t } from "/web/shared/words.js";

const EVERY = 5000; // milliseconds
const clock = new Intl.DateTimeFormat(language, { timeStyle: "medium" });

/** `{data, error, at, reload}`: the last answer of `load(signal)`, when it came, and why none has come since. Begins anew
 *  for other `keys`; `every` in milliseconds. */
export function useLive(load, keys = [], every = EVERY) {
  const [state, setState] = useState({});
  const [asked, setAsked] = useState(0);
  const newest = useRef();
  newest.current = load;
  const reload = useCallback(() => setAsked((count) => count + 1), []);

  useEffect(() => setState({}), keys);
  useEffect(() => {
    const leaving = new AbortController();
    let timer;
    const look = async () => {
      clearTimeout(timer);
      if (document.hidden) return; // until it is seen again
      try {
        const data = await newest.current(leaving.signal);
        if (!leaving.signal.aborted) setState({ data, at: new Date() });
      } catch (error) {
        if (!leaving.signal.aborted) setState((last) => ({ ...last, error }));
      }
      if (!leaving.signal.aborted) timer = setTimeout(look, every);
    };
    document.addEventListener("visibilitychange", look);
    look();
    return () => {
      leaving.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, [...keys, every, asked]);
  return { ...state, reload };
}

/** A page's head: its title, and how old what it shows is; a warning where that could not be renewed. */
export function Heading({ title, live, children }) {
  return html`<div class="heading">
    <h1>${title}</h1>
    ${children}
    ${live?.at &&
    (live.error
      ? html`<p class="mark warn" role="status">${t("ops.stale", { at: clock.format(live.at) })}</p>`
      : html`<p class="small quiet">${t("ops.as-of", { at: clock.format(live.at) })}</p>`)}
  </div>`;
}

/** `children(data)`, or what stands in its place until there is any. */
export function Live({ live, children }) {
  if (live.data !== undefined) return children(live.data);
  return live.error ? html`<${Failed} error=${live.error} retry=${live.reload} />` : html`<${Loading} />`;
}
