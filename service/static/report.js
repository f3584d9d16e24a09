// The report of a fold as part of the page: the main sentence, figures, what was folded where, what stays and why.

import { goTo, h } from "./dom.js";
import { OTHER, hintsOf, headline, isBn, keptGroups, reasons, sizes, tally, told, verdict, waysOf, worstOutput } from "./digest.js";
import { share } from "./pictures.js";
import { affineTable, code, outputTable } from "./tables.js";
import { counted, duration, figure, grouped, labelled, printable, sentence } from "./words.js";

const NAMES_OPEN = 12; // longer lists of names are collapsed at first
const ROWS_OPEN = 40; // a longer table of decomposed affines is collapsed at first: readers seldom need it
const REASONS_SHOWN = 3;
const MARKS = { verified: "✓", failed: "✗", "not verified": "!" };

/** The whole report of the model called `name`; `buttons` are below its headline, a heading of `level`. */
export function reportView(report, name, buttons, level = "h1") {
  const bn = report.outcomes.filter(isBn);
  const others = report.outcomes.filter((outcome) => !isBn(outcome));
  const groups = [...keptGroups(bn), ...keptGroups(others)];
  const anchors = new Map(groups.flatMap((group, i) => group.map((outcome) => [outcome, `stay-${i + 1}`])));
  const sections = [
    report.verification.outputs.length ? section("Verification", "verification", outputTable(report.verification)) : null,
    affines("BatchNormalization", "batch-normalization", bn, anchors),
    affines(OTHER.charAt(0).toUpperCase() + OTHER.slice(1), "other-maps", others, anchors),
    groups.length ? section("What stays, and why", "stays", groups.map((group, i) => stay(group, `stay-${i + 1}`))) : null,
    report.notes.length ? section("Notes", "notes", h("ul", {}, report.notes.map((note) => h("li", {}, printable(note))))) : null,
  ].filter(Boolean);
  return h("article", { class: "report", "aria-labelledby": "report-title" }, header(report, name, buttons, level), tiles(report), contents(sections), sections);
}

function header(report, name, buttons, level) {
  const status = report.target === null ? "planned" : report.verification.status;
  const time = report.seconds ? `, ${duration(report.seconds)}` : "";
  return h(
    "header",
    { class: "card" },
    h("p", { class: "soft" }, code(name), time),
    h(level, { id: "report-title" }, labelled(headline(report))),
    h("p", { class: `verdict ${status.replace(" ", "-")}` }, h("span", { "aria-hidden": "true" }, `${MARKS[status] ?? ""} `), labelled(printable(verdict(report.verification)))),
    h("div", { class: "buttons" }, buttons),
  );
}

function tiles(report) {
  const bn = tally(report.outcomes, true);
  const [before, after, change] = sizes(report);
  const nodes = report.nodes_after - report.nodes_before;
  const part = bn.total ? share((bn.total - bn.stay) / bn.total, told(bn, "BatchNormalizations", "folded"), bn.stay ? "" : "all") : null;
  return h(
    "dl",
    { class: "tiles" },
    tile("BatchNormalization nodes", changed(grouped(report.bn_before), grouped(report.bn_after)), part),
    tile("Nodes", changed(grouped(report.nodes_before), grouped(report.nodes_after)), nodes ? signed(nodes) : "as many as before"),
    tile("Size", after ? changed(before, after) : before, change),
    tile("Verification", printable(report.verification.status.replace(/^./, (c) => c.toUpperCase())), margin(report.verification.outputs)),
  );
}

function tile(label, value, detail) {
  return h("div", { class: "tile" }, h("dt", {}, label), h("dd", { class: "big" }, value), h("dd", { class: "soft" }, detail));
}

function changed(before, after) {
  return [h("span", { class: "was" }, before, " → "), after];
}

function signed(number) {
  return number > 0 ? `+${grouped(number)}` : grouped(number);
}

function margin(outputs) {
  if (!outputs.length) return "no figures";
  const worst = worstOutput(outputs);
  return `largest error ${figure(worst.max_absolute)}, tolerated ${figure(worst.tolerance)}`;
}

/** Links within the report. They are buttons, because the URL's fragment selects the job and must not change. */
function contents(sections) {
  const link = (part) => h("button", { type: "button", class: "link", onclick: () => goTo(part) }, part.querySelector("h2").textContent);
  return sections.length > 1 ? h("nav", { "aria-label": "Parts of the report" }, sections.map(link)) : null;
}

function section(title, id, ...children) {
  return h("section", { id, "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, title), children);
}

function affines(title, id, outcomes, anchors) {
  if (!outcomes.length) return null;
  const parts = affineTable(outcomes, anchors, id);
  const isAside = id === "other-maps" && outcomes.length > ROWS_OPEN;
  return section(title, id, isAside ? closable(parts, outcomes.length, false) : parts);
}

function stay(group, id) {
  const operators = [...new Set(group.map(({ operator }) => printable(operator)))].join(", ");
  const ways = waysOf(group).flatMap(([way, refusals]) => [
    h("dt", {}, way.charAt(0).toUpperCase() + way.slice(1)),
    h("dd", {}, printable(reasons(refusals, REASONS_SHOWN)), " ", h("code", { class: "code" }, refusals[0].code)),
  ]);
  const todo = hintsOf(group).flatMap((hint) => [h("dt", {}, "What to do"), h("dd", { class: "todo" }, sentence(labelled(printable(hint))))]);
  const names = h("ul", { class: "names" }, group.map((outcome) => h("li", {}, code(outcome.node), places(outcome))));
  return h(
    "article",
    { class: "card stay", id, "aria-labelledby": `${id}-title` },
    h("h3", { id: `${id}-title` }, `${grouped(group.length)} ${operators}`),
    h("dl", {}, ways, todo),
    closable(names, group.length, group.length <= NAMES_OPEN),
  );
}

function places(outcome) {
  const met = ["backward", "forward"].filter((way) => outcome[way]?.at).map((way) => `${way} at ${printable(outcome[way].at)}`);
  return met.length ? h("div", { class: "soft" }, met.join(", ")) : null;
}

function closable(content, number, isOpen) {
  return h("details", { open: isOpen }, h("summary", {}, counted(number, "node")), content);
}
