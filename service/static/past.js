// The models that this browser has folded or inspected: stored in its localStorage only, newest first.

import { h } from "./dom.js";
import { fileSize, printable } from "./words.js";

const PLACE = "bnfold.jobs";
const PLANS = "bnfold.plans";
const KEPT = 50; // entries; the oldest go first
const PLANS_KEPT = 10;
const PLAN_BYTES = 8; // of an id
const ID = /^[0-9a-f]{8,128}$/;

/** The entries, `{ id, name, bytes, created, status, outcome }`; entries that another program wrote are left out. */
export function past() {
  return stored(PLACE).filter((entry) => ID.test(entry?.id ?? ""));
}

/** Add an entry, or update one. */
export function remember(entry) {
  const entries = past();
  const known = entries.find(({ id }) => id === entry.id);
  keep([{ ...known, ...entry }, ...entries.filter((one) => one !== known)].slice(0, KEPT));
}

/** Drop the entry of a job or a plan. */
export function forget(id) {
  keep(past().filter((entry) => entry.id !== id));
  keepPlans(plans().filter((plan) => plan.id !== id));
}

/** Drop all entries. */
export function forgetAll() {
  keep([]);
  keepPlans([]);
}

/** The plan with this id, `{ id, name, report }`; undefined if this browser does not have it. */
export function planOf(id) {
  return plans().find((plan) => plan.id === id);
}

/** Keep the report of an inspection, of which the service keeps nothing; returns its id, or null without storage. */
export function rememberPlan({ name, size }, report, outcome) {
  const id = [...crypto.getRandomValues(new Uint8Array(PLAN_BYTES))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const kept = [{ id, name, report }, ...plans()].slice(0, PLANS_KEPT);
  while (kept.length && !keepPlans(kept)) kept.pop(); // storage is small: the oldest go first
  if (!kept.length) return null;
  remember({ id, name, bytes: size, created: new Date().toISOString(), status: "inspected", outcome });
  return id;
}

function plans() {
  const found = stored(PLANS);
  return found.filter((plan) => ID.test(plan?.id ?? "") && plan.report);
}

function stored(place) {
  try {
    const entries = JSON.parse(localStorage.getItem(place) ?? "[]");
    return Array.isArray(entries) ? entries : [];
  } catch {
    return []; // no storage, or not this page's data
  }
}

function keepPlans(entries) {
  return put(PLANS, entries);
}

function keep(entries) {
  put(PLACE, entries); // a browser without storage has no history; folding works without it
}

function put(place, entries) {
  try {
    localStorage.setItem(place, JSON.stringify(entries));
    return true;
  } catch {
    return false;
  }
}

/** The list with a button to forget each entry; `onChange` is called after each. */
export function pastList(onChange) {
  const entries = past();
  if (!entries.length) return h("p", { class: "soft" }, "Models you fold or inspect are listed here, in this browser only.");
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
  const facts = [when(entry.created), Number.isFinite(entry.bytes) ? fileSize(entry.bytes) : "", printable(entry.outcome ?? "")];
  return h(
    "li",
    {},
    h("span", { class: `dot ${["done", "failed"].includes(entry.status) ? entry.status : ""}`.trim(), "aria-hidden": "true" }),
    h(
      "div",
      { class: "what" },
      h("a", { href: `#/${entry.status === "inspected" ? "plans" : "jobs"}/${entry.id}` }, name),
      h("div", { class: "soft" }, facts.filter(Boolean).join(" · ")),
    ),
    h("button", { type: "button", class: "quiet", "aria-label": `Remove ${name} from this list`, onclick: drop }, "Remove"),
  );
}

function when(created) {
  const date = new Date(created);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
