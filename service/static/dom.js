// Makes elements from names, attributes and text. Text stays text: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; a child is a node, a string, a list of them, or null. `onclick` and the like take functions. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element, with the arguments of `h`. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** The element on the page with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Replace all children by new ones. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/** Move the focus to an element, which need not be a control: it may be a heading. */
export function focusOn(element) {
  if (element.tabIndex < 0) element.setAttribute("tabindex", "-1");
  element.focus({ preventScroll: true });
  element.scrollIntoView({ block: "nearest" });
}

/** Go to a part of the page that begins with a heading, or opens by its first line. */
export function goTo(part) {
  if (part instanceof HTMLDetailsElement) part.open = true;
  focusOn(part.querySelector("h1, h2, h3, summary"));
  part.scrollIntoView({ block: "start" });
}

/** Announce a text to users of screen readers. */
export function announce(text) {
  const region = byId("live");
  if (region.textContent !== text) region.textContent = text;
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...nodes(children));
  return element;
}

function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== "");
}
