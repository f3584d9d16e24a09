// The small pictures of a report, drawn from numbers only: the scales of a map, their axis, a share of a whole.

import { svg } from "./dom.js";
import { counted, figure } from "./words.js";

export const BINS = 40; // of a histogram: with at most 64 sampled channels a finer one would show single values
const BIN_WIDTH = 4;
const HEIGHT = 28;
const BASE = 26; // the baseline of the bars: HEIGHT minus the line itself
const ZERO_SLOT = 8; // left of the axis, for channels of scale 0, which a logarithmic axis cannot show
const DECADES_SHOWN = 8; // of the axis, at most: float32 rounds away smaller values beside the largest
const MARKS = 4; // of the ruler, approximately
const WIDTH = ZERO_SLOT + BINS * BIN_WIDTH;

/** A logarithmic axis over whole decades that shows 1 and the scales of all outcomes, shared by their pictures. */
export function axisOver(outcomes) {
  const scales = outcomes.flatMap((outcome) => outcome.scales).filter((scale) => scale > 0);
  const logs = [0, ...scales.map(Math.log10)];
  const high = Math.ceil(logs.reduce((a, b) => Math.max(a, b)));
  const low = Math.floor(logs.reduce((a, b) => Math.min(a, b)));
  return { low: Math.max(low, high - DECADES_SHOWN), high: Math.max(high, 1) };
}

/** The bin of a scale; scales beyond an end of the axis count in the last bin there. */
export function binOf(axis, scale) {
  const place = (Math.log10(scale) - axis.low) / (axis.high - axis.low);
  return Math.min(Math.max(Math.floor(place * BINS), 0), BINS - 1);
}

/** The distribution of the channels' |scale|; channels of scale 0 are apart, at the left. Null without scales. */
export function histogram(outcome, axis) {
  const finite = outcome.scales.filter((scale) => scale !== null);
  if (!finite.length) return null;
  const counts = Array(BINS).fill(0);
  for (const scale of finite) if (scale) counts[binOf(axis, scale)] += 1;
  const zeros = finite.filter((scale) => scale === 0).length;
  const tallest = Math.max(...counts, zeros);
  const live = counts.map((count, i) => (count ? bar(ZERO_SLOT + i * BIN_WIDTH, count / tallest) : "")).join("");
  const dead = zeros ? bar(0, zeros / tallest) : "";
  return picture(HEIGHT, `scales of ${counted(outcome.channels, "channel")}: ${spread(finite)}`, [
    svg("path", { d: lines(axis), class: "axis" }),
    live ? svg("path", { d: live, class: "bars" }) : null,
    dead ? svg("path", { d: dead, class: "dead" }) : null,
  ]);
}

/** The scale of the histograms: their decades, for the head of the table's column. */
export function ruler(axis) {
  const step = Math.max(Math.ceil((axis.high - axis.low) / MARKS), 1);
  const marks = [];
  for (let e = axis.low; e <= axis.high; e += step) {
    const anchor = e === axis.low ? "start" : e === axis.high ? "end" : "middle";
    marks.push(svg("text", { x: place(axis, e), y: 10, "text-anchor": anchor }, decade(e)));
  }
  const label = `logarithmic axis from ${figure(10 ** axis.low)} to ${figure(10 ** axis.high)}`;
  return picture(12, label, marks);
}

/** A bar that is filled to a share, 0 to 1. */
export function share(part, label, kind = "") {
  const filled = Math.round(1000 * Math.min(Math.max(part, 0), 1)) / 10;
  return svg(
    "svg",
    { viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": label, class: `share ${kind}`.trim() },
    svg("rect", { width: 100, height: 6, class: "track" }),
    svg("rect", { width: filled, height: 6, class: "fill" }),
  );
}

function picture(height, label, children) {
  const canvas = { viewBox: `0 0 ${WIDTH} ${height}`, width: WIDTH, height, role: "img", "aria-label": label };
  return svg("svg", canvas, svg("title", {}, label), children);
}

function spread(scales) {
  const sorted = [...scales].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  return `${figure(sorted[0])} to ${figure(sorted.at(-1))}, median ${figure(median)}`;
}

function bar(x, height) {
  return `M${x} ${BASE}v-${(height * (BASE - 2)).toFixed(1)}h${BIN_WIDTH - 1}V${BASE}z`;
}

function lines(axis) {
  return `M0 ${BASE}H${WIDTH}${axis.low <= 0 ? `M${place(axis, 0)} 0V${BASE}` : ""}`;
}

function place(axis, exponent) {
  return (ZERO_SLOT + (BINS * BIN_WIDTH * (exponent - axis.low)) / (axis.high - axis.low)).toFixed(1);
}

function decade(exponent) {
  return Math.abs(exponent) >= 3 ? `1e${exponent}` : figure(10 ** exponent);
}
