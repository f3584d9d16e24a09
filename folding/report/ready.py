"""Digest of what a report says beyond folding: what was changed, by kind, and what a runtime makes of the file."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from folding.report.digest import counted, figure, is_written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from folding.report.changes import Change
    from folding.report.equalized import Equalized
    from folding.report.findings import Finding
    from folding.report.model import Report
    from folding.report.types import Placed, Rounded

STAGE_TITLES = {
    "converted": "Converted",
    "cleaned": "Removed or computed ahead",
    "fused": "Written as one operator",
    "lowered": "Stored in 16 bits",
}
# What the operators of a finding do, for one and for more of them.
SEVERITY_VERBS = {
    "fails": ("is refused", "are refused"),
    "falls-back": ("runs on the CPU", "run on the CPU"),
    "unfused": ("runs in parts", "run in parts"),
}
SEVERITY_WORDS = {"fails": "refused", "falls-back": "on the CPU", "unfused": "in parts"}


@dataclass(frozen=True)
class FindingGroup:
    """Findings with the same severity, code and sentence."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """One of them, for what they share."""
        return self.findings[0]

    @property
    def operators(self) -> str:
        """The different operators: ``NonZero, TopK``."""
        return ", ".join(dict.fromkeys(finding.operator for finding in self.findings))


def changes_by_stage(changes: Iterable[Change]) -> Iterator[tuple[str, tuple[Change, ...]]]:
    """The title of every stage that changed something, and its changes, one for each kind, the largest first."""
    kinds = merged(changes)
    for stage, title in STAGE_TITLES.items():
        chosen = tuple(sorted((c for c in kinds if c.stage == stage), key=lambda c: -c.count))
        if chosen:
            yield title, chosen


def merged(changes: Iterable[Change]) -> tuple[Change, ...]:
    """The same changes, those of one kind as one."""
    from folding.report.changes import EXAMPLES, Change  # noqa: PLC0415  few reports have any

    found: dict[tuple[str, str], Change] = {}
    for change in changes:
        known = found.get((change.stage, change.kind))
        found[change.stage, change.kind] = change if known is None else Change(
            change.stage,
            change.kind,
            known.count + change.count,
            (known.examples + change.examples)[:EXAMPLES],
            "",
            known.nbytes + change.nbytes,
        )  # fmt: skip
    return tuple(found.values())


def finding_groups(findings: Iterable[Finding]) -> tuple[FindingGroup, ...]:
    """The findings in groups: what fails first, then what falls back, then what runs unfused; large groups first."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.code, finding.sentence), []).append(finding)
    order = list(SEVERITY_VERBS)
    ranked = sorted(groups.items(), key=lambda item: (order.index(item[0][0]), -len(item[1])))
    return tuple(FindingGroup(tuple(group)) for _, group in ranked)


def staying_wide(report: Report) -> tuple[tuple[str, tuple[Placed, ...]], ...]:
    """With a precision, the operators that stay in float32, by the reason, the most frequent reason first."""
    groups: dict[str, list[Placed]] = {}
    for placed in report.types:
        if placed.reason:
            groups.setdefault(placed.reason, []).append(placed)
    return tuple((reason, tuple(those)) for reason, those in sorted(groups.items(), key=lambda item: -len(item[1])))


def equalization(report: Report) -> str:
    """How many values had their channels equalized; "" where none was looked at."""
    if not report.equalized:
        return ""
    scaled = sum(not one.code for one in report.equalized)
    verb = "can be equalized" if report.target is None else "equalized"
    return f"Channels {verb} for 8 bits: {scaled:,} of {counted(len(report.equalized), 'value')} between weights"


def unevenness(report: Report) -> str:
    """How uneven the channels were that were equalized, and are, in one sentence; "" where none were."""
    scaled = [one for one in report.equalized if not one.code]
    if not scaled:
        return ""
    low, high = ([getattr(one, name) for one in scaled] for name in ("before", "after"))
    typical, most = ([figure(of(found)) for found in (low, high)] for of in (statistics.median, max))
    said = f"the largest channel of a weight has {typical[0]} times the range of a typical one, and then {typical[1]}"
    return f"{said} (median over the values; at most {most[0]}, and then {most[1]})"


def staying_uneven(report: Report) -> tuple[tuple[str, tuple[Equalized, ...]], ...]:
    """The values whose channels stay as they are, by the reason with its code, the most frequent reason first."""
    groups: dict[str, list[Equalized]] = {}
    for one in report.equalized:
        if one.code:
            groups.setdefault(f"{one.reason} [{one.code}]", []).append(one)
    return tuple((reason, tuple(those)) for reason, those in sorted(groups.items(), key=lambda item: -len(item[1])))


def loss(rounded: Rounded) -> str:
    """What rounding did to a constant: ``3 clamped to 65504, 12 subnormal of 864``."""
    counts = (
        (rounded.clamped, f"clamped to {rounded.bound:g}"),
        (rounded.flushed, "became zero"),
        (rounded.subnormal, "subnormal"),
    )
    return f"{', '.join(f'{number:,} {what}' for number, what in counts if number)} of {rounded.elements:,}"


def readiness(report: Report) -> str:
    """What the runtime makes of the file, in one sentence; "" where none was named."""
    if not report.runtime:
        return ""
    said = list(_severities(report.findings))
    tense = "" if is_written(report) else " as it is planned" if report.target is None else ""
    return f"{report.runtime}: {', '.join(said)}" if said else f"{report.runtime} takes every operator{tense}"


def is_refused(findings: Iterable[Finding]) -> bool:
    """Whether the runtime cannot run the file as a whole: it refuses an operator, or leaves it to the CPU."""
    return any(finding.severity != "unfused" for finding in findings)


def _severities(findings: Sequence[Finding]) -> Iterator[str]:
    for severity, (one, more) in SEVERITY_VERBS.items():
        number = sum(finding.severity == severity for finding in findings)
        if number:
            noun = "idiom" if severity == "unfused" else "operator"
            yield f"{counted(number, noun)} {one if number == 1 else more}"
