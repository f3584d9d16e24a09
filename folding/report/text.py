"""Render the report as text for a terminal: the verdict, then where each affine map went, then what stayed and why."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from folding.report.digest import (
    LEFT_TITLE,
    NOTHING,
    OTHER,
    STAYS_TITLE,
    beside,
    deed,
    figure,
    fold_groups,
    headline,
    is_bn,
    kept_groups,
    left_groups,
    listed,
    named,
    place_of,
    places,
    printable,
    reasons,
    scale_range,
    sensitivity,
    short_name,
    shorten,
    size_change,
    sizes,
    tally,
    verdict,
)
from folding.report.model import Leftover
from folding.report.ready import (
    SEVERITY_WORDS,
    changes_by_stage,
    equalization,
    finding_groups,
    is_refused,
    loss,
    readiness,
    staying_uneven,
    staying_wide,
    unevenness,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from folding.report.digest import FoldGroup, KeptGroup
    from folding.report.model import Outcome, OutputError, Report, Verification
    from folding.report.ready import FindingGroup

DEFAULT_WIDTH = 100
ROWS_SHOWN = 10  # lines of one group, so that one screen holds all groups of an ordinary model
OTHER_ROWS_SHOWN = 5  # of decomposed affine maps, which are many and rarely needed
NAMES_SHOWN = 4  # names after a reason, or of nodes on the way
REASONS_SHOWN = 2
INDENT = "  "
ARROW = " -> "
SCALE = "|scale| "
MORE = "--json lists all"  # what a cut list says; from Python it is another way
FAILED = "FAILED"
NEXT = "What to do with the file"
NARROWEST = 8  # minimum columns for a name on any terminal; fewer are useless

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
VERDICT_STYLES = {"verified": "green", "failed": "red", "not verified": "yellow"}


@dataclass(frozen=True)
class Page:
    """The layout: at most `width` columns, with or without colour; `more` says where cut lists are complete."""

    width: int = DEFAULT_WIDTH
    colour: bool = False
    more: str = MORE

    def paint(self, text: str, style: str) -> str:
        """The text in a style of `STYLES`, or plain if the page has no colour."""
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if self.colour and text else text

    def wrap(self, label: str, text: str, style: str = "") -> list[str]:
        """The label, with the text beside it on as many lines as needed."""
        room = max(self.width - len(label), len(MORE))
        lines = textwrap.wrap(printable(text), room, break_on_hyphens=False) or [""]
        painted = [self.paint(line, style) if style else line for line in lines]
        return [label + painted[0], *(" " * len(label) + line for line in painted[1:])]


def render_text(report: Report, *, width: int = DEFAULT_WIDTH, colour: bool = False, more: str = MORE) -> str:
    """The report for a terminal; long names are shortened and long lists cut, which the text states."""
    page = Page(width, colour, more)
    sections = [
        _opening(report, page),
        *_folded(report, page),
        *_kept(report, page),
        *_left(report, page),
        *_others(report, page),
        *_changes(report, page),
        _equalized(report, page),
        *_types(report, page),
        *_findings(report, page),
        [line for note in report.notes for line in page.wrap("Note: ", note)],
        [page.paint(NEXT, "bold"), *(INDENT + printable(line) for line in report.recipe)] if report.recipe else [],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def render_verification(verification: Verification, *, width: int = DEFAULT_WIDTH, colour: bool = False) -> str:
    """The verdict with the error of every output, for ``bnfold verify``."""
    page = Page(width, colour)
    lines = [*_verdict(verification, page), *_remarks(verification, page), *_outputs(verification.outputs, page)]
    if verification.inputs:
        lines += page.wrap("inputs: ", verification.inputs)
    return "\n".join(lines) + "\n"


def _opening(report: Report, page: Page) -> list[str]:
    lines = page.wrap("", deed(report), "dim")
    lines += page.wrap("", headline(report), "bold")
    expected = report.target is not None and report.changed
    if expected:
        lines += _verdict(report.verification, page)
        lines += _remarks(report.verification, page)
    elif report.target is not None or report.verification.status == "failed":  # a dry run has nothing to verify
        lines += page.wrap("", verdict(report.verification), "dim")
    if report.runtime:
        lines += page.wrap("", readiness(report), "red" if is_refused(report.findings) else "green")
    if report.verification.status == "failed":
        lines += ["", *_outputs(report.verification.outputs, page)]
    return [*lines, "", *_figures(report)]


def _figures(report: Report) -> Iterator[str]:
    size, after, change = sizes(report)
    rows = [
        ("BatchNormalization", f"{report.bn_before:,}", f"{ARROW}{report.bn_after:,}"),
        ("nodes", f"{report.nodes_before:,}", f"{ARROW}{report.nodes_after:,}"),
        ("size", size, f"{ARROW}{after}  ({change})" if after else ""),
    ]
    label, before = (max(len(row[i]) for row in rows) for i in range(2))
    yield from (f"{INDENT}{row[0]:<{label}}  {row[1]:>{before}}{row[2]}" for row in rows)


def _verdict(verification: Verification, page: Page) -> list[str]:
    return page.wrap("", verdict(verification), VERDICT_STYLES[verification.status])


def _remarks(verification: Verification, page: Page) -> Iterator[str]:
    for text in filter(None, (sensitivity(verification), *verification.notes)):
        yield from page.wrap("", text, "dim")


def _outputs(outputs: Sequence[OutputError], page: Page) -> Iterator[str]:
    if not outputs:
        return
    shown = sorted(outputs, key=lambda output: output.ok)[:ROWS_SHOWN]
    heads = ("largest error", "tolerated", "    noise")
    numbers = INDENT.join(heads)
    longest = max(len(printable(name)) for name in ("output", *(o.name for o in shown)))
    name = max(min(longest, page.width - len(INDENT + numbers + INDENT + INDENT + FAILED)), NARROWEST)
    yield f"{INDENT}{'output':<{name}}{INDENT}{numbers}"
    for o in shown:
        figures = zip(heads, (o.max_absolute, o.tolerance, o.noise), strict=True)
        cells = INDENT.join(f"{figure(number):>{len(head)}}" for head, number in figures)
        mark = page.paint("ok", "green") if o.ok else page.paint(FAILED, "red")
        yield f"{INDENT}{shorten(printable(o.name), name):<{name}}{INDENT}{cells}{INDENT}{mark}"
    yield from _more(len(outputs) - len(shown), page)


def _folded(report: Report, page: Page) -> Iterator[list[str]]:
    for group in fold_groups(o for o in report.outcomes if is_bn(o)):
        heading = page.paint(f"{group.title}: {len(group.outcomes):,}", "bold")
        yield [heading, *_fold_lines(group, ROWS_SHOWN, page)]


def _fold_lines(group: FoldGroup, shown: int, page: Page) -> Iterator[str]:
    outcomes = group.outcomes[:shown]
    ranges = [SCALE + scale_range(o) if o.channels else "" for o in outcomes]
    room = page.width - len(INDENT + ARROW + INDENT) - max(map(len, ranges))
    rows = [(printable(named(o)), _into(o)) for o in outcomes]
    if not _fits(rows, room):
        rows = [(short_name(o), _into(o, brief=True)) for o in outcomes]
    longest, far = (max(len(row[i]) for row in rows) for i in range(2))
    left = min(longest, max(room - far, room // 2))
    right = min(far, room - left)
    for outcome, (name, place), range_ in zip(outcomes, rows, ranges, strict=True):
        arrow = ARROW if place else " " * len(ARROW)
        line = f"{INDENT}{shorten(name, left):<{left}}{arrow}{shorten(place, right):<{right}}"
        yield f"{line}{INDENT}{page.paint(range_, 'dim')}" if range_ else line.rstrip()
        if outcome.path:
            through = printable("through " + listed(outcome.path, NAMES_SHOWN))
            yield page.paint(INDENT * 2 + shorten(through, page.width - 2 * len(INDENT)), "dim")
    yield from _more(len(group.outcomes) - len(outcomes), page)


def _fits(rows: Sequence[tuple[str, str]], room: int) -> bool:
    return max(len(name) for name, _ in rows) + max(len(place) for _, place in rows) <= room


def _into(outcome: Outcome, *, brief: bool = False) -> str:
    labels = [beside(label, outcome.node) if brief else label for label in outcome.absorbed_by]
    return printable(listed(labels, NAMES_SHOWN))


def _more(number: int, page: Page) -> Iterator[str]:
    if number > 0:
        yield page.paint(f"{INDENT}... and {number:,} more; {page.more}", "dim")


def _kept(report: Report, page: Page) -> Iterator[list[str]]:
    groups = kept_groups(o for o in report.outcomes if is_bn(o))
    for i, group in enumerate(groups):
        total = sum(len(g.outcomes) for g in groups)
        heading = [page.paint(f"{STAYS_TITLE}: {total:,}", "bold")] if i == 0 else []
        yield [*heading, *_kept_lines(group, page)]


def _left(report: Report, page: Page) -> Iterator[list[str]]:
    groups = left_groups(o for o in report.outcomes if is_bn(o))
    for i, group in enumerate(groups):
        total = sum(len(g.outcomes) for g in groups)
        heading = [page.paint(f"{LEFT_TITLE}: {total:,}", "bold")] if i == 0 else []
        yield [*heading, *_kept_lines(group, page)]


def _kept_lines(group: KeptGroup, page: Page) -> Iterator[str]:
    count = f"{INDENT}{len(group.outcomes):,} x "
    lead, margin = count, " " * len(count)
    for way, refusals in group.refusals:
        where = places(refusals)
        at = f", at {shorten(listed(where, 1), page.width // 2)}" if where else ""
        yield from page.wrap(f"{lead}{way:<11}", f"{reasons(refusals, REASONS_SHOWN)}{at} [{refusals[0].code}]")
        lead = margin
    for hint in group.hints:
        yield from page.wrap(f"{margin}{'what to do':<11}", hint, "dim" if hint == NOTHING else "yellow")
    names = [_name(outcome, page.width // 2) for outcome in group.outcomes]
    more = f"; {page.more}" if len(names) > NAMES_SHOWN else ""
    yield from page.wrap(f"{lead if lead == count else margin}{'nodes':<11}", listed(names, NAMES_SHOWN) + more, "dim")


def _name(outcome: Outcome | Leftover, width: int) -> str:
    """The name of what stays; of what is left of a map also its operator and its place."""
    name = named(outcome) if len(named(outcome)) <= width else shorten(short_name(outcome), width)
    if not isinstance(outcome, Leftover):
        return name
    return f"{outcome.operator} {name} {shorten(place_of(outcome), width)}"


def _others(report: Report, page: Page) -> Iterator[list[str]]:
    others = [o for o in report.outcomes if not is_bn(o)]
    gone = tally(others, bn=False)
    if not others:
        return
    heading = f"{OTHER.capitalize()} (Mul, Add, ...): {gone.whole + gone.split:,} of {gone.total:,} folded"
    lines = [page.paint(heading, "bold")]
    for group in fold_groups(others):
        lines += [f"{INDENT}{group.title}: {len(group.outcomes):,}"]
        lines += [INDENT + line for line in _fold_lines(group, OTHER_ROWS_SHOWN, replace(page, width=page.width - 2))]
    for verb, groups in (("kept", kept_groups(others)), ("left", left_groups(others))):
        for kept in groups:
            said = f"{kept.operators} {verb}; {kept.sentence(1)}"
            lines += page.wrap(f"{INDENT}{len(kept.outcomes):,} x ", said)
    yield lines


def _changes(report: Report, page: Page) -> Iterator[list[str]]:
    for title, changes in changes_by_stage(report.changes):
        number = max(len(f"{change.count:,}") for change in changes)
        lines = [page.paint(f"{title}: {sum(change.count for change in changes):,}", "bold")]
        for change in changes:
            grown = f", {size_change(0, change.nbytes)}" if change.nbytes else ""
            lines += page.wrap(f"{INDENT}{change.count:>{number},} x ", change.kind + grown)
        yield lines


def _equalized(report: Report, page: Page) -> list[str]:
    """The values between weights whose channels were scaled, and why the others stay as they are."""
    lines = [page.paint(equalization(report), "bold")] if report.equalized else []
    lines += page.wrap(INDENT, unevenness(report)) if unevenness(report) else []
    for reason, those in staying_uneven(report):
        lines += _reason(f"stay: {reason}", [one.value for one in those], page)
    return lines


def _reason(reason: str, labels: Sequence[str], page: Page) -> list[str]:
    """How many things have a reason, and their names."""
    count = f"{INDENT}{len(labels):,} x "
    names = [shorten(printable(label), page.width // 2) for label in labels]
    return page.wrap(count, reason) + page.wrap(" " * len(count), listed(names, NAMES_SHOWN), "dim")


def _types(report: Report, page: Page) -> Iterator[list[str]]:
    """What stays in float32, by the reason, and what rounding did to constants."""
    lines = []
    for reason, those in staying_wide(report):
        lines += _reason(reason, [placed.label for placed in those], page)
    if lines:
        total = sum(len(those) for _, those in staying_wide(report))
        yield [page.paint(f"Stays in float32, and why: {total:,}", "bold"), *lines]
    lost = [f"{INDENT}{shorten(printable(one.name), page.width // 2)}: {loss(one)}" for one in report.rounded]
    if lost:
        heading = page.paint(f"Constants that lose more than digits in 16 bits: {len(lost):,}", "bold")
        yield [heading, *lost[:ROWS_SHOWN], *_more(len(lost) - ROWS_SHOWN, page)]


def _findings(report: Report, page: Page) -> Iterator[list[str]]:
    groups = finding_groups(report.findings)
    for i, group in enumerate(groups):
        title = f"What {printable(report.runtime)} does not run as it is: {len(report.findings):,}"
        heading = [page.paint(title, "bold")]
        yield [*(heading if i == 0 else []), *_finding_lines(group, page)]


def _finding_lines(group: FindingGroup, page: Page) -> Iterator[str]:
    count, first = f"{INDENT}{len(group.findings):,} x ", group.first
    margin = " " * len(count)
    word = SEVERITY_WORDS[first.severity]
    yield from page.wrap(f"{count}{word:<11}", f"{group.operators}: {first.sentence} [{first.code}]")
    if first.advice:
        yield from page.wrap(f"{margin}{'what to do':<11}", first.advice, "yellow")
    names = [shorten(printable(finding.node), page.width // 2) for finding in group.findings]
    more = f"; {page.more}" if len(names) > NAMES_SHOWN else ""
    yield from page.wrap(f"{margin}{'nodes':<11}", listed(names, NAMES_SHOWN) + more, "dim")
