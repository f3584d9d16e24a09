// The page: choose a model and fold it, or show a job again. The URL's fragment #/jobs/ID selects a job.

import { Problem, askJson } from "./api.js";
import { copyButton } from "./copy.js";
import { announce, byId, fill, focusOn, h } from "./dom.js";
import { bundled, nameToSend, refused } from "./files.js";
import { chosen, optionControls, optionsOf } from "./options.js";
import { pastList } from "./past.js";
import { heading } from "./problems.js";
import { fileSize, printable } from "./words.js";
import { Work } from "./work.js";

const TITLE = document.title;
const JOB = /^#\/jobs\/([0-9a-f]+(?:\+[0-9a-f]+)*)$/; // of several jobs, their ids
const PLAN = /^#\/plans\/([0-9a-f]+)$/;
const form = byId("form");
const picked = byId("file");
const work = new Work({ onAnother: another, onChange: change });

let options = [];
let models = []; // the chosen ones

// --- navigation ------------------------------------------------------------------------------------------------------

function route() {
  const ids = JOB.exec(location.hash)?.[1].split("+");
  const plan = PLAN.exec(location.hash)?.[1];
  if (plan) work.openPlan(plan);
  else if (ids) ids.length > 1 ? work.openMany(ids) : work.open(ids[0]);
  else start();
}

function start() {
  work.leave();
  byId("job").hidden = true;
  byId("start").hidden = false;
  document.title = TITLE;
  fill(byId("past"), pastList(redrawPast));
  describeChoice();
}

function redrawPast() {
  fill(byId("past"), pastList(redrawPast));
  announce("Removed from the list");
  focusOn(byId("past-title"));
}

/** Go back to the start, in the URL too, and drop the chosen models. */
function another() {
  models = [];
  picked.value = "";
  home();
  picked.focus();
}

/** Go back to the start with models, to fold them with other options. */
function change(chosenModels) {
  models = chosenModels;
  home();
  form.querySelector("details").open = true;
  form.querySelector("summary").focus();
}

function home() {
  if (location.hash) history.pushState(null, "", location.pathname);
  start();
}

// --- choosing --------------------------------------------------------------------------------------------------------

async function choose(files) {
  let complaint = refused(files);
  models = [];
  if (!complaint) {
    try {
      models = await packed(files);
    } catch {
      complaint = `${heading(new Problem({ type: "unreadable" }))}: choose them once more.`;
    }
  }
  picked.value = ""; // or choosing the same file again would cause no event
  describeChoice();
  fill(byId("complaint"), printable(complaint));
  byId("complaint").hidden = !complaint;
  if (models.length) byId("fold").focus();
}

function packed(files) {
  if (files.length > 1) fill(byId("invite"), `Putting ${files.length} files together …`);
  return bundled(files);
}

function describeChoice() {
  const isChosen = models.length > 0;
  const names = models.map(({ name }) => printable(name)).join(", ");
  byId("drop").classList.toggle("filled", isChosen);
  fill(byId("invite"), "Drop models here, or choose files");
  fill(byId("chosen"), names);
  fill(byId("size"), isChosen ? `${models.length > 1 ? `${models.length} models, ` : ""}${fileSize(models.reduce((sum, { size }) => sum + size, 0))}` : "");
  for (const id of ["chosen", "size", "again"]) byId(id).hidden = !isChosen;
  for (const id of ["invite", "hint", "complaint"]) byId(id).hidden = isChosen || (id === "complaint" && !byId(id).textContent);
  byId("fold").disabled = !isChosen;
  byId("inspect").disabled = models.length !== 1;
  if (isChosen) announce(models.length > 1 ? `${names} are chosen` : `${names} is chosen`);
}

function send(isPlan) {
  const asked = models.map((file) => {
    const query = chosen(options, form);
    query.set("name", nameToSend(file));
    return { file, query };
  });
  if (asked.length > 1) work.sendMany(asked);
  else work.send(asked[0].file, asked[0].query, isPlan);
}

// --- options ---------------------------------------------------------------------------------------------------------

async function loadOptions() {
  try {
    options = optionsOf(await askJson("openapi.json"));
    const isTarget = ({ name }) => name === "target"; // the one choice that most people need, in front of all others
    fill(byId("target"), optionControls(options.filter(isTarget), describeOptions));
    fill(byId("options"), optionControls(options.filter((option) => !isTarget(option)), describeOptions));
  } catch (error) {
    const why = error instanceof Problem ? heading(error) : "The server describes them in a way this page does not know";
    const again = h("button", { type: "button", onclick: loadOptions }, "Try again");
    fill(byId("options"), h("p", { class: "soft" }, `The options could not be read. ${why}. Folding works, with the defaults.`), again);
  }
  describeOptions();
}

function describeOptions() {
  const query = chosen(options, form);
  const number = new Set(query.keys()).size;
  fill(byId("changed"), number ? `${number} changed` : "");
  fill(byId("shell"), `curl -fT model.onnx '${new URL("v1/fold", document.baseURI)}${number ? `?${query}` : ""}' -o folded.onnx`);
}

// --- listening -------------------------------------------------------------------------------------------------------

function listen() {
  const drop = byId("drop");
  const carries = (event) => event.dataTransfer?.types.includes("Files") && !byId("start").hidden;
  picked.addEventListener("change", () => picked.files.length && choose([...picked.files]));
  picked.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return; // browsers open the dialog only for the space bar; Enter may send the form
    event.preventDefault();
    picked.click();
  });
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
    send(false);
  });
  byId("inspect").addEventListener("click", () => send(true));
  byId("shell").parentElement.after(copyButton(byId("shell"), "a command"));
  byId("home").addEventListener("click", (event) => {
    event.preventDefault();
    home();
  });
  window.addEventListener("popstate", route);
}

listen();
loadOptions();
route();
