// Downloads of the folded model and its report: by a plain link, or by a request if a key must be sent.

import { Problem, ask, hasKey } from "./api.js";
import { announce, h } from "./dom.js";
import { heading } from "./problems.js";

/** The button that downloads the folded model. */
export function downloads(job, text = "Download the folded model", kind = "primary") {
  const isSeveral = job.name.toLowerCase().endsWith(".zip") || job.options.digest || job.options.triton;
  const name = nameOf(job, isSeveral ? ".zip" : ".onnx");
  if (!hasKey()) return h("a", { class: `button ${kind}`, href: job.result.href, download: name }, text);
  return saving(text, kind, job.result.href, "*/*", name);
}

/** The buttons that download the report in its two forms. */
export function reports(job) {
  return [
    saving("Report as HTML", "link", job.report.href, "text/html", nameOf(job, ".report.html")),
    saving("Report as JSON", "link", job.report.href, "application/json", nameOf(job, ".report.json")),
  ];
}

function nameOf(job, suffix) {
  return `${job.name.replace(/\.(onnx|zip)$/i, "")}.folded${suffix}`;
}

function saving(text, kind, href, accept, name) {
  const button = h("button", { type: "button", class: kind, onclick: () => save(button, href, accept, name) }, text);
  return button;
}

/** Pass the response to the browser's downloads; an error is shown beside the button. */
async function save(button, href, accept, name) {
  button.parentElement.querySelector(".complaint")?.remove();
  try {
    const url = URL.createObjectURL(await (await ask(href, { accept })).blob());
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url));
  } catch (error) {
    const text = error instanceof Problem ? `${heading(error)}. ${error.detail}` : "The download broke off. Try again.";
    button.after(h("span", { class: "complaint" }, text));
    announce(text);
  }
}
