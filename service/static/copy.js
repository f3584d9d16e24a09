// Commands to copy: a block of text with a button that puts it on the clipboard.

import { announce, fill, h } from "./dom.js";

const SAID_FOR = 2000; // milliseconds

/** A `pre` with the text, named for screen readers, and its button. */
export function copyable(text, label) {
  const block = h("pre", { class: "card", tabindex: "0", role: "group", "aria-label": label }, h("code", {}, text));
  return h("div", { class: "copyable" }, block, copyButton(block, label));
}

/** The button that copies what an element says at that moment. */
export function copyButton(element, label) {
  const button = h("button", { type: "button", class: "quiet copy", "aria-label": `Copy: ${label}` }, "Copy");
  button.addEventListener("click", async () => {
    const said = (await copied(element)) ? "Copied" : "Press Ctrl+C";
    fill(button, said);
    announce(said);
    setTimeout(() => fill(button, "Copy"), SAID_FOR);
  });
  return button;
}

/** Copy, or at least select: without TLS, browsers have no clipboard for pages. */
async function copied(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return false;
  }
}
