// The page: choose a model and fold it, or look at a job again. The address tells which of the two: #/jobs/ID.

import { Problem, STOPPED, ask, askJson, follow, hasKey, jobPath, rememberKey, upload } from "./api.js";
import { headline } from "./digest.js";
import { announce, byId, fill, focusOn, h } from "./dom.js";
import { bundled, refused } from "./files.js";
import { chosen, optionControls, optionsOf } from "./options.js";
import { forget, pastList, remember } from "./past.js";
import { heading, problemCard } from "./problems.js";
import { progressPanel } from "./progress.js";
import { reportView } from "./report.js";
import { printable } from "./words.js";

const TITLE = document.title;
const JOB = /^#\/jobs\/([0-9a-f]+)$/;
const form = byId("form");
const picked = byId("file");

let options = [];
let file = null; // the chosen model
let ending = new AbortController(); // ends what goes on when the user goes elsewhere

// --- the two views ---------------------------------------------------------------------------------------------------

function startView() {
  ending.abort();
  byId("job").hidden = true;
  byId("start").hidden = false;
  document.title = TITLE;
  fill(byId("past"), pastList(redrawPast));
}

function redrawPast() {
  fill(byId("past"), pastList(redrawPast));
  announce("Removed from the list");
  focusOn(byId("past-title"));
}

function jobView(...children) {
  byId("start").hidden = true;
  byId("job").hidden = false;
  fill(byId("job"), children);
}

function route() {
  const id = JOB.exec(location.hash)?.[1];
  if (id) openJob(id);
  else startView();
}

// --- choosing --------------------------------------------------------------------------------------------------------

async function choose(files) {
  const complaint = byId("complaint");
  const problem = refused(files);
  complaint.hidden = !problem;
  fill(complaint, problem);
  if (problem) {
    file = null;
  } else {
    file = files.length > 1 ? await bundled(files) : files[0];
  }
  describeChoice();
  if (file) byId("fold").focus();
  else focusOn(complaint);
}

function describeChoice() {
  byId("drop").classList.toggle("filled", Boolean(file));
  fill(byId("chosen"), file ? printable(file.name) : "");
  byId("chosen").hidden = !file;
  byId("invite").hidden = Boolean(file);
  byId("again").hidden = !file;
  for (const button of [byId("fold"), byId("inspect")]) button.disabled = !file;
  if (file) announce(`${printable(file.name)} is chosen`);
}

function query() {
  const asked = chosen(options, form);
  asked.set("name", file.name);
  return asked;
}

function describeOptions() {
  const number = options.length ? new Set(chosen(options, form).keys()).size : 0;
  fill(byId("changed"), number ? `${number} changed` : "");
  const asked = options.length ? chosen(options, form).toString() : "";
  fill(byId("shell"), `curl -T model.onnx '${location.origin}/v1/fold${asked ? `?${asked}` : ""}' -o folded.onnx`);
}

async function loadOptions() {
  try {
    options = optionsOf(await askJson("/openapi.json"));
    fill(byId("options"), optionControls(options, describeOptions));
  } catch (error) {
    const again = h("button", { type: "button", onclick: loadOptions }, "Try again");
    fill(byId("options"), h("p", { class: "soft" }, `The options could not be read: ${heading(error)}. Folding works with their defaults. `), again);
  }
  describeOptions();
}

// --- folding ---------------------------------------------------------------------------------------------------------

/** Upload the chosen model and follow what becomes of it, or only ask what would. */
async function send(path, isPlan) {
  const model = file;
  const asked = `${path}?${query()}`;
  const again = () => send(path, isPlan);
  const signal = begin();
  let stop = () => {};
  const panel = working(model, () => stop());
  try {
    const { sent, stop: abort } = upload(asked, model, (share) => {
      if (!signal.aborted) share < 1 || !isPlan ? panel.uploaded(share) : panel.wait("Looking at the model");
    });
    stop = abort;
    signal.addEventListener("abort", abort);
    const answer = await sent;
    if (signal.aborted) return;
    if (isPlan) return showPlan(answer, model);
    remember({ id: answer.id, name: model.name, bytes: model.size, created: answer.created, status: answer.status });
    history.pushState(null, "", `#/jobs/${answer.id}`);
    stop = () => cancel(answer.id);
    await watch(answer.id, panel, signal);
  } catch (error) {
    if (!signal.aborted) fail(error, again);
  } finally {
    panel.close();
  }
}

async function openJob(id) {
  const signal = begin();
  const panel = working({ name: "Your model", size: null }, () => cancel(id));
  try {
    await watch(id, panel, signal);
  } catch (error) {
    if (!signal.aborted) fail(error, () => openJob(id), id);
  } finally {
    panel.close();
  }
}

/** End what went on before; the signal of what begins. */
function begin() {
  ending.abort();
  ending = new AbortController();
  return ending.signal;
}

function working(model, onCancel) {
  const panel = progressPanel(model, onCancel);
  panel.wait("One moment");
  jobView(panel.element);
  focusOn(panel.heading);
  return panel;
}

async function cancel(id) {
  try {
    await ask(jobPath(id), { method: "DELETE" });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    announce(heading(error)); // the job tells how it ended, whatever became of the wish
  }
}

async function watch(id, panel, signal) {
  const job = await follow(id, { signal, onSilence: panel.silent, onJob: (one) => signal.aborted || panel.show(one) });
  const report = job.report ? await askJson(job.report.href, { signal }) : null;
  if (signal.aborted) return;
  const told = report ? headline(report) : job.problem ? heading(problemOf(job)) : "";
  remember({ id, name: job.name, bytes: job.input?.bytes, created: job.created, status: job.status, told });
  showEnd(job, report);
}

function problemOf(job) {
  return new Problem(job.problem ?? STOPPED);
}

// --- what came of it -------------------------------------------------------------------------------------------------

function showEnd(job, report) {
  const problem = job.status === "done" ? null : problemOf(job);
  const again = file ? h("button", { type: "button", class: "primary", onclick: () => send("/v1/fold", false) }, "Fold again") : null;
  const card = problem && problemCard(problem, [again, another()], useKey);
  const links = problem ? [] : [download(job), another()];
  const told = report && reportView(report, job.name, [...links, ...forms(job)]);
  jobView(card, told);
  finish(problem ? heading(problem) : headline(report), job.name);
}

function showPlan(report, model) {
  const fold = h("button", { type: "button", class: "primary", onclick: () => send("/v1/fold", false) }, "Fold it");
  jobView(reportView(report, model.name, [fold, another()]));
  finish(headline(report), model.name);
}

function fail(error, retry, id = null) {
  if (!(error instanceof Problem)) throw error;
  const again = h("button", { type: "button", class: "primary", onclick: retry }, "Try again");
  const gone = () => {
    forget(id);
    location.hash = "";
  };
  const drop = id && error.slug === "not-found" ? h("button", { type: "button", onclick: gone }, "Remove it from my list") : null;
  const withKey = (key) => {
    rememberKey(key);
    retry();
  };
  jobView(problemCard(error, [error.slug === "not-found" ? null : again, drop, another()], withKey));
  finish(heading(error), "");
}

function finish(text, name) {
  document.title = [text, printable(name), "bnfold"].filter(Boolean).join(" · ");
  announce(text);
  focusOn(byId("job").querySelector("h1"));
}

function useKey(key) {
  rememberKey(key);
  route();
}

function another() {
  const go = () => {
    if (location.hash) location.hash = "";
    else startView();
    picked.focus();
  };
  return h("button", { type: "button", onclick: go }, "Another model");
}

function forms(job) {
  const { href } = job.report;
  return [h("button", { type: "button", class: "link", onclick: () => save(href, "text/html", nameOf(job, ".html")) }, "Report as HTML"),
          h("button", { type: "button", class: "link", onclick: () => save(href, "application/json", nameOf(job, ".json")) }, "Report as JSON")];
}

function download(job) {
  const name = nameOf(job, job.name.toLowerCase().endsWith(".zip") ? ".zip" : ".onnx");
  if (!hasKey()) return h("a", { class: "button primary", href: job.result.href, download: name }, "Download the folded model");
  return h("button", { type: "button", class: "primary", onclick: () => save(job.result.href, "*/*", name) }, "Download the folded model");
}

function nameOf(job, suffix) {
  return `${job.name.replace(/\.(onnx|zip)$/i, "")}.folded${suffix}`;
}

/** Hand a file to the browser's downloads that a plain link cannot ask for. */
async function save(href, accept, name) {
  try {
    const blob = await (await ask(href, { accept })).blob();
    const url = URL.createObjectURL(blob);
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url));
  } catch (error) {
    fail(error, () => save(href, accept, name));
  }
}

// --- listening -------------------------------------------------------------------------------------------------------

function listen() {
  const drop = byId("drop");
  const carries = (event) => event.dataTransfer?.types.includes("Files") && !byId("start").hidden;
  picked.addEventListener("change", () => picked.files.length && choose([...picked.files]));
  window.addEventListener("dragover", (event) => {
    event.preventDefault(); // a model dropped beside the zone must not replace the page
    drop.classList.toggle("over", carries(event));
  });
  window.addEventListener("dragleave", (event) => event.relatedTarget ?? drop.classList.remove("over"));
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (carries(event) && event.dataTransfer.files.length) choose([...event.dataTransfer.files]);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send("/v1/fold", false);
  });
  byId("inspect").addEventListener("click", () => send("/v1/inspect", true));
  window.addEventListener("hashchange", route);
}

listen();
loadOptions();
route();
