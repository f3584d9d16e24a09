// The work on one model at a time: uploads it, follows its job until it has ended, and shows the outcome.

import { Problem, STOPPED, ask, askJson, follow, jobPath, rememberKey, upload } from "./api.js";
import { headline } from "./digest.js";
import { announce, byId, fill, focusOn, h } from "./dom.js";
import { downloads, reports } from "./downloads.js";
import { forget, remember } from "./past.js";
import { asksForKey, heading, problemCard } from "./problems.js";
import { progressPanel } from "./progress.js";
import { reportView } from "./report.js";
import { printable } from "./words.js";

const [FOLD, INSPECT] = ["v1/fold", "v1/inspect"];

export class Work {
  #ending = new AbortController(); // ends the running requests when the user goes elsewhere
  #sent = new Map(); // the model and the query of each job: this page can send them again
  #onAnother;
  #onChange;

  /** `onAnother()` starts with another model, `onChange(model)` with the same model and other options. */
  constructor({ onAnother, onChange }) {
    this.#onAnother = onAnother;
    this.#onChange = onChange;
  }

  /** End the running requests. */
  leave() {
    this.#ending.abort();
  }

  /** Upload a model and fold it, or only ask what folding would do. */
  send(model, query, isPlan) {
    return this.#shown(model, () => this.send(model, query, isPlan), async (panel, signal) => {
      const { sent, stop } = upload(`${isPlan ? INSPECT : FOLD}?${query}`, model, panel.uploaded);
      panel.onCancel(stop);
      signal.addEventListener("abort", stop);
      const stay = (event) => event.preventDefault(); // leaving the page would lose the upload
      window.addEventListener("beforeunload", stay);
      const answer = await sent.finally(() => window.removeEventListener("beforeunload", stay));
      if (signal.aborted) return;
      if (isPlan) this.#showPlan(answer, model, query);
      else await this.#accepted(answer, model, query, panel, signal);
    });
  }

  /** Follow a job, or show the outcome of one that has ended. */
  open(id) {
    const model = this.#sent.get(id)?.model ?? { name: "Your model", size: null };
    return this.#shown(model, () => this.open(id), (panel, signal) => this.#watch(id, panel, signal), id);
  }

  /** Run `doing` and show its progress; a problem is shown with a button to retry. */
  async #shown(model, again, doing, id = null) {
    this.leave();
    this.#ending = new AbortController();
    const { signal } = this.#ending;
    const panel = progressPanel(model);
    view(panel.element);
    focusOn(panel.heading);
    try {
      await doing(panel, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem)) reportError(error); // a bug of this page, or an unexpected response
      this.#showProblem(error instanceof Problem ? error : new Problem({ detail: String(error) }), again, id);
    } finally {
      panel.close();
    }
  }

  #accepted(job, model, query, panel, signal) {
    this.#sent.set(job.id, { model, query });
    remember({ id: job.id, name: model.name, bytes: model.size, created: job.created, status: job.status });
    history.pushState(null, "", `#/jobs/${job.id}`);
    return this.#watch(job.id, panel, signal);
  }

  async #watch(id, panel, signal) {
    panel.onCancel(() => cancel(id));
    const job = await follow(id, { signal, onSilence: panel.silent, onJob: panel.show });
    const report = job.report && (await askJson(job.report.href, { signal }));
    if (signal.aborted) return;
    const problem = job.status === "done" ? null : new Problem(job.problem ?? STOPPED);
    const outcome = problem ? heading(problem) : headline(report);
    remember({ id, name: job.name, bytes: job.input?.bytes, created: job.created, status: job.status, told: outcome });
    this.#showEnd(job, report, problem);
  }

  #showEnd(job, report, problem) {
    const sent = this.#sent.get(job.id);
    const links = [problem ? null : downloads(job), this.#other(), sent && this.#changed(sent.model)];
    if (problem) {
      const again = sent && button("Fold again", () => this.send(sent.model, sent.query, false), "primary");
      const card = problemCard(problem, [again, sent && this.#changed(sent.model), this.#other()], rememberKey);
      view(card, report && reportView(report, job.name, reports(job), "h2"));
    } else {
      view(reportView(report, job.name, [links, reports(job)]));
    }
    told(problem ? heading(problem) : headline(report), job.name);
  }

  #showPlan(report, model, query) {
    const fold = button("Fold it", () => this.send(model, query, false), "primary");
    view(reportView(report, model.name, [fold, this.#changed(model), this.#other()]));
    told(headline(report), model.name);
  }

  #showProblem(problem, again, id) {
    const isGone = problem.slug === "not-found" && id !== null;
    const drop = () => {
      forget(id);
      this.#onAnother();
    };
    const withKey = (key) => {
      rememberKey(key);
      again();
    };
    const retry = asksForKey(problem) ? null : button("Try again", again, "primary");
    view(problemCard(problem, [isGone ? button("Remove it from my list", drop) : retry, this.#other()], withKey));
    told(heading(problem), "");
  }

  #other() {
    return button("Another model", this.#onAnother);
  }

  #changed(model) {
    return button("Other options", () => this.#onChange(model));
  }
}

function view(...children) {
  byId("start").hidden = true;
  byId("job").hidden = false;
  fill(byId("job"), children);
}

function button(text, onclick, kind = null) {
  return h("button", { type: "button", class: kind, onclick: () => onclick() }, text);
}

/** Show how it ended: in the title, for screen readers, and with the focus. */
function told(text, name) {
  document.title = [text, printable(name), "bnfold"].filter(Boolean).join(" · ");
  announce(text);
  window.scrollTo(0, 0);
  focusOn(byId("job").querySelector("h1"));
}

async function cancel(id) {
  try {
    await ask(jobPath(id), { method: "DELETE" });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    announce(heading(error)); // the job reports how it ended, even if cancelling failed
  }
}
