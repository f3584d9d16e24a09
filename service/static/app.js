// The page: choose a model and fold it, or show a job again. The URL's fragment #/jobs/ID selects a job.

import { Problem, askJson } from "./api.js";
import { announce, byId, fill, focusOn, h } from "./dom.js";
import { bundled, nameToSend, refused } from "./files.js";
import { chosen, optionControls, optionsOf } from "./options.js";
import { pastList } from "./past.js";
import { heading } from "./problems.js";
import { fileSize, printable } from "./words.js";
import { Work } from "./work.js";

const TITLE = document.title;
const JOB = /^#\/jobs\/([0-9a-f]+)$/;
const form = byId("form");
const picked = byId("file");
const work = new Work({ onAnother: another, onChange: change });

let options = [];
let file = null; // the chosen model

// --- navigation ------------------------------------------------------------------------------------------------------

function route() {
  const id = JOB.exec(location.hash)?.[1];
  if (id) work.open(id);
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

/** Go back to the start, in the URL too, and drop the chosen model. */
function another() {
  file = null;
  picked.value = "";
  home();
  picked.focus();
}

/** Go back to the start with a model, to fold it with other options. */
function change(model) {
  file = model;
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
  file = null;
  if (!complaint) {
    try {
      file = files.length > 1 ? await packed(files) : files[0];
    } catch {
      complaint = `${heading(new Problem({ type: "unreadable" }))}: choose them once more.`;
    }
  }
  picked.value = ""; // or choosing the same file again would cause no event
  describeChoice();
  fill(byId("complaint"), printable(complaint));
  byId("complaint").hidden = !complaint;
  if (file) byId("fold").focus();
}

function packed(files) {
  fill(byId("invite"), `Putting ${files.length} files together …`);
  return bundled(files);
}

function describeChoice() {
  const isChosen = Boolean(file);
  byId("drop").classList.toggle("filled", isChosen);
  fill(byId("invite"), "Drop a model here, or choose a file");
  fill(byId("chosen"), isChosen ? printable(file.name) : "");
  fill(byId("size"), isChosen ? fileSize(file.size) : "");
  for (const id of ["chosen", "size", "again"]) byId(id).hidden = !isChosen;
  for (const id of ["invite", "hint", "complaint"]) byId(id).hidden = isChosen || (id === "complaint" && !byId(id).textContent);
  for (const id of ["fold", "inspect"]) byId(id).disabled = !isChosen;
  if (isChosen) announce(`${printable(file.name)} is chosen`);
}

function send(isPlan) {
  const query = chosen(options, form);
  query.set("name", nameToSend(file));
  work.send(file, query, isPlan);
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
  byId("home").addEventListener("click", (event) => {
    event.preventDefault();
    home();
  });
  window.addEventListener("popstate", route);
}

listen();
loadOptions();
route();
