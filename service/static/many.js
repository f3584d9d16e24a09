// Several models at once: uploads one after the other, follows all their jobs, and lists the outcome of each.

import { Problem, STOPPED, askJson, follow, upload } from "./api.js";
import { headline } from "./digest.js";
import { announce, fill, h } from "./dom.js";
import { downloads } from "./downloads.js";
import { past, remember } from "./past.js";
import { asksForKey, heading } from "./problems.js";
import { counted, fileSize, labelled, percent, printable } from "./words.js";

/** A list of models, one line each; `buttons` are below it. */
export class Many {
  #lines;
  #buttons;
  #said = h("p", { class: "soft" });
  heading = h("h1", {});

  /** `names` are those of the models, with their sizes where they are known. */
  constructor(models, buttons) {
    this.#lines = models.map((model) => new Line(model));
    this.#buttons = buttons;
    fill(this.heading, counted(models.length, "model"));
  }

  /** The element to show. */
  get element() {
    const lines = this.#lines.map((line) => line.element);
    return h("section", { class: "card", "aria-label": "Models" }, this.heading, this.#said, h("ul", { class: "past many" }, lines), h("div", { class: "buttons" }, this.#buttons));
  }

  /** Upload all models, `{ file, query }`; returns the ids of the jobs that were accepted.
   *
   * Throws a Problem if the service asks for a key. */
  async send(models, path, signal) {
    const ids = [];
    for (const [i, { file, query }] of models.entries()) {
      fill(this.#said, `Uploading ${i + 1} of ${models.length}. Stay on this page until all are uploaded.`);
      try {
        const { sent, stop } = upload(`${path}?${query}`, file, (share) => this.#lines[i].say(`Uploading, ${percent(share)}`));
        signal.addEventListener("abort", stop);
        const job = await sent;
        remember({ id: job.id, name: file.name, bytes: file.size, created: job.created, status: job.status });
        this.#lines[i].say("Uploaded");
        ids.push(job.id);
      } catch (error) {
        if (!(error instanceof Problem) || signal.aborted || asksForKey(error)) throw error;
        this.#lines[i].fails(error);
        ids.push(null);
      }
    }
    return ids;
  }

  /** Follow the jobs with these ids, null for those that are none, until all have ended. */
  async follow(ids, signal) {
    const count = () => fill(this.#said, this.#lines.every((line) => line.hasEnded) ? this.#outcome() : "You may leave this page: the folds go on, and its address leads back to them.");
    count();
    const following = ids.map(async (id, i) => {
      if (id) await this.#lines[i].follow(id, signal);
      if (!signal.aborted) count();
    });
    await Promise.all(following);
    if (!signal.aborted) announce(this.#outcome());
  }

  #outcome() {
    const done = this.#lines.filter((line) => line.isDone).length;
    return `${done} of ${counted(this.#lines.length, "model")} folded`;
  }
}

/** The models of jobs, by what this browser remembers of them. */
export function remembered(ids) {
  const known = new Map(past().map((entry) => [entry.id, entry]));
  return ids.map((id) => ({ name: known.get(id)?.name ?? "model", size: known.get(id)?.bytes ?? null }));
}

class Line {
  #dot = h("span", { class: "dot", "aria-hidden": "true" });
  #name = h("span", {});
  #said = h("div", { class: "soft" }, "Waits");
  #download = h("div", {});
  #size;
  hasEnded = false;
  isDone = false;

  constructor({ name, size }) {
    this.#size = size === null ? "" : fileSize(size);
    fill(this.#name, printable(name));
    this.element = h("li", {}, this.#dot, h("div", { class: "what" }, this.#name, this.#said), this.#download);
  }

  say(text) {
    fill(this.#said, [this.#size, text].filter(Boolean).join(" · "));
  }

  fails(problem) {
    this.#end("failed", `${heading(problem)}. ${printable(problem.detail)}`);
  }

  async follow(id, signal) {
    try {
      const job = await follow(id, { signal, onSilence: () => {}, onJob: (state) => this.#show(state) });
      const problem = job.status === "done" ? null : new Problem(job.problem ?? STOPPED);
      const report = job.report && (await askJson(job.report.href, { signal }));
      const outcome = problem ? heading(problem) : headline(report);
      remember({ id, name: job.name, bytes: job.input?.bytes, created: job.created, status: job.status, outcome });
      this.#end(job.status, labelled(outcome));
      if (!problem) fill(this.#download, downloads(job, "Download", "quiet"));
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem)) throw error;
      this.fails(error);
    }
  }

  #show(job) {
    fill(this.#name, h("a", { href: `#/jobs/${job.id}` }, printable(job.name)));
    this.say(job.status === "queued" ? "Waiting for a free worker" : job.progress > 0 ? `Folding, ${percent(job.progress)}` : "Folding");
  }

  #end(status, text) {
    this.hasEnded = true;
    this.isDone = status === "done";
    this.#dot.className = `dot ${this.isDone ? "done" : "failed"}`;
    this.say(text);
  }
}
