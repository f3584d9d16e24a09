// Formats names safely, and numbers for readers, in the same way as the library's report/digest.py.

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];
const STEP = 1000; // decimal units, as in file managers and on download pages
const DIGITS = 3; // of a size, a scale and an error: more do not help a reader
const MILLISECONDS = 1000; // in a second
const ELLIPSIS = "...";
const HIDDEN = /[\p{C}\p{Z}]/gu; // controls, formats, surrogates, unassigned, and every space
const SHORT_ESCAPES = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** The text on one line, with control, format and surrogate characters escaped, so that none can reverse a line. */
export function printable(text) {
  return String(text).replace(HIDDEN, (c) => (c === " " ? c : SHORT_ESCAPES[c] ?? escaped(c.codePointAt(0))));
}

function escaped(code) {
  if (code > 0xffff) return `\\U${code.toString(16).padStart(8, "0")}`;
  return code > 0xff ? `\\u${code.toString(16).padStart(4, "0")}` : `\\x${code.toString(16).padStart(2, "0")}`;
}

/** The text, without its middle if it is longer than `width`: names differ at their ends. */
export function shorten(text, width) {
  const letters = [...text];
  if (letters.length <= width) return text;
  const room = Math.max(width - ELLIPSIS.length, 0);
  const tail = Math.floor((room + 1) / 2);
  return letters.slice(0, room - tail).join("") + ELLIPSIS + letters.slice(letters.length - tail).join("");
}

/** The number with separators of thousands: `1,204`. */
export function grouped(number) {
  return number.toLocaleString("en-US");
}

/** The number and its noun: `1 output`, `2 outputs`, `1,204 nodes`. */
export function counted(number, singular, plural = `${singular}s`) {
  return `${grouped(number)} ${number === 1 ? singular : plural}`;
}

/** A measured number with three digits; JSON has null for numbers that are not finite. */
export function figure(number) {
  if (number === null || !Number.isFinite(number)) return "not finite";
  if (number === 0) return "0";
  const [mantissa, exponent] = number.toExponential(DIGITS - 1).split("e").map(Number);
  if (exponent >= -4 && exponent < DIGITS) return String(Number(number.toPrecision(DIGITS)));
  return `${mantissa}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

/** A number of bytes in the largest unit that it reaches, with three digits: `97.8 MB`. */
export function fileSize(size) {
  let [value, unit] = [size, 0];
  while (value >= STEP && unit < UNITS.length - 1) [value, unit] = [value / STEP, unit + 1];
  if (unit) value = Number(value.toPrecision(DIGITS));
  const decimals = unit && value ? Math.max(DIGITS - 1 - Math.trunc(Math.log10(value)), 0) : 0;
  return `${value.toFixed(decimals)} ${UNITS[unit]}`;
}

/** The change of the size, with its sign: `-142 kB`; "same size" if there is none. */
export function sizeChange(before, after) {
  if (before === after) return "same size";
  return (after < before ? "-" : "+") + fileSize(Math.abs(after - before));
}

/** A duration: `430 ms`, `2.1 s`. */
export function duration(seconds) {
  return seconds >= 1 ? `${seconds.toFixed(1)} s` : `${(seconds * MILLISECONDS).toFixed(0)} ms`;
}

/** A share, 0 to 1, in whole percent; 100 only if it is complete. */
export function percent(share) {
  return `${share >= 1 ? 100 : Math.min(Math.floor(share * 100), 99)} %`;
}

/** A text as a sentence: `as it is` is `As it is.` */
export function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?)]$/.test(whole) || !whole ? whole : `${whole}.`;
}

/** The text with the command's flags replaced by the labels of this page: `--no-verify` is `"Verify"`. */
export function labelled(text) {
  return text.replace(/--(?:no-)?([a-z]+(?:-[a-z]+)*)/g, (_, flag) => `"${titled(flag.replaceAll("-", "_"))}"`);
}

/** An option's name as a label: `merge_branches` is `Merge branches`. */
export function titled(name) {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
