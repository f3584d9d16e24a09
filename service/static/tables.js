// The tables of a report: what was folded where, with the graph around each fold, and the error of every output.

import { byId, fill, goTo, h } from "./dom.js";
import { STATUS_WORDS, isBn, scaleRange, strain } from "./digest.js";
import { beforeAndAfter } from "./graph.js";
import { axisOver, histogram, ruler, share } from "./pictures.js";
import { counted, figure, grouped, percent, printable } from "./words.js";

const ROWS_SHOWN = 60; // of a long table, at first; a button shows the rest
const FILTER_FROM = 16; // tables with at least so many rows have a field to find a node
const COLUMNS = 5;
const NUMBERS = new Set(["|scale|", "Largest error", "Tolerated", "Relative to the output", "Rounding noise"]); // columns

/** A name as code, with possible line breaks before its scopes but the first. */
export function code(name) {
  const shown = printable(name);
  const [first, ...scopes] = shown.slice(1).split("/");
  return h("code", {}, shown.slice(0, 1) + first, scopes.flatMap((scope) => [h("wbr"), `/${scope}`]));
}

/** The table of one kind of affines; `anchors` has the places of the reasons for those that stay. */
export function affineTable(outcomes, anchors, prefix) {
  const axis = axisOver(outcomes);
  const body = h("tbody");
  const more = h("button", { type: "button" });
  const state = { wanted: "", shown: ROWS_SHOWN };
  const draw = () => {
    const fitting = outcomes.filter((outcome) => printable(outcome.node).toLowerCase().includes(state.wanted));
    const rows = fitting.slice(0, state.shown).flatMap((outcome) => affineRow(outcome, axis, anchors, prefix, outcomes.indexOf(outcome)));
    fill(body, rows.length ? rows : h("tr", {}, h("td", { colspan: COLUMNS, class: "soft" }, "No node has such a name.")));
    more.hidden = fitting.length <= state.shown;
    fill(more, `Show all ${grouped(fitting.length)}`);
  };
  more.addEventListener("click", () => {
    state.shown = Infinity;
    draw();
    body.querySelectorAll("tr")[ROWS_SHOWN]?.querySelector("button, a")?.focus();
  });
  draw();
  const caption = "The pictures show how many channels have which |scale|, on one logarithmic axis; the upright line is 1, red at the left is 0.";
  const heads = ["Node", "Outcome", "Where to, or why not", "|scale|", outcomes.some(({ scales }) => scales.length) ? ruler(axis) : "Scales"];
  return [outcomes.length >= FILTER_FROM ? filter(prefix, state, draw) : null, table(caption, heads, body, "affines"), more];
}

function filter(prefix, state, draw) {
  const find = ({ target }) => {
    state.wanted = target.value.trim().toLowerCase();
    draw();
  };
  return h(
    "p",
    { class: "filter" },
    h("label", { for: `find-${prefix}` }, "Find a node"),
    h("input", { type: "search", id: `find-${prefix}`, oninput: find, spellcheck: "false", autocomplete: "off" }),
  );
}

function table(caption, heads, body, kind) {
  const columns = heads.map((head) => h("th", { scope: "col", class: NUMBERS.has(head) ? "number" : null }, head));
  return h(
    "div",
    { class: "table", tabindex: 0, role: "group", "aria-label": "Table, may be scrolled sideways" },
    h("table", { class: kind }, h("caption", {}, caption), h("thead", {}, h("tr", {}, columns)), body),
  );
}

function affineRow(outcome, axis, anchors, prefix, i) {
  const place = h("tr", { id: `graph-${prefix}-${i}`, class: "around", hidden: true });
  const isKept = outcome.status === "kept";
  const row = h(
    "tr",
    {},
    h("th", { scope: "row" }, code(outcome.node), isBn(outcome) ? null : soft(printable(outcome.operator))),
    h("td", { class: "outcome" }, isKept ? why(outcome, anchors.get(outcome)) : gone(outcome, anchors.get(outcome)), isKept ? null : toggle(outcome, place)),
    h("td", { class: "to" }, isKept ? [soft("backward: ", outcome.backward?.code), soft("forward: ", outcome.forward?.code)] : destination(outcome)),
    h("td", { class: "number", "data-label": "|scale|" }, scaleRange(outcome), outcome.channels ? soft(counted(outcome.channels, "channel")) : null),
    h("td", { class: "picture" }, histogram(outcome, axis)),
  );
  return isKept ? [row] : [row, place];
}

/** The button that leads to the reasons. A link would change the URL's fragment, which selects the job. */
function why(outcome, id) {
  const spoken = h("span", { class: "hidden" }, `, why ${printable(outcome.node)} stays${outcome.left?.length ? " in part" : ""}`);
  const isAmber = isBn(outcome) && outcome.status === "kept";
  const kind = isAmber ? "chip reasons stays" : "chip reasons";
  return h("button", { type: "button", class: kind, onclick: () => goTo(byId(id)) }, STATUS_WORDS[outcome.status], spoken);
}

function gone(outcome, id) {
  if (id) return [why(outcome, id), ` ${outcome.direction}`];
  const good = outcome.status === "split" ? "" : "good";
  return [h("span", { class: `chip ${good}`.trim() }, STATUS_WORDS[outcome.status] ?? printable(outcome.status)), ` ${outcome.direction}`];
}

function soft(...children) {
  return h("div", { class: "soft" }, children);
}

function destination(outcome) {
  const through = outcome.path.length ? soft("through ", listed(outcome.path)) : null;
  return [listed(outcome.absorbed_by), through];
}

function listed(names) {
  return names.flatMap((name, i) => (i ? [", ", code(name)] : [code(name)]));
}

/** The button that opens the graph around a fold in a row below; the graph is drawn when it is first opened. */
function toggle(outcome, place) {
  const button = h("button", { type: "button", class: "toggle", "aria-expanded": "false", "aria-controls": place.id }, "Graph", h("span", { class: "hidden" }, ` before and after ${printable(outcome.node)} is folded`));
  button.addEventListener("click", () => {
    if (!place.hasChildNodes()) place.append(h("td", { colspan: COLUMNS }, beforeAndAfter(outcome)));
    place.hidden = !place.hidden;
    button.setAttribute("aria-expanded", String(!place.hidden));
  });
  return button;
}

/** The table of the outputs' errors; a bar shows each as a share of its tolerance. */
export function outputTable(verification) {
  const where = verification.inputs ? ` (${printable(verification.inputs)})` : "";
  const caption = `Absolute differences over ${counted(verification.samples, "sample")}${where}; noise is how far two ways to run the original differ.`;
  const heads = ["Output", "Largest error", "Tolerated", "Relative to the output", "Rounding noise", "Of what is tolerated"];
  return table(caption, heads, h("tbody", {}, verification.outputs.map(outputRow)), "outputs");
}

function outputRow(output) {
  const part = strain(output);
  const used = Number.isFinite(part) ? percent(part) : "no figure";
  const meaning = part > 1 ? "more than is tolerated" : `${used} of what is tolerated`;
  const cells = [["Largest error", output.max_absolute], ["Tolerated", output.tolerance], ["Relative to the output", output.max_relative], ["Rounding noise", output.noise]];
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, code(output.name)),
    cells.map(([label, value]) => h("td", { class: "number", "data-label": label }, figure(value))),
    h("td", { class: "strain" }, h("span", { class: `chip ${output.ok ? "good" : "wrong"}` }, output.ok ? used : "failed"), share(part, meaning, output.ok ? "" : "over")),
  );
}
