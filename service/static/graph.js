// The graph around one fold, before and after, drawn from the report: a chain of boxes, top to bottom.

import { h, svg } from "./dom.js";
import { counted, printable, shorten } from "./words.js";

const WIDTH = 340; // of a drawing: two fit side by side on a desktop screen, one on a telephone
const MIDDLE = WIDTH / 2; // where the line between boxes runs
const BOX = 46;
const GAP = 22; // between boxes, for the arrow
const INDENT = 26; // of boxes that share a row, for the line at their left
const RAIL = 13;
const LETTERS = 43; // of a name in a box, at most
const INDENTED_LETTERS = 39;
const SIBLINGS_SHOWN = 5; // of the nodes that each absorbed a part, at most
const PASSED_SHOWN = 6; // of the nodes that the affine moved through, at most
const CLAMPS = new Set(["Max", "Min"]);
const END = 10; // length of the lines from and to the rest of the model

/** Both drawings of a fold with their titles. */
export function beforeAndAfter(outcome) {
  const [before, after] = [rows(outcome, false), rows(outcome, true)];
  return h("div", { class: "graphs" }, drawing("Before", before), drawing("After", after));
}

/** The rows of a drawing, top to bottom; a row is a list of boxes side by side. */
export function rows(outcome, after) {
  const kinds = outcome.operators ?? []; // operators of the path, then of the absorbers
  const note = (index, said) => [kinds[index], said].filter(Boolean).join(", ");
  const near = outcome.path.map((name, i) => box(name, note(i, after ? "passed through, as it was" : ""), ""));
  const first = outcome.path.length;
  const absorbers = outcome.absorbed_by.map((name, i) =>
    after ? box(name, note(first + i, "its constants hold the map now"), "new") : box(name, before(kinds[first + i]), ""),
  );
  const chain = [...some(near, PASSED_SHOWN).map((one) => [one]), some(absorbers, SIBLINGS_SHOWN)];
  const way = [[itself(outcome, after)], ...chain].filter((row) => row.length);
  return outcome.direction === "forward" ? way : way.reverse();
}

/** What an absorber was before: a Max or Min may have been a Relu or a Clip. */
function before(operator) {
  return CLAMPS.has(operator) ? "" : (operator ?? "");
}

function itself(outcome, after) {
  const channels = outcome.channels ? `, ${counted(outcome.channels, "channel")}` : "";
  if (!after) return box(outcome.node, outcome.operator + channels, "old");
  const left = outcome.left?.[0]; // reports of older services name none
  if (left) return box(left.node, `${left.operator}, left ${left.after ? `behind ${left.after}` : "of it"}`, "left");
  if (outcome.status === "split") return box(outcome.node, "one Mul or Add is left in its place", "left");
  return box("", "", "gone");
}

function box(name, note, kind) {
  return { name: printable(name), note: printable(note), kind };
}

function some(boxes, shown) {
  const more = boxes.length - shown;
  return more > 1 ? [...boxes.slice(0, shown), box("", `and ${more} more`, "more")] : boxes;
}

function drawing(title, chain) {
  const tops = [];
  let y = END + GAP;
  for (const row of chain) {
    tops.push(row.map((_, i) => y + i * (BOX + GAP / 2)));
    y = tops.at(-1).at(-1) + BOX + GAP;
  }
  const height = y + END;
  const label = `${title}: ${chain.map(spoken).filter(Boolean).join(", then ") || "nothing is left here"}`;
  const canvas = { viewBox: `0 0 ${WIDTH} ${height}`, class: "graph", role: "img", "aria-label": label };
  return h(
    "figure",
    {},
    h("figcaption", {}, title),
    svg("svg", canvas, edges(chain, tops, height), chain.flatMap((row, i) => row.map((one, j) => drawn(one, tops[i][j], row.length > 1)))),
  );
}

function spoken(row) {
  const names = row.filter(({ kind }) => kind !== "gone").map(({ name, note }) => [name, note].filter(Boolean).join(", "));
  return names.join(" and ");
}

function drawn(one, y, isIndented) {
  const x = isIndented ? INDENT : 0;
  if (one.kind === "gone") return svg("path", { d: `M${MIDDLE} ${y}v${BOX}`, class: "edge" });
  const letters = isIndented ? INDENTED_LETTERS : LETTERS;
  const [first, second] = one.note && one.name ? [y + 20, y + 36] : [y + 28, y + 28];
  return svg(
    "g",
    { class: `box ${one.kind}`.trim() },
    svg("title", {}, [one.name, one.note].filter(Boolean).join(", ")),
    svg("rect", { x: x + 0.75, y: y + 0.75, width: WIDTH - x - 1.5, height: BOX - 1.5, rx: 8 }),
    one.name ? svg("text", { x: x + 14, y: first, class: "name" }, shorten(one.name, letters)) : null,
    one.note ? svg("text", { x: x + 14, y: second, class: "note" }, one.note) : null,
  );
}

function edges(chain, tops, height) {
  const parts = [];
  // Several nodes at an end of the chain have different neighbours: one line cannot show them.
  if (chain[0].length === 1) parts.push(edge(`M${MIDDLE} 0V${tops[0][0]}`, chain[0]));
  for (let i = 0; i + 1 < chain.length; i += 1) parts.push(between(chain[i], chain[i + 1], tops[i], tops[i + 1]));
  if (chain.at(-1).length === 1) parts.push(edge(`M${MIDDLE} ${tops.at(-1)[0] + BOX}V${height}`, null));
  return parts;
}

/** The lines from a row to the next; if several boxes share a row, they use the rail at the left. */
function between(above, below, from, to) {
  if (above.length > 1) {
    const stubs = from.map((y) => `M${INDENT} ${y + BOX / 2}H${RAIL}`).join("");
    const down = `M${RAIL} ${from[0] + BOX / 2}V${to[0] - GAP / 2}H${MIDDLE}V${to[0]}`;
    return [edge(stubs, null), edge(down, below)];
  }
  if (below.length > 1) {
    const down = `M${MIDDLE} ${from[0] + BOX}v${GAP / 2}H${RAIL}V${to.at(-1) + BOX / 2}`;
    return [edge(down, null), to.map((y) => edge(`M${RAIL} ${y + BOX / 2}H${INDENT}`, null))];
  }
  return edge(`M${MIDDLE} ${from[0] + BOX}V${to[0]}`, below);
}

/** A line, with an arrow head if it ends at the top of a box. */
function edge(d, row) {
  const line = svg("path", { d, class: "edge" });
  if (!row || row[0].kind === "gone") return line;
  const y = Number(d.slice(d.lastIndexOf("V") + 1));
  return [line, svg("path", { d: `M${MIDDLE - 4} ${y - 6}L${MIDDLE} ${y - 0.5}L${MIDDLE + 4} ${y - 6}z`, class: "arrow" })];
}
