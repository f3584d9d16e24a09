// The report of a fold as part of the page: the main sentence, figures, what was folded where, what stays and why.

import { goTo, h } from "./dom.js";
import { NOTHING, OTHER, headline, hintsOf, isBn, keptGroups, leftGroups, operatorsOf, placeOf, reasons } from "./digest.js";
import { phrase, sentenceOf, sizes, tally, verdict, waysOf, worstOutput } from "./digest.js";
import { share } from "./pictures.js";
import { isRefused, readiness, readySections } from "./ready.js";
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
  const anchors = new Map([...anchorsOf(bn, "stay", "left"), ...anchorsOf(others, "other-kept", "other-left")]);
  const sections = [
    report.verification.outputs.length ? section("Verification", "verification", outputTable(report.verification)) : null,
    affines("BatchNormalization", "batch-normalization", bn, anchors),
    stays("What stays, and why", "stay", keptGroups(bn)),
    stays("What is left of those folded in part, and why", "left", leftGroups(bn)),
    affines(OTHER.charAt(0).toUpperCase() + OTHER.slice(1), "other-maps", others, anchors),
    ...readySections(report, section),
    report.notes.length ? section("Notes", "notes", h("ul", {}, report.notes.map((note) => h("li", {}, printable(note))))) : null,
  ].filter(Boolean);
  return h("article", { class: "report", "aria-labelledby": "report-title" }, header(report, name, buttons, level), tiles(report), contents(sections), sections);
}

/** Where the reasons are, for each affine that stays or folded in part. */
function anchorsOf(outcomes, stay, left) {
  const places = new Map(leftGroups(outcomes).flatMap((group, i) => group.map((one) => [JSON.stringify(one), `${left}-${i + 1}`])));
  const kept = keptGroups(outcomes).flatMap((group, i) => group.map((outcome) => [outcome, `${stay}-${i + 1}`]));
  const split = outcomes.filter((outcome) => outcome.left?.length);
  return [...kept, ...split.map((outcome) => [outcome, places.get(JSON.stringify(outcome.left[0]))])];
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
    report.runtime ? h("p", { class: `verdict ${isRefused(report) ? "failed" : "verified"}` }, printable(readiness(report))) : null,
    h("div", { class: "buttons" }, buttons),
  );
}

function tiles(report) {
  const bn = tally(report.outcomes, true);
  const [before, after, change] = sizes(report);
  const nodes = report.nodes_after - report.nodes_before;
  const part = bn.total ? share((bn.total - bn.stay) / bn.total, phrase(bn, "BatchNormalizations", "folded"), bn.stay ? "" : "all") : null;
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
  const lines = isBn(outcomes[0]) ? [] : [...asides("kept", keptGroups(outcomes)), ...asides("left", leftGroups(outcomes))];
  return section(title, id, isAside ? closable(parts, outcomes.length, false) : parts, lines);
}

/** One line for each group of affines that are no normalizations; it opens to show their names. */
function asides(verb, groups) {
  return groups.map((group, i) => {
    const said = `${grouped(group.length)} ${operatorsOf(group)} ${verb}; ${labelled(sentenceOf(group, REASONS_SHOWN))}`;
    return h("details", { id: `other-${verb}-${i + 1}`, class: "aside" }, h("summary", {}, h("span", {}, printable(said))), names(group));
  });
}

function stays(title, id, groups) {
  return groups.length ? section(title, `${id}s`, groups.map((group, i) => stay(group, `${id}-${i + 1}`))) : null;
}

function names(group) {
  return h("ul", { class: "names" }, group.map((one) => h("li", {}, code(one.node), places(one))));
}

function stay(group, id) {
  const ways = waysOf(group).flatMap(([way, refusals]) => [
    h("dt", {}, way.charAt(0).toUpperCase() + way.slice(1)),
    h("dd", {}, printable(reasons(refusals, REASONS_SHOWN)), " ", h("code", { class: "code" }, refusals[0].code)),
  ]);
  const isAmber = group.every(isBn);
  const advice = (hint) => h("dd", { class: isAmber && hint !== NOTHING ? "todo" : null }, sentence(labelled(printable(hint))));
  const todo = hintsOf(group).flatMap((hint) => [h("dt", {}, "What to do"), advice(hint)]);
  return h(
    "article",
    { class: "card stay", id, "aria-labelledby": `${id}-title` },
    h("h3", { id: `${id}-title` }, `${grouped(group.length)} ${printable(operatorsOf(group))}`),
    h("dl", {}, ways, todo),
    closable(names(group), group.length, group.length <= NAMES_OPEN),
  );
}

function places(outcome) {
  const where = "after" in outcome ? [printable(placeOf(outcome))] : []; // what is left of an affine
  const at = ["backward", "forward"].filter((way) => outcome[way]?.at).map((way) => `${way} at ${printable(outcome[way].at)}`);
  const met = [...where, ...at];
  return met.length ? h("div", { class: "soft" }, met.join(", ")) : null;
}

function closable(content, number, isOpen) {
  return h("details", { open: isOpen }, h("summary", {}, counted(number, "node")), content);
}
