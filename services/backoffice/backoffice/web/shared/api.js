// The services' public JSON APIs, called with the person's token.

import { config } from "/web/shared/config.js";
import { problemOf } from "/web/shared/problem.js";
import { renew, session } from "/web/shared/session.js";

export { ProblemError } from "/web/shared/problem.js";

/** `api("order-service").get("/orders?limit=5")`: paths are below `/api/v1`. An answer is its JSON, null where it has
 *  none. `{whole: true}` gives `{status, data, headers}` instead. Throws ProblemError, or TypeError where there is no answer. */
export function api(service) {
  const call = (method) => async (path, { body, headers, signal, whole } = {}) => {
    const sent = { "Accept": "application/json", ...headers };
    if (body !== undefined && !(body instanceof FormData)) sent["Content-Type"] = "application/json";
    const content = body === undefined || body instanceof FormData ? body : JSON.stringify(body);
    const answer = await authorized(service, path, { method, headers: sent, body: content, signal });
    if (!answer.ok) throw await problemOf(answer);
    const text = await answer.text();
    const data = text ? JSON.parse(text) : null;
    return whole ? { status: answer.status, data, headers: answer.headers } : data;
  };
  return { get: call("GET"), post: call("POST"), put: call("PUT"), del: call("DELETE") };
}

/** The bare Response, with the person's token if somebody is signed in; once more with a new one after a 401. */
export async function authorized(service, path, { headers, ...wanted } = {}) {
  const url = await addressOf(service, path);
  const ask = async () => {
    const token = await (await session())?.token();
    return fetch(url, { ...wanted, headers: token ? { ...headers, Authorization: `Bearer ${token}` } : headers });
  };
  const answer = await ask();
  if (answer.status !== 401 || !(await session())) return answer;
  await renew();
  return (await session()) ? ask() : answer;
}

export async function addressOf(service, path) {
  const { services } = await config();
  return `${services[service]}${path.startsWith("/api/") || path.startsWith("/health") ? "" : "/api/v1"}${path}`;
}
