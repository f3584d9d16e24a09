// What a report says beyond folding, in the words of the library's report/ready.py.

import { copyable } from "./copy.js";
import { h } from "./dom.js";
import { share } from "./pictures.js";
import { code } from "./tables.js";
import { counted, figure, grouped, labelled, printable, sentence, sizeChange } from "./words.js";

const TITLES = { converted: "Converted", cleaned: "Removed or computed ahead", fused: "Written as one operator", lowered: "Stored in 16 bits" };
const VERBS = { fails: ["is refused", "are refused"], "falls-back": ["runs on the CPU", "run on the CPU"], unfused: ["runs in parts", "run in parts"] };
const WORDS = { fails: "refused", "falls-back": "on the CPU", unfused: "in parts" };
const CLASSES = { fails: "wrong", "falls-back": "wrong", unfused: "stays" };
const EXAMPLES_SHOWN = 3;
const NAMES_OPEN = 12; // longer lists of names are collapsed at first

/** Whether the runtime does not run the file as a whole. */
export function isRefused(report) {
  return (report.findings ?? []).some(({ severity }) => severity !== "unfused");
}

/** What the runtime makes of the file, in one sentence; "" where none was named. */
export function readiness(report) {
  if (!report.runtime) return "";
  const said = Object.entries(VERBS).flatMap(([severity, [one, more]]) => {
    const number = report.findings.filter((finding) => finding.severity === severity).length;
    const noun = severity === "unfused" ? "idiom" : "operator";
    return number ? [`${counted(number, noun)} ${number === 1 ? one : more}`] : [];
  });
  return said.length ? `${report.runtime}: ${said.join(", ")}` : `${report.runtime} takes every operator`;
}

/** The sections beyond folding; `section` makes one of a title, an id and its contents. */
export function readySections(report, section) {
  const changes = Object.entries(TITLES).map(([stage, title]) => [stage, title, (report.changes ?? []).filter((one) => one.stage === stage).sort((a, b) => b.count - a.count)]);
  const groups = grouping(report.findings ?? []);
  return [
    ...changes.filter(([, , kinds]) => kinds.length).map(([stage, title, kinds]) => section(title, stage, h("ul", {}, kinds.map(change)))),
    equalized(report, section),
    types(report, section),
    report.rounded?.length ? section("Constants that lose more than digits in 16 bits", "rounded", h("ul", {}, report.rounded.map(lost))) : null,
    groups.length ? section(`What ${printable(report.runtime)} does not run as it is`, "findings", groups.map(card)) : null,
    report.recipe?.length ? section("What to do with the file", "next", recipe(report.recipe)) : null,
  ];
}

function change({ count, kind, examples, nbytes }) {
  const grown = nbytes ? `, ${sizeChange(0, nbytes)}` : "";
  const shown = examples.slice(0, EXAMPLES_SHOWN).flatMap((name) => [", ", code(name)]).slice(1);
  return h("li", {}, `${grouped(count)} × ${printable(kind)}${grown} `, shown.length ? h("span", { class: "soft" }, shown) : null);
}

/** The values between weights whose channels were scaled, and a card for each reason why others stay. */
function equalized(report, section) {
  if (!report.equalized?.length) return null;
  const [scaled, staying] = [report.equalized.filter(({ code }) => !code), report.equalized.filter(({ code }) => code)];
  const verb = report.target === null ? "can be equalized" : "equalized";
  const title = `Channels ${verb} for 8 bits: ${grouped(scaled.length)} of ${counted(report.equalized.length, "value")} between weights`;
  const groups = Map.groupBy(staying, ({ reason, code }) => `${reason} [${code}]`);
  const cards = [...groups].sort((a, b) => b[1].length - a[1].length).map(([reason, those]) => stayingCard(`${counted(those.length, "value")} as before`, reason, those.map(({ value }) => value)));
  return section(title, "equalized", scaled.length ? h("p", {}, unevenness(scaled)) : null, cards);
}

function unevenness(scaled) {
  const [low, high] = ["before", "after"].map((name) => scaled.map((one) => one[name]).sort((a, b) => a - b));
  const median = (found) => figure((found[Math.floor((found.length - 1) / 2)] + found[Math.ceil((found.length - 1) / 2)]) / 2);
  const said = `the largest channel of a weight has ${median(low)} times the range of a typical one, and then ${median(high)}`;
  return `${said} (median over the values; at most ${figure(low.at(-1))}, and then ${figure(high.at(-1))})`;
}

/** Which operators stay in float32 and why: a bar over all of them, and a card for each reason. */
function types(report, section) {
  const total = report.types?.length ?? 0;
  if (!total) return null;
  const wide = Map.groupBy(report.types.filter(({ reason }) => reason), ({ reason }) => reason);
  const low = total - report.types.filter(({ reason }) => reason).length;
  const said = `${grouped(low)} of ${grouped(total)} operators in 16 bits`;
  const cards = [...wide].sort((a, b) => b[1].length - a[1].length).map(([reason, those]) => stayingCard(`${counted(those.length, "operator")} in float32`, reason, those.map(({ label }) => label)));
  return section("Types", "types", h("p", {}, said), share(low / total, said, ""), cards);
}

function stayingCard(title, reason, labels) {
  const names = h("ul", { class: "names" }, labels.map((label) => h("li", {}, code(label))));
  const all = h("details", { open: labels.length <= NAMES_OPEN }, h("summary", {}, counted(labels.length, "node")), names);
  return h("article", { class: "card stay" }, h("h3", {}, title), h("p", {}, printable(reason)), all);
}

function lost({ name, elements, clamped, flushed, subnormal, bound }) {
  const parts = [[clamped, `clamped to ${bound}`], [flushed, "became zero"], [subnormal, "subnormal"]].filter(([number]) => number);
  return h("li", {}, code(name), `: ${parts.map(([number, what]) => `${grouped(number)} ${what}`).join(", ")} of ${grouped(elements)}`);
}

function grouping(findings) {
  const groups = new Map();
  for (const one of findings) {
    const key = JSON.stringify([one.severity, one.code, one.sentence]);
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  const order = Object.keys(VERBS);
  return [...groups.values()].sort((a, b) => order.indexOf(a[0].severity) - order.indexOf(b[0].severity) || b.length - a.length);
}

function card(group, i) {
  const [first, id] = [group[0], `finding-${i + 1}`];
  const operators = [...new Set(group.map(({ operator }) => operator))].join(", ");
  const row = (title, ...content) => [h("dt", {}, title), h("dd", {}, content)];
  return h(
    "article",
    { class: "card stay", id, "aria-labelledby": `${id}-title` },
    h("h3", { id: `${id}-title` }, `${counted(group.length, "operator")}: ${printable(operators)} `, h("span", { class: `chip ${CLASSES[first.severity]}` }, WORDS[first.severity])),
    h(
      "dl",
      {},
      row("Why", printable(first.sentence), " ", h("code", { class: "code" }, first.code)),
      first.advice ? row("What to do", sentence(labelled(printable(first.advice)))) : null,
      first.source ? row("Source", printable(first.source)) : null,
    ),
    h("details", { open: group.length <= NAMES_OPEN }, h("summary", {}, counted(group.length, "node")), h("ul", { class: "names" }, group.map(({ node }) => h("li", {}, code(node))))),
  );
}

function recipe(lines) {
  return copyable(lines.map(printable).join("\n"), "Commands");
}
