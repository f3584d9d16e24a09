// The models that this browser has folded: stored in its localStorage only, newest first.

import { h } from "./dom.js";
import { fileSize, printable } from "./words.js";

const PLACE = "bnfold.jobs";
const KEPT = 50; // entries; the oldest go first
const ID = /^[0-9a-f]{8,128}$/;

/** The entries, `{ id, name, bytes, created, status, told }`; entries that another program wrote are left out. */
export function past() {
  try {
    const entries = JSON.parse(localStorage.getItem(PLACE) ?? "[]");
    return Array.isArray(entries) ? entries.filter((entry) => ID.test(entry?.id ?? "")) : [];
  } catch {
    return []; // no storage, or not this page's data
  }
}

/** Add an entry, or update one. */
export function remember(entry) {
  const entries = past();
  const known = entries.find(({ id }) => id === entry.id);
  keep([{ ...known, ...entry }, ...entries.filter((one) => one !== known)].slice(0, KEPT));
}

/** Drop the entry of a job. */
export function forget(id) {
  keep(past().filter((entry) => entry.id !== id));
}

/** Drop all entries. */
export function forgetAll() {
  keep([]);
}

function keep(entries) {
  try {
    localStorage.setItem(PLACE, JSON.stringify(entries));
  } catch {
    // A browser without storage has no history; folding works without it.
  }
}

/** The list with a button to forget each entry; `onChange` is called after each. */
export function pastList(onChange) {
  const entries = past();
  if (!entries.length) return h("p", { class: "soft" }, "Models you fold are listed here, in this browser only.");
  const clear = () => {
    forgetAll();
    onChange();
  };
  return [
    h("ul", { class: "past" }, entries.map((entry) => item(entry, onChange))),
    h("button", { type: "button", class: "quiet", onclick: clear }, "Clear this list"),
  ];
}

function item(entry, onChange) {
  const name = printable(entry.name ?? "model");
  const drop = () => {
    forget(entry.id);
    onChange();
  };
  const facts = [when(entry.created), Number.isFinite(entry.bytes) ? fileSize(entry.bytes) : "", printable(entry.told ?? "")];
  return h(
    "li",
    {},
    h("span", { class: `dot ${["done", "failed"].includes(entry.status) ? entry.status : ""}`.trim(), "aria-hidden": "true" }),
    h(
      "div",
      { class: "what" },
      h("a", { href: `#/jobs/${entry.id}` }, name),
      h("div", { class: "soft" }, facts.filter(Boolean).join(" · ")),
    ),
    h("button", { type: "button", class: "quiet", "aria-label": `Remove ${name} from this list`, onclick: drop }, "Remove"),
  );
}

function when(created) {
  const date = new Date(created);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
