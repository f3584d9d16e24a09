// Requests to the service: uploads with their progress, jobs until they end, reports; and their errors.

const KEY = "bnfold.key"; // in sessionStorage: an API key is forgotten when the tab is closed
const WAIT = 20; // seconds that the service may hold back the response to a poll
const PAUSE = 250; // the least milliseconds between two polls
const PATIENCE = [1000, 2000, 4000, 8000]; // milliseconds before each retry when the service does not respond
const ENDED = new Set(["done", "failed", "cancelled"]);
const BUSY = new Set([429, 502, 503, 504]);
const [ACCEPTED, NOT_MODIFIED] = [202, 304];

/** An error response (RFC 9457); `slug` is the last part of its type. */
export class Problem extends Error {
  constructor(problem, { retryAfter = null } = {}) {
    super(problem.detail || problem.title || "The service gave no reason.");
    this.slug = String(problem.type ?? "").split("/").at(-1);
    this.title = problem.title ?? "";
    this.detail = problem.detail ?? "";
    this.status = problem.status ?? 0;
    this.instance = problem.instance ?? "";
    this.retryAfter = retryAfter;
  }
}

/** No response: there is no network, or no server. */
export const UNREACHABLE = { type: "unreachable" };
/** The user stopped the upload. */
export const STOPPED = { type: "cancelled" };

/** The path of a job, relative to the page: a proxy may show the service under a path. */
export function jobPath(id) {
  return `v1/jobs/${encodeURIComponent(id)}`;
}

/** Whether a job has ended. */
export function hasEnded(job) {
  return ENDED.has(job.status);
}

/** Store the API key for this tab; "" removes it. */
export function rememberKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** Whether requests carry a key, which a plain link cannot. */
export function hasKey() {
  return Boolean(sessionStorage.getItem(KEY));
}

function authorization() {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** The response to a request; its status is 304 if `known` is the current entity tag.
 *
 * Throws a Problem if the service refuses or does not respond, an AbortError if `signal` ended the request. */
export async function ask(path, { method = "GET", accept = "application/json", known = null, signal } = {}) {
  let answer;
  const headers = { Accept: accept, ...authorization(), ...(known ? { "If-None-Match": known } : {}) };
  try {
    answer = await fetch(path, { method, signal, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(UNREACHABLE);
  }
  if (answer.ok || answer.status === NOT_MODIFIED) return answer;
  throw problemOf(answer.status, await answer.text(), answer.headers.get("Retry-After"));
}

/** The JSON at a path; throws the errors of `ask`. */
export async function askJson(path, options) {
  return (await ask(path, options)).json();
}

function problemOf(status, text, retryAfter) {
  let problem = {};
  try {
    problem = JSON.parse(text) ?? {};
  } catch {
    // A proxy may respond itself, in HTML: then only the status is known.
  }
  const seconds = Number.parseInt(retryAfter ?? "", 10);
  return new Problem({ status, ...problem }, { retryAfter: Number.isNaN(seconds) ? null : seconds });
}

/** Send a file; `onShare` gets the share that was sent, 0 to 1. The response is JSON, or the job if there is one.
 *
 * Returns `{ sent, stop }`: `sent` rejects with a Problem, `stop` ends the upload. */
export function upload(path, file, onShare) {
  const request = new XMLHttpRequest();
  const sent = new Promise((resolve, reject) => {
    request.open("POST", path);
    const headers = { Accept: "application/json", Prefer: "respond-async", "Content-Type": typeOf(file) };
    for (const [name, value] of Object.entries({ ...headers, ...authorization() })) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", ({ loaded, total }) => onShare(total ? loaded / total : 1));
    request.upload.addEventListener("load", () => onShare(1));
    request.addEventListener("load", () => resolve(request));
    request.addEventListener("error", () => reject(new Problem(UNREACHABLE)));
    request.addEventListener("abort", () => reject(new Problem(STOPPED)));
    request.send(file);
  });
  return { sent: sent.then(answerOf), stop: () => request.abort() };
}

function typeOf(file) {
  return file.name.toLowerCase().endsWith(".zip") ? "application/zip" : "application/octet-stream";
}

function answerOf(request) {
  if (request.status < 200 || request.status >= 300) {
    throw problemOf(request.status, request.responseText, request.getResponseHeader("Retry-After"));
  }
  const id = request.getResponseHeader("Bnfold-Job");
  return id && request.status !== ACCEPTED ? askJson(jobPath(id)) : JSON.parse(request.responseText);
}

/** Follow a job until it has ended; `onJob` gets each state, `onSilence` whether the service failed to respond.
 *
 * Throws a Problem if the service has no such job, an AbortError if `signal` ended the request. */
export async function follow(id, { onJob, onSilence, signal }) {
  let known = null;
  for (;;) {
    // The service responds when the state differs from the known one, at once if it changed during a pause.
    const question = known ? `${jobPath(id)}?wait=${WAIT}` : jobPath(id);
    const news = await patiently(() => askNews(question, { known, signal }), onSilence, signal);
    if (news) {
      known = news.tag;
      onJob(news.job);
      if (hasEnded(news.job)) return news.job;
    }
    await pause(PAUSE, signal);
  }
}

async function askNews(question, options) {
  const answer = await ask(question, options);
  return answer.status === NOT_MODIFIED ? null : { job: await answer.json(), tag: answer.headers.get("ETag") };
}

async function patiently(question, onSilence, signal) {
  for (let tries = 0; ; tries += 1) {
    try {
      const answer = await question();
      onSilence(false);
      return answer;
    } catch (error) {
      if (!(error instanceof Problem) || !(error.slug === UNREACHABLE.type || BUSY.has(error.status))) throw error;
      onSilence(true);
      await pause((error.retryAfter ?? 0) * 1000 || PATIENCE[Math.min(tries, PATIENCE.length - 1)], signal);
    }
  }
}

/** Wait for `milliseconds`. An aborted signal ends the wait at once; then the next request throws. */
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
