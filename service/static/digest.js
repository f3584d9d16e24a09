// Digest of a report: the sentences and groups that are shown, the same as in the library's report/digest.py.

import { counted, duration, figure, fileSize, grouped, sizeChange } from "./words.js";

export const OTHER = "other per-channel maps";
export const NOTHING = "nothing"; // what to do where a refusal has no hint
export const STATUS_WORDS = {
  folded: "folded",
  split: "folded in part",
  merged: "merged",
  removed: "removed",
  kept: "kept",
};
const BATCH_NORMALIZATION = "BatchNormalization";

/** Whether the affine is a BatchNormalization node, not a decomposed one. */
export function isBn(outcome) {
  return outcome.operator === BATCH_NORMALIZATION;
}

/** How many affines of a kind were folded whole, how many in part, and how many there were. */
export function tally(outcomes, bn) {
  const chosen = outcomes.filter((outcome) => isBn(outcome) === bn);
  const split = chosen.filter((outcome) => outcome.status === "split").length;
  const stay = chosen.filter((outcome) => outcome.status === "kept").length;
  return { whole: chosen.length - split - stay, split, stay, total: chosen.length };
}

/** `5 of 9 maps folded, 1 split, 3 stay`. */
export function phrase(count, noun, verb) {
  const split = count.split ? `, ${grouped(count.split)} split (one Mul or Add is left of each)` : "";
  const rest = count.stay ? `, ${grouped(count.stay)} stay${count.stay === 1 ? "s" : ""}` : "";
  return `${grouped(count.whole)} of ${grouped(count.total)} ${noun} ${verb}${split}${rest}`;
}

/** Whether a folded model exists: not only a plan, and not a model that was discarded. */
export function isWritten(report) {
  return report.target !== null && report.verification.status !== "failed";
}

/** The size before, the size after and the change; the last two are "" if no file was written. */
export function sizes(report) {
  const { bytes_before: before, bytes_after: after } = report;
  return [fileSize(before), ...(isWritten(report) ? [fileSize(after), sizeChange(before, after)] : ["", ""])];
}

/** The main sentence: how many were folded, or would be folded. */
export function headline(report) {
  const [bn, other] = [tally(report.outcomes, true), tally(report.outcomes, false)];
  if (!bn.total && !other.total) {
    return "Nothing to fold: the model holds no BatchNormalization and no other per-channel map";
  }
  const verb = report.target === null ? "can be folded" : "folded";
  const lost = report.verification.status === "failed" ? ", but the result is wrong and was thrown away" : "";
  const rest = lost || offered(report);
  if (!bn.total) return `No BatchNormalization; ${phrase(other, OTHER, verb)}${rest}`;
  return phrase(bn, bn.total === 1 ? "BatchNormalization" : "BatchNormalizations", verb) + rest;
}

/** What more folds with other options: `; 40 more fold with --freeze-initializers, 12 more with --clamp always`. */
function offered({ outcomes, offers = [] }) {
  let hasMore = tally(outcomes, outcomes.some(isBn)).whole > 0;
  return offers.reduce((said, { option, more }) => {
    const verb = said ? "" : more === 1 ? " folds" : " fold";
    const next = `${said ? ", " : "; "}${grouped(more)}${hasMore ? " more" : ""}${verb} with ${option}`;
    hasMore = true;
    return said + next;
  }, "");
}

/** The smallest and largest |scale|, or the one value they share; "" if the outcome has no channels. */
export function scaleRange(outcome) {
  if (!outcome.channels) return "";
  const [low, high] = [figure(outcome.scale_min), figure(outcome.scale_max)];
  return low === high ? low : `${low} .. ${high}`;
}

/** An output's error as a share of its tolerance; infinite if it is not known. */
export function strain(output) {
  const { max_absolute: error, tolerance } = output;
  if (error === null || tolerance === null) return Infinity;
  return tolerance ? error / tolerance : error && Infinity;
}

/** The output with the largest error relative to its tolerance; a failed one before any other. */
export function worstOutput(outputs) {
  const badness = (output) => [output.ok ? 0 : 1, strain(output)];
  return outputs.reduce((worst, output) => {
    const [[failed, most], [fails, more]] = [badness(worst), badness(output)];
    return fails > failed || (fails === failed && more > most) ? output : worst;
  });
}

/** The verdict in one sentence, with the figures of the worst output if the verification ran. */
export function verdict(verification) {
  const { status, reason, outputs, samples, seconds } = verification;
  if (status !== "verified") {
    const lead = status === "failed" ? "Verification failed" : "Not verified";
    return reason ? `${lead}: ${reason}` : lead;
  }
  const ran = `${counted(samples, "sample")}, ${duration(seconds)}`;
  if (!outputs.length) return reason ? `Verified: ${reason}` : `Verified (${ran})`;
  const worst = worstOutput(outputs);
  const error = `${figure(worst.max_absolute)} where ${figure(worst.tolerance)} is tolerated`;
  return `Verified: the largest error is ${error} (${counted(outputs.length, "output")}, ${ran})`;
}

/** The affines that stay, grouped by the codes of their two refusals, the most frequent first. */
export function keptGroups(outcomes) {
  return byCodes(outcomes.filter(({ status }) => status === "kept"));
}

/** What is left of the affines that folded in part, each operator once, grouped as `keptGroups`. */
export function leftGroups(outcomes) {
  const all = outcomes.flatMap(({ left = [] }) => left.map((one) => [JSON.stringify(one), one]));
  return byCodes([...new Map(all).values()]);
}

/** Where an operator that is left stands: `behind conv1`. */
export function placeOf({ after }) {
  return after ? `behind ${after}` : "at an input of the graph";
}

/** The different operators of a group: `Mul, Add`. */
export function operatorsOf(group) {
  return [...new Set(group.map(({ operator }) => operator))].join(", ");
}

/** A group's reasons and hints on one line: `backward: a shift does not pass zero padding [zero-padding]; ...`. */
export function sentenceOf(group, shown) {
  const ways = waysOf(group).map(([way, met]) => `${way}: ${reasons(met, shown)} [${met[0].code}]`);
  return [...ways, ...hintsOf(group).map((hint) => `what to do: ${hint}`)].join("; ");
}

function byCodes(those) {
  const groups = new Map();
  for (const outcome of those) {
    const key = JSON.stringify([outcome.backward?.code ?? "", outcome.forward?.code ?? ""]);
    groups.set(key, [...(groups.get(key) ?? []), outcome]);
  }
  return [...groups.values()].sort((a, b) => b.length - a.length);
}

/** For each way, its name and refusals; only one way, "both ways", if the refusals never differ. */
export function waysOf(group) {
  const met = (way) => group.map((outcome) => outcome[way]).filter((refusal) => refusal !== null);
  const [backward, forward] = [met("backward"), met("forward")];
  if (JSON.stringify(backward) === JSON.stringify(forward)) return backward.length ? [["both ways", backward]] : [];
  return [["backward", backward], ["forward", forward]].filter(([, refusals]) => refusals.length);
}

/** The different sentences of refusals that share a code, at most `shown` of them. */
export function reasons(refusals, shown) {
  const different = [...new Set(refusals.map((refusal) => refusal.reason))];
  const more = different.length - shown;
  return different.slice(0, shown).join("; ") + (more > 0 ? `; and ${more} more such` : "");
}

/** What a user can do: each hint once; "nothing" where nothing can be done. */
export function hintsOf(group) {
  const hints = waysOf(group).flatMap(([, refusals]) => refusals.map((refusal) => refusal.hint));
  const useful = [...new Set(hints.filter(Boolean))];
  return useful.length || !hints.length ? useful : [NOTHING];
}
