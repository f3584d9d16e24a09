// Problems in plain words, with advice: one entry for each type of problem.

import { h } from "./dom.js";
import { printable } from "./words.js";

const AGAIN = "Try again in a moment. If it stays so, report it to whoever runs this server.";
const OPERATOR = "Whoever runs this server can raise the limit that the sentence above names.";

/** The heading and the advice for each slug of a problem's type. */
export const ADVICE = {
  "invalid-model": ["This is not a model that can be read", "Check that the file arrived whole and that onnx.checker accepts it, or export it once more."],
  "unsafe-archive": ["This archive is not accepted", "Put one .onnx file and the data files it refers to into a zip, with no folders and no links."],
  "too-large": ["This model is too large for this server", `Fold it on your own machine with the bnfold command, which needs little memory. ${OPERATOR}`],
  "unsupported-media-type": ["This kind of file is not accepted", "Choose an .onnx file, or a .zip that holds one together with its external data."],
  "invalid-option": ["An option does not fit", "The sentence above says which, and what it may be. Change it and fold again."],
  "verification-failed": ["The folded model computes something else, so it was thrown away", "Your original is as good as before. Leave nodes alone with the option keep to find the one that matters, and please report it: this should not happen."],
  "nothing-to-fold": ["Nothing could be folded", "Why is shown below, node by node. Without the option require change you get the model back as it is."],
  "target-refused": ["The target does not run all of it", "What it refuses is shown below, with what to do. With the option allow fallback you get the file all the same."],
  "not-found": ["This is no longer here", "The server keeps models for a while only. Upload it again: the same model with the same options gives the same result."],
  unauthorized: ["This server asks for a key", "Enter the API key that whoever runs it gave you."],
  forbidden: ["This key does not open that", "Enter another API key, or ask whoever runs this server."],
  "quota-exceeded": ["Your share of this server is used up for now", "Wait, then try again."],
  "timed-out": ["It took too long and was stopped", "Fold it on your own machine with the bnfold command, or ask whoever runs this server for more time."],
  "out-of-memory": ["It needed more memory than one fold may take", `Fold it on your own machine with the bnfold command, or turn verification off: running both models is what takes memory. ${OPERATOR}`],
  crashed: ["The process that folded it died", "It was tried more than once. Nothing of yours is lost; please report the model if you can share it."],
  killed: ["Something else ended the process that folded it", "It was tried twice. Nothing of yours is lost: try again later, or on a larger machine."],
  "in-use": ["A job still needs it", "Wait until that job has ended, or cancel it."],
  "bad-request": ["The server could not make sense of the request", "Reload this page and try again: it may be older than the server."],
  "method-not-allowed": ["The server could not make sense of the request", "Reload this page and try again: it may be older than the server."],
  "upload-timeout": ["The upload took too long", "Try again over a faster connection, or fold it on your own machine with the bnfold command."],
  "not-ready": ["It is not finished yet", "Wait a moment, then try again."],
  "range-not-satisfiable": ["There is no such part of the file", "Download it once more, from its beginning."],
  internal: ["The server made a mistake", AGAIN],
  busy: ["The server is busy", "Nothing is wrong with your model: try again in a moment."],
  unavailable: ["The server cannot use its records now", "Nothing is wrong with your model: try again in a moment."],
  "insufficient-storage": ["The server's disk is full", AGAIN],
  cancelled: ["Cancelled", "Nothing was kept. You can fold it again whenever you like."],
  "digest-mismatch": ["The file did not arrive as it was sent", "Upload it once more."],
  "offset-mismatch": ["The upload does not end there", "Upload it once more."],
  "precondition-failed": ["The server speaks another version of the protocol for uploads", "Upload the file as a whole."],
  "idempotency-conflict": ["The same request key was used for something else", "Upload it once more."],
  unreachable: ["The server does not answer", "Check the connection, then try again. What was already accepted goes on without this page."],
  "no-plan": ["This inspection is not in this browser", "An inspection is kept only in the browser that asked for it, the last ten of them. Inspect the model again."],
  unreadable: ["A file could not be read", "It was moved or changed since you chose it: choose it once more."],
};
const UNKNOWN = ["Something went wrong", AGAIN];
const LONE = /external data file ".*" is missing/s; // a model was sent without its data
const TOGETHER = "Its weights are in a second file: choose both files together, the .onnx file and the file that is named above. ";
const KEYS = new Set(["unauthorized", "forbidden"]);
const CALM = new Set(["no-plan", "cancelled", "nothing-to-fold", "target-refused", "busy", "quota-exceeded", "unauthorized"]);

/** The heading for a problem. */
export function heading(problem) {
  return adviceOn(problem)[0];
}

/** Whether the problem's card has a field for a key. */
export function asksForKey(problem) {
  return KEYS.has(problem.slug);
}

function adviceOn(problem) {
  return Object.hasOwn(ADVICE, problem.slug) ? ADVICE[problem.slug] : UNKNOWN;
}

/** A problem as a card: what is wrong, why, what to do, and buttons; `onKey` gets a key that was entered. */
export function problemCard(problem, buttons, onKey) {
  const [title, advice] = adviceOn(problem);
  const lone = LONE.test(problem.detail) ? TOGETHER : "";
  const soon = problem.retryAfter ? ` The server suggests to wait ${problem.retryAfter} seconds.` : "";
  return h(
    "section",
    { class: CALM.has(problem.slug) ? "card problem calm" : "card problem", "aria-labelledby": "problem-title" },
    h("h1", { id: "problem-title" }, title),
    problem.detail && !asksForKey(problem) ? h("p", { class: "detail" }, printable(problem.detail)) : null,
    h("p", { class: "advice" }, lone + advice + soon),
    asksForKey(problem) ? keyForm(onKey) : null,
    h("div", { class: "buttons" }, buttons),
    technical(problem),
  );
}

function keyForm(onKey) {
  const input = h("input", { type: "password", id: "key", name: "key", autocomplete: "off", required: true });
  const submitted = (event) => {
    event.preventDefault();
    onKey(input.value.trim());
  };
  return h(
    "form",
    { class: "key", "aria-label": "API key", onsubmit: submitted },
    h("label", { for: "key" }, "API key"),
    input,
    h("button", { type: "submit", class: "primary" }, "Use this key"),
    h("p", { class: "soft" }, "It is kept until you close this tab."),
  );
}

function technical(problem) {
  const facts = [["Type", problem.slug], ["Status", problem.status], ["Title", problem.title], ["Instance", problem.instance]];
  const known = facts.filter(([, value]) => value);
  if (known.length < 2 || CALM.has(problem.slug)) return null;
  const list = known.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, h("code", {}, printable(value)))]);
  return h("details", { class: "technical" }, h("summary", {}, "For a bug report"), h("dl", {}, list));
}
