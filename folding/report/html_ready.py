"""The sections of the HTML report beyond folding: what was changed, what a runtime makes of the file, what is next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.report.digest import counted, printable, size_change
from folding.report.elements import closable, code, codes, section, table
from folding.report.pictures import share, tag
from folding.report.ready import (
    SEVERITY_WORDS,
    changes_by_stage,
    equalization,
    finding_groups,
    loss,
    staying_uneven,
    staying_wide,
    unevenness,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from xml.etree.ElementTree import Element

    from folding.report.changes import Change
    from folding.report.model import Report
    from folding.report.ready import FindingGroup

EXAMPLES_SHOWN = 3
SEVERITY_CLASSES = {"fails": "wrong", "falls-back": "wrong", "unfused": "stays"}
NAMES_OPEN = 12  # longer lists of names are closed at first


def changes(report: Report) -> Iterator[Element]:
    """A table of the changes of each stage, if there were any."""
    for title, kinds in changes_by_stage(report.changes):
        caption = f"{sum(change.count for change in kinds):,} in all"
        yield section(
            title, title.split()[0].lower(), table(caption, ("What", "Number", "For example"), map(_change, kinds))
        )


def equalized(report: Report) -> Iterator[Element]:
    """The values between weights whose channels were scaled; a card for each reason why others stay."""
    if report.equalized:
        said = [tag("p", unevenness(report))] * bool(unevenness(report))
        cards = [
            _staying(f"{counted(len(those), 'value')} as before", reason, [one.value for one in those])
            for reason, those in staying_uneven(report)
        ]
        yield section(equalization(report), "equalized", said, cards)


def types(report: Report) -> Iterator[Element]:
    """Which operators stay in float32, in a picture and by the reason; and what constants lost."""
    groups, total = staying_wide(report), len(report.types)
    if total:
        wide = sum(len(those) for _, those in groups)
        picture = share(total - wide, total, f"{total - wide:,} of {total:,} operators in 16 bits")
        cards = [
            _staying(f"{counted(len(those), 'operator')} in float32", reason, [placed.label for placed in those])
            for reason, those in groups
        ]
        yield section("Types", "types", tag("p", f"{total - wide:,} of {total:,} operators in 16 bits"), picture, cards)
    if report.rounded:
        rows = [tag("li", code(one.name), f": {loss(one)}") for one in report.rounded]
        yield section("Constants that lose more than digits in 16 bits", "rounded", tag("ul", rows))


def _staying(title: str, reason: str, labels: Sequence[str]) -> Element:
    names = tag("ul", [tag("li", code(label)) for label in labels])
    listed = closable(names, len(labels), is_open=len(labels) <= NAMES_OPEN)
    return tag("article", tag("h3", title), tag("p", printable(reason)), listed)


def findings(report: Report) -> Iterator[Element]:
    """What the runtime refuses, leaves to the CPU or runs in parts, a card for each kind."""
    groups = finding_groups(report.findings)
    if groups:
        cards = [_finding(group, f"finding-{i}") for i, group in enumerate(groups, 1)]
        yield section(f"What {printable(report.runtime)} does not run as it is", "findings", cards)


def recipe(report: Report) -> Iterator[Element]:
    """How to hand the file to the runtime."""
    if report.recipe:
        lines = tag("pre", tag("code", "\n".join(map(printable, report.recipe))))
        yield section("What to do with the file", "next", lines)


def _change(change: Change) -> Element:
    grown = f", {size_change(0, change.nbytes)}" if change.nbytes else ""
    examples = codes(change.examples[:EXAMPLES_SHOWN])
    number = tag("td", f"{change.count:,}", class_="number", data_label="Number")
    return tag("tr", tag("th", printable(change.kind + grown), scope="row"), number, tag("td", examples, class_="to"))


def _finding(group: FindingGroup, anchor: str) -> Element:
    first = group.first
    chip = tag("span", SEVERITY_WORDS[first.severity], class_=f"chip {SEVERITY_CLASSES[first.severity]}")
    advice = [tag("dt", "What to do"), tag("dd", printable(first.advice), class_="todo")] if first.advice else []
    source = [tag("dt", "Source"), tag("dd", printable(first.source), class_="soft")] if first.source else []
    why = tag("dd", printable(first.sentence), " ", tag("code", first.code, class_="code"))
    names = tag("ul", [tag("li", code(finding.node)) for finding in group.findings])
    return tag(
        "article",
        tag("h3", printable(f"{counted(len(group.findings), 'operator')}: {group.operators} "), chip),
        tag("dl", tag("dt", "Why"), why, advice, source),
        closable(names, len(group.findings), is_open=len(group.findings) <= NAMES_OPEN),
        id=anchor,
    )
