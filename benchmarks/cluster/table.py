"""The results as a page."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MIB = 1 << 20
SETTLED = 5.0  # minutes that a trend leaves out, at the most a quarter of the time
HEAD = """\
# A cluster

`make cluster` writes this page: PostgreSQL (with `fsync`), `rclone serve s3`, servers and workers, all on one machine
with two cores, which the clients share. Models of 3 kB, verified. The load average at the start of each part is beside
its title.
"""
KINDS = {"real": "real", "waiting": "waits 0.5 s"}
ANSWERS = ("POST 200", "POST 202", "POST 429", "POST 503")
RATES = """\
Each worker has one slot, and a network namespace of its own with a cable (veth) to that of the others. One worker and
two take turns; each run has {jobs} jobs, which are accepted before the workers start. Real folds are what the cores
allow; those that wait instead of folding show what the cluster itself takes. *Cores* is the processor time of a second
of everything but the client.
"""
LOSSES = """\
Two workers, of which one is lost when a third of the jobs is done: killed (SIGKILL), or its link set down until all are
done. *Done* are jobs whose result was fetched and has its digest. *Back*: from the link being up again until that
worker has folded.
"""
FLEET = """\
`bnfold fold IN --output-dir OUT --server URL --jobs 6` through nginx to two servers and two workers with one slot;
ended at 30 and 60 % of the outputs, and given again. The last run finds everything done.
"""
LOAD = """\
Two servers, two workers with one slot. Clients who wait for each fold got {able:.1f} folds/s of them; then {rate:.1f} a
second were offered at random times, whatever the answers were, half of them with `Prefer: respond-async`. Of four keys
two send nothing until `Retry-After` is over. `max_queue_seconds` is 10, and `ttl_seconds` 300, so that the store does
not grow without end.
"""


class Trend(NamedTuple):
    """What a thousand requests add, by the line through all looks, and the first and the last of them."""

    slope: float
    first: float
    last: float


def page(known: dict[str, Any]) -> str:
    """The page of what is known so far."""
    parts: dict[str, Callable[[Any], str]] = {"namespaces": _namespaces, "fleet": _fleet, "sustained": _sustained}
    return "\n".join([HEAD, *(show(known[name]) for name, show in parts.items() if name in known)])


def trend(samples: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> Trend:
    """What a thousand requests add to a value, when the load has settled."""
    since = _settled(samples) * 60
    settled = [one for one in samples if one["seconds"] >= since]
    values = [value(one) for one in settled]
    thousands = np.array([one["requests"] for one in settled]) / 1000
    slope = float(np.polyfit(thousands, values, 1)[0]) if np.ptp(thousands) > 0 else 0.0
    return Trend(slope, values[0], values[-1])


def _namespaces(part: dict[str, Any]) -> str:
    rates = [row for row in part["rows"] if "rate" in row]
    lines = [*_head("folds", "workers", "folds/s, each run", "median", "ratio", "cores", "lost")]
    for kind in dict.fromkeys(row["kind"] for row in rates):
        alone = 0.0
        for workers in (1, 2):
            mine = [row for row in rates if (row["kind"], row["workers"]) == (kind, workers)]
            rate, cores = (median(row[name] for row in mine) for name in ("rate", "cores"))
            alone = alone or rate
            each = ", ".join(f"{row['rate']:.2f}" for row in mine)
            lost = sum(row["lost"] for row in mine)
            lines.append(_line(KINDS[kind], workers, each, f"{rate:.2f}", f"{rate / alone:.2f}", f"{cores:.2f}", lost))
    losses = _losses([row for row in part["rows"] if "how" in row])
    title = _title("Two workers in two network namespaces", part)
    return _joined(title, RATES.format(jobs=rates[0]["accepted"]), lines, LOSSES, losses)


def _losses(rows: list[dict[str, Any]]) -> list[str]:
    names = ("folds", "one is", "accepted", "done", "lost", "attempts", "seconds", "its jobs, elsewhere after", "back")
    lines = [*_head(*names)]
    for row in rows:
        elsewhere = "" if row["elsewhere"] is None else f", {row['elsewhere']:.1f} s"
        back = f"{row['back']:.1f} s" if "back" in row else ""
        counts = (row[name] for name in ("accepted", "whole", "lost", "attempts"))
        last = (f"{row['seconds']:.1f}", f"{row['with it']}{elsewhere}", back)
        lines.append(_line(KINDS[row["kind"]], row["how"], *counts, *last))
    return lines


def _fleet(part: dict[str, Any]) -> str:
    lines = [*_head("run of the command", "ended by", "exit code", "seconds", "models done in it", "models/s")]
    for number, run in enumerate(part["runs"], 1):
        rate = f"{run['new'] / run['seconds']:.1f}"
        lines.append(_line(number, run["stop"] or "itself", run["code"], f"{run['seconds']:.0f}", run["new"], rate))
    facts = f"""\
- {part["models"]:,} models, {part["outputs"]:,} outputs, of which {part["equal"]:,} have the digest that the ledger \
has; {part["lost"]} lost. Left over beside them: {len(part["left over"])}.
- {part["jobs"]:,} jobs in the ledger ({_counts(part["statuses"])}), {part["attempts"]:,} attempts; \
{part["more attempts"]} jobs with more than one.
- {part["folds"]:,} folds that workers have logged as done; jobs with more than one: \
{part["folded again"]}, of which the client had not cancelled {part["for nothing"]}.
- Responses to `POST /v1/fold`: {_counts(part["submissions"])}. Submitted more often than once: \
{part["submitted again"]} jobs, {part["cancelled and sent again"]} of which the interrupted client had cancelled.
- {part["seconds"]:.0f} s, {part["rate"]:.2f} models/s; {part["requests"] / part["models"]:.1f} requests each. \
Processor time of a model: {_shares(part, part["models"])}."""
    return _joined(_title("A fleet, interrupted twice", part), FLEET, lines, facts)


def _sustained(part: dict[str, Any]) -> str:
    samples = part["samples"]
    facts = f"""\
- Offered {part["offered"]:,}; held back as `Retry-After` says: {part["held back"]:,}. Responses: \
{_counts(part["answers"])}.
- `Retry-After` of those that were refused: {_counts(part["refused"]) or "none was"}.
- Accepted {sum(part["ends"].values()):,} jobs, which ended as: {_counts(part["ends"])}; {part["lost"]} lost; \
{part["attempts"]:,} attempts.
- Processor time of a job that was done: {_shares(part, max(part["ends"].get("done", 0), 1))}."""
    about = (
        f"From minute {_settled(samples):.1f} on, by the line through looks every 10 seconds; a request is one that "
        "was answered:"
    )
    title = _title("Twice the load that it can do", part)
    return _joined(title, LOAD.format(**part), _minutes(samples), about, _trends(samples), facts)


def _minutes(samples: list[dict[str, Any]]) -> list[str]:
    counted = ("minute", "offered", "200", "202", "429", "503", "done", "waiting", "oldest s")
    measured = ("servers MiB, files", "workers MiB, files", "their templates MiB", "connections")
    lines = [*_head(*counted, *measured)]
    whole = samples[-1]["seconds"] / 60
    every = 1 if whole <= 10 else 2  # minutes
    before: dict[str, Any] = {"offered": 0, "answers": {}, "done": 0}
    for minute in range(every, round(whole) + 1, every):
        one = min(samples, key=lambda sample: abs(sample["seconds"] - minute * 60))
        offered, done = (one[name] - before[name] for name in ("offered", "done"))
        counts = [one["answers"].get(name, 0) - before["answers"].get(name, 0) for name in ANSWERS]
        places = [_held(one, kind) for kind in ("server", "worker")]
        templates = ", ".join(f"{_memory(one, f'its template worker {number}'):.0f}" for number in (1, 2))
        queue = (one["queue"], f"{one['oldest']:.1f}")
        lines.append(_line(minute, offered, *counts, done, *queue, *places, templates, one["connections"]))
        before = one
    return lines


def _trends(samples: list[dict[str, Any]]) -> list[str]:
    each = [f"{what}{when}" for what in ("MiB", "files") for when in (", first and last look", " for 1,000 requests")]
    lines = [*_head("process", *each)]
    for name in samples[-1]["held"]:
        if name.startswith("its others server"):
            continue
        memory = trend(samples, lambda one, name=name: _memory(one, name))  # type: ignore[misc]
        files = trend(samples, lambda one, name=name: one["held"].get(name, {}).get("files", 0))  # type: ignore[misc]
        shown = name.replace("its others worker", "processes of folds, worker").replace("its template", "template of")
        cells = (f"{memory.first:.1f}, {memory.last:.1f}", _signed(memory.slope))
        lines.append(_line(shown, *cells, f"{files.first:.0f}, {files.last:.0f}", _signed(files.slope)))
    return lines


def _settled(samples: list[dict[str, Any]]) -> float:
    return float(min(SETTLED, samples[-1]["seconds"] / 4 / 60))


def _held(sample: dict[str, Any], kind: str) -> str:
    each = [sample["held"][f"{kind} {number}"] for number in (1, 2)]
    return "; ".join(f"{one['memory'] / MIB:.0f}, {one['files']}" for one in each)


def _memory(sample: dict[str, Any], name: str) -> float:
    return float(sample["held"].get(name, {}).get("memory", 0) / MIB)


def _shares(part: dict[str, Any], count: int) -> str:
    return ", ".join(f"{role} {seconds / count:.3f} s" for role, seconds in part["processor"].items())


def _signed(slope: float) -> str:
    text = f"{slope:+.3f}"
    return text if float(text) else "0.000"


def _counts(counted: dict[str, int]) -> str:
    return ", ".join(f"{count:,} x {name}" for name, count in sorted(counted.items()))


def _title(title: str, part: dict[str, Any]) -> str:
    return f"## {title} (load average {part['load average']:.1f})"


def _joined(*parts: str | list[str]) -> str:
    return "\n\n".join((part if isinstance(part, str) else "\n".join(part)).strip() for part in parts) + "\n"


def _head(*names: str) -> Iterable[str]:
    return (_line(*names), _line(*("---" for _ in names)))


def _line(*cells: object) -> str:
    return f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in cells)} |"
