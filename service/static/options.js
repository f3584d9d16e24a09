// The form of options, made from the service's own description of its parameters.

import { h } from "./dom.js";
import { printable, sentence, titled } from "./words.js";

const FOLD = "/v1/fold";
const NOT_AN_OPTION = new Set(["name", "webhook"]); // the name is that of the file; a user of the page needs no webhook

/** The options of a fold as `{ name, kind, choices, initial, about }`, read from the service's OpenAPI description. */
export function optionsOf(api) {
  const { parameters = [] } = api.paths[FOLD].post;
  const query = parameters.map((one) => resolved(api, one)).filter((one) => one.in === "query");
  return query.filter(({ name }) => !NOT_AN_OPTION.has(name)).map((one) => optionOf(api, one));
}

function optionOf(api, parameter) {
  const schema = essential(api, parameter.schema ?? {});
  const about = parameter.description ?? parameter.schema?.description ?? schema.description ?? "";
  const initial = parameter.schema?.default ?? schema.default ?? null;
  return { name: parameter.name, kind: kindOf(schema), choices: schema.enum ?? [], initial, about };
}

/** The schema itself: references are resolved, and null is removed from choices. */
function essential(api, schema) {
  const choices = schema.anyOf ?? schema.allOf ?? schema.oneOf;
  if (schema.$ref) return essential(api, resolved(api, schema));
  return choices ? essential(api, choices.find(({ type }) => type !== "null") ?? {}) : schema;
}

function resolved(api, part) {
  if (!part.$ref) return part;
  return part.$ref.split("/").slice(1).reduce((place, key) => place[key], api);
}

function kindOf(schema) {
  if (schema.enum) return "choice";
  return { boolean: "flag", array: "list", number: "number", integer: "number" }[schema.type] ?? "text";
}

/** The controls of all options; `onChange` is called whenever one changes. */
export function optionControls(options, onChange) {
  const controls = options.map((option) => control(option, onChange));
  return h("div", { class: "options" }, controls);
}

function control(option, onChange) {
  const about = { "aria-describedby": `about-${option.name}` };
  const common = { id: `option-${option.name}`, name: option.name, ...about, oninput: onChange };
  const label = h("label", { for: common.id }, titled(option.name));
  const line = h("p", { id: `about-${option.name}`, class: "soft" }, sentence(printable(option.about)));
  if (option.kind === "flag") {
    const box = h("input", { type: "checkbox", ...common });
    box.checked = option.initial === true;
    return h("div", { class: "option flag" }, box, label, line);
  }
  return h("div", { class: "option" }, label, field(option, common), line);
}

function field(option, common) {
  const initial = option.initial ?? "";
  if (option.kind === "choice") {
    const every = option.initial === null ? ["", ...option.choices] : option.choices; // the first means none
    const choices = every.map((choice) => h("option", { value: choice, selected: choice === initial }, choice || "none"));
    return h("select", common, choices);
  }
  if (option.kind === "list") {
    return h("textarea", { ...common, rows: 2, placeholder: "one per line", spellcheck: "false", autocapitalize: "off" });
  }
  const type = option.kind === "number" ? { type: "number", min: 0, step: "any" } : { type: "text" };
  return h("input", { ...common, ...type, value: initial, autocomplete: "off" });
}

/** The options in the form that differ from their defaults, as the query of a request. */
export function chosen(options, form) {
  const query = new URLSearchParams();
  for (const option of options) for (const value of values(option, form.elements[option.name])) query.append(option.name, value);
  return query;
}

function values(option, element) {
  if (option.kind === "flag") return element.checked === (option.initial === true) ? [] : [String(element.checked)];
  if (option.kind === "list") return element.value.split("\n").map((line) => line.trim()).filter(Boolean);
  const value = element.value.trim();
  return value === "" || value === String(option.initial ?? "") ? [] : [value];
}
