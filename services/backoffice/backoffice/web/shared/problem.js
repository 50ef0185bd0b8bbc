// A refusal of one of our services (RFC 9457).

export class ProblemError extends Error {
  /** `problem` is the document: {status, title, detail, errorType, traceId, errors, …}. */
  constructor(problem, retryAfter) {
    super(problem.detail || problem.title || `HTTP ${problem.status}`);
    this.name = "ProblemError";
    Object.assign(this, problem);
    this.retryAfter = retryAfter; // seconds, where the service says
  }
}

export async function problemOf(answer) {
  let document = {};
  try {
    document = await answer.json();
  } catch {
    // whoever stands between us answers in its own words
  }
  const retryAfter = Number(answer.headers.get("Retry-After")) || undefined;
  return new ProblemError({ title: answer.statusText, errorType: "unknown", ...document, status: answer.status }, retryAfter);
}
