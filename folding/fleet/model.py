"""The report over a fleet: the outcome of each of many models, and what stays in all of them. Plain data."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from folding.report.digest import code_of, is_bn, tally
from folding.report.gates import staying
from folding.report.model import json_ready

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from folding.report.digest import Tally
    from folding.report.gates import Broken, Gates
    from folding.report.model import Outcome, Refusal, Report


@dataclass(frozen=True)
class Entry:
    """The outcome of one model.

    Attributes:
        source: the path of the model.
        target: the path of the folded model; None for a dry run and for `inspect`.
        code: the exit code that a run with this model alone would have had.
        error: the sentence of the error that ended it; "" if there was none.
        is_done_before: whether an earlier run had folded the same content with the same options and version.
        sha256: the digests of the model's files, by their names.
        sha256_after: the digests of the files that were written, by their names.
        gates: the gates that it does not pass.
        report: its report; None where it ended without one.
    """

    source: str
    target: str | None
    code: int = 0
    error: str = ""
    is_done_before: bool = False
    sha256: Mapping[str, str] | None = None
    sha256_after: Mapping[str, str] | None = None
    gates: tuple[Broken, ...] = ()
    report: Report | None = None

    def judged(self, gates: Gates, code: int) -> Entry:
        """The same with the gates that it does not pass, and then with this exit code; an error's own code stays."""
        if self.report is None or self.error:
            return self
        broken = gates.broken(self.report)
        return replace(self, gates=broken, code=code if broken else self.code)

    @property
    def status(self) -> str:
        """In a few words: failed, gate not passed, done before, folded (or can be folded) or unchanged."""
        if self.error:
            return "failed"
        if self.gates:
            return "gate not passed"
        if self.is_done_before:
            return "done before"
        if self.report is None or not self.report.changed:
            return "unchanged"
        return "can be folded" if self.target is None else "folded"


@dataclass(frozen=True)
class Staying:
    """BatchNormalizations of a fleet that stay for the same two codes.

    Attributes:
        backward: why the first of them does not move backward.
        forward: why it does not move forward.
        nodes: the names of each, behind the path of its model.
    """

    backward: Refusal | None
    forward: Refusal | None
    nodes: tuple[tuple[str, str], ...]

    @property
    def codes(self) -> str:
        """The different codes: ``zero-padding, other-consumer``."""
        return ", ".join(dict.fromkeys(filter(None, (code_of(self.backward), code_of(self.forward)))))

    @property
    def models(self) -> tuple[str, ...]:
        """The models that have some."""
        return tuple(dict.fromkeys(model for model, _ in self.nodes))

    @property
    def sentences(self) -> tuple[str, ...]:
        """Why, and what to do about it."""
        met = [refusal for refusal in (self.backward, self.forward) if refusal is not None]
        reasons = dict.fromkeys(refusal.reason for refusal in met)
        hints = dict.fromkeys(f"what to do: {refusal.hint}" for refusal in met if refusal.hint)
        return (*reasons, *hints)


@dataclass(frozen=True)
class FleetReport:
    """The report of a run over several models; `as_dict` is the JSON form and its keys are stable.

    Attributes:
        version: the version of bnfold.
        code: the exit code of the run: the worst of all models.
        entries: the outcome of each model.
        seconds: how long it took, in seconds.
    """

    version: str
    code: int
    entries: tuple[Entry, ...]
    seconds: float = 0.0

    @property
    def normalizations(self) -> Tally:
        """How many BatchNormalizations were folded, of the models that did not end with an error."""
        reports = [entry.report for entry in self.entries if entry.report is not None and not entry.error]
        return tally((outcome for report in reports for outcome in report.outcomes), bn=True)

    @property
    def statuses(self) -> dict[str, int]:
        """How many models have which status, in a fixed order."""
        order = ("folded", "can be folded", "done before", "unchanged", "gate not passed", "failed")
        counts = Counter(entry.status for entry in self.entries)
        return {status: counts[status] for status in order if counts[status]}

    @property
    def sizes(self) -> tuple[int, int]:
        """The bytes of the models before and after, of those that did not end with an error."""
        reports = [entry.report for entry in self.entries if entry.report is not None and not entry.error]
        return sum(report.bytes_before for report in reports), sum(report.bytes_after for report in reports)

    def to_json(self) -> str:
        """The report as one JSON document, as of one model."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-ready plain data: a summary first, then every model with its own report."""
        before, after = self.sizes
        bn = self.normalizations
        plain: dict[str, Any] = json_ready(
            {
                "version": self.version,
                "code": self.code,
                "seconds": self.seconds,
                "models": len(self.entries),
                "statuses": self.statuses,
                "normalizations": {"all": bn.total, "folded": bn.whole, "split": bn.split, "stay": bn.stay},
                "bytes_before": before,
                "bytes_after": after,
                "staying": [_plain_group(group) for group in staying_groups(self.entries)],
                "entries": [_plain(entry) for entry in self.entries],
            }
        )
        return plain


def staying_groups(entries: Iterable[Entry]) -> tuple[Staying, ...]:
    """The BatchNormalizations of all models that stay, by the codes of both directions, the largest group first."""
    found: dict[tuple[str, str], list[tuple[str, Outcome]]] = {}
    for entry in entries:
        for outcome in staying(entry.report) if entry.report else ():
            key = code_of(outcome.backward), code_of(outcome.forward)
            found.setdefault(key, []).append((entry.source, outcome))
    groups = sorted(found.values(), key=len, reverse=True)
    return tuple(
        Staying(those[0][1].backward, those[0][1].forward, tuple((source, outcome.node) for source, outcome in those))
        for those in groups
    )


def alone(report: Report, gates: tuple[Broken, ...] = (), error: str = "", code: int = 0) -> FleetReport:
    """One model as a fleet, for the forms that are only of fleets."""
    entry = Entry(report.source, report.target, code, error, gates=gates, report=report)
    return FleetReport(report.version, code, (entry,), report.seconds)


def counts(report: Report) -> tuple[int, int]:
    """How many BatchNormalizations a model has, and how many of them stay."""
    return sum(map(is_bn, report.outcomes)), len(staying(report))


def _plain(entry: Entry) -> dict[str, Any]:
    fields = asdict(replace(entry, report=None, gates=()))
    fields["gates"] = [asdict(broken) for broken in entry.gates]
    return fields | {"status": entry.status, "report": entry.report.as_dict() if entry.report else None}


def _plain_group(group: Staying) -> dict[str, Any]:
    return {
        "backward": code_of(group.backward),
        "forward": code_of(group.forward),
        "reasons": group.sentences,
        "nodes": [{"model": model, "node": node} for model, node in group.nodes],
    }
