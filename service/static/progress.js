// The progress between the upload and the report: the steps, the share done, the time, and a button to cancel.

import { announce, fill, focusOn, h } from "./dom.js";
import { fileSize, percent, printable } from "./words.js";

const STEPS = [
  ["uploading", "Upload", "Uploading"],
  ["folding", "Fold", "Folding"],
  ["writing", "Write", "Writing the folded model"],
  ["verifying", "Verify", "Running both models side by side"],
];
const QUEUED = "Waiting for a free worker";
const SECOND = 1000;

/** The panel of a running fold: its element and heading, and the functions that update it. */
export function progressPanel(file) {
  let stop = () => {};
  let { name } = file;
  const began = Date.now();
  const steps = h("ol", { class: "steps" });
  const bar = h("progress", { max: 1, "aria-labelledby": "progress-title" });
  const doing = h("p", { class: "doing" });
  const elapsed = h("span", { class: "soft" });
  const lost = h("p", { class: "lost", hidden: true }, "The server does not answer just now. Your fold goes on there; this page keeps asking.");
  const heading = h("h1", { id: "progress-title" }, printable(file.name));
  const cancel = h("button", { type: "button" }, "Cancel");
  cancel.addEventListener("click", () => {
    cancel.disabled = true;
    fill(cancel, "Cancelling …");
    focusOn(heading);
    stop();
  });
  const element = h(
    "section",
    { class: "card working", "aria-labelledby": "progress-title" },
    h("div", { class: "title" }, heading, h("span", { class: "soft" }, file.size === null ? "" : fileSize(file.size))),
    steps,
    bar,
    h("div", { class: "below" }, doing, elapsed),
    lost,
    h("div", { class: "buttons" }, cancel),
  );
  const tick = () => fill(elapsed, clock((Date.now() - began) / SECOND));
  const timer = setInterval(tick, SECOND);

  let planned = STEPS;

  function at(stage, share, text) {
    const current = planned.findIndex(([one]) => one === stage);
    steps.hidden = current < 0;
    fill(steps, planned.map(([, title], i) => step(title, i, current)));
    const isOpen = share === null;
    if (isOpen) bar.removeAttribute("value");
    else bar.value = share;
    fill(doing, isOpen ? text : `${text}, ${percent(share)}`);
    document.title = `${isOpen ? "…" : percent(share)} ${printable(name)} · bnfold`;
    announce(text);
  }

  at("", null, "One moment");
  return {
    element,
    heading,
    /** Set the action of the button. */
    onCancel: (stopping) => {
      stop = stopping;
    },
    /** Show the share of the upload that was sent, 0 to 1. */
    uploaded: (share) => (share < 1 ? at("uploading", share, "Uploading") : at("uploading", null, "Uploaded, waiting for the server")),
    /** Show the state of the job. */
    show: (job) => {
      if (name !== job.name) fill(heading, printable((name = job.name))); // after a reload only the service knows it
      planned = STEPS.filter(([one]) => one !== "verifying" || job.options?.verify !== false);
      if (job.status === "queued") return at("folding", null, QUEUED);
      if (!job.stage) return at("folding", null, job.status === "running" ? "Starting" : "Reading the report");
      const text = STEPS.find(([one]) => one === job.stage)?.[2] ?? printable(job.stage);
      return at(job.stage, job.progress > 0 && job.progress < 1 ? job.progress : null, text);
    },
    /** Show whether the service does not respond. */
    silent: (isSilent) => {
      if (isSilent && lost.hidden) announce("The server does not answer just now.");
      lost.hidden = !isSilent;
    },
    close: () => clearInterval(timer),
  };
}

function step(title, i, current) {
  const state = i < current ? "done" : i === current ? "now" : "later";
  const spoken = { done: ", done", now: "", later: ", not yet" }[state];
  const attributes = state === "now" ? { class: state, "aria-current": "step" } : { class: state };
  return h("li", attributes, title, h("span", { class: "hidden" }, spoken));
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
