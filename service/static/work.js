// The work on models: uploads them, follows their jobs until they have ended, and shows the outcome.

import { Problem, STOPPED, ask, askJson, follow, jobPath, rememberKey, upload } from "./api.js";
import { headline } from "./digest.js";
import { announce, byId, fill, focusOn, h } from "./dom.js";
import { downloads, reports } from "./downloads.js";
import { Many, remembered } from "./many.js";
import { forget, planOf, remember, rememberPlan } from "./past.js";
import { asksForKey, heading, problemCard } from "./problems.js";
import { progressPanel } from "./progress.js";
import { reportView } from "./report.js";
import { grouped, printable, titled } from "./words.js";

const [FOLD, INSPECT] = ["v1/fold", "v1/inspect"];

export class Work {
  #ending = new AbortController(); // ends the running requests when the user goes elsewhere
  #sent = new Map(); // the model and the query of each job: this page can send them again
  #planned = new Map(); // the same for plans
  #onAnother;
  #onChange;

  /** `onAnother()` starts with another model, `onChange(models)` with the same models and other options. */
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
      if (isPlan) this.#planDone(answer, model, query);
      else await this.#accepted(answer, model, query, panel, signal);
    });
  }

  /** Follow a job, or show the outcome of one that has ended. */
  open(id) {
    const [known] = remembered([id]);
    const model = this.#sent.get(id)?.model ?? known;
    return this.#shown(model, () => this.open(id), (panel, signal) => this.#watch(id, panel, signal), id);
  }

  /** Upload several models, `{ file, query }`, one after the other, and follow them all. */
  sendMany(models) {
    const files = models.map(({ file }) => file);
    return this.#listed(files, () => this.sendMany(models), this.#changed(files), async (list, signal) => {
      const stay = (event) => event.preventDefault(); // leaving the page would lose the uploads
      window.addEventListener("beforeunload", stay);
      const ids = await list.send(models, FOLD, signal).finally(() => window.removeEventListener("beforeunload", stay));
      for (const [i, id] of ids.entries()) if (id) this.#sent.set(id, { model: models[i].file, query: models[i].query });
      const accepted = ids.filter(Boolean);
      if (accepted.length) history.pushState(null, "", `#/jobs/${accepted.join("+")}`);
      await list.follow(ids, signal);
    });
  }

  /** Follow several jobs, or show how they ended. */
  openMany(ids) {
    return this.#listed(remembered(ids), () => this.openMany(ids), null, (list, signal) => list.follow(ids, signal));
  }

  async #listed(models, again, change, doing) {
    this.leave();
    this.#ending = new AbortController();
    const { signal } = this.#ending;
    const list = new Many(models, [this.#other("Other models"), change]);
    view(list.element);
    document.title = `${list.heading.textContent} · bnfold`;
    focusOn(list.heading);
    try {
      await doing(list, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem)) reportError(error);
      this.#showProblem(error instanceof Problem ? error : new Problem({ detail: String(error) }), again, null);
    }
  }

  /** Show an inspection again, of which only this browser has the report. */
  openPlan(id) {
    this.leave();
    const plan = planOf(id);
    if (plan) this.#showPlan(plan.report, plan, this.#planned.get(id));
    else this.#showProblem(new Problem({ type: "no-plan" }), null, id);
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
    remember({ id, name: job.name, bytes: job.input?.bytes, created: job.created, status: job.status, outcome });
    this.#showEnd(job, report, problem);
  }

  #showEnd(job, report, problem) {
    const sent = this.#sent.get(job.id);
    const links = [problem ? null : downloads(job), this.#other(), sent && this.#changed([sent.model])];
    if (problem) {
      const again = sent && button("Fold again", () => this.send(sent.model, sent.query, false), "primary");
      const card = problemCard(problem, [again, sent && this.#changed([sent.model]), this.#other()], rememberKey);
      view(card, report && reportView(report, job.name, reports(job), "h2"));
    } else {
      view(reportView(report, job.name, [this.#offers(report, sent, false), links, reports(job)]));
    }
    announceEnd(problem ? heading(problem) : headline(report), job.name);
  }

  #planDone(report, model, query) {
    const id = rememberPlan(model, report, headline(report));
    if (id) {
      this.#planned.set(id, { model, query });
      history.pushState(null, "", `#/plans/${id}`);
    }
    this.#showPlan(report, model, { model, query });
  }

  /** `sent` is the model with its query, if this page still has it. */
  #showPlan(report, { name }, sent) {
    const fold = sent && button("Fold it", () => this.send(sent.model, sent.query, false), "primary");
    view(reportView(report, name, [fold, this.#offers(report, sent, true), sent && this.#changed([sent.model]), this.#other()]));
    announceEnd(headline(report), name);
  }

  /** A button for each option with which more would fold; without the model, the headline alone names them. */
  #offers(report, sent, isPlan) {
    return sent && (report.offers ?? []).map(({ option, more }) => {
      const [name, value] = spelled(option);
      const query = new URLSearchParams(sent.query);
      query.set(name, value);
      const title = value === "true" ? titled(name) : `${titled(name)}: ${value}`;
      return button(`${isPlan ? "Inspect" : "Fold"} with ${title}, ${grouped(more)} more fold`, () => this.send(sent.model, query, isPlan), "offer");
    });
  }

  #showProblem(problem, again, id) {
    const isGone = ["not-found", "no-plan"].includes(problem.slug) && id !== null;
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
    announceEnd(heading(problem), "");
  }

  #other(text = "Another model") {
    return button(text, this.#onAnother);
  }

  #changed(models) {
    return button("Other options", () => this.#onChange(models));
  }
}

/** The name and the value of an option that a report offers: `--clamp always`, or `clamp='always'` to Python. */
function spelled(option) {
  const [, name, value = "true"] = /^-{0,2}([\w-]+)(?:[= ]['"]?(.*?)['"]?)?$/.exec(printable(option)) ?? [];
  return [String(name).replaceAll("-", "_"), value.toLowerCase()];
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
function announceEnd(text, name) {
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
