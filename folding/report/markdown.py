"""Render the complete report as Markdown tables for a pull request; no name from a model can become markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.report.digest import (
    LEFT_TITLE,
    OTHER,
    STATUS_WORDS,
    STAYS_TITLE,
    deed,
    figure,
    fold_groups,
    headline,
    is_bn,
    kept_groups,
    left_groups,
    named,
    printable,
    reasons,
    scale_range,
    sensitivity,
    size_change,
    sizes,
    verdict,
)
from folding.report.model import Leftover
from folding.report.ready import (
    SEVERITY_WORDS,
    changes_by_stage,
    equalization,
    finding_groups,
    loss,
    readiness,
    staying_uneven,
    staying_wide,
    unevenness,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from folding.report.digest import KeptGroup
    from folding.report.model import Outcome, OutputError, Report

MARKUP = "\\`*_[]<#|~@&$"  # what has a meaning within a line in CommonMark or GitHub, including mentions and formulas
UNSAFE_IN_CODE = "`|"  # the first ends a code span, the second a table cell
REASONS_SHOWN = 3
NAMES_OPEN = 10  # longer lists of names are collapsed
VERDICT_MARKS = {"verified": "✅", "failed": "❌", "not verified": "⚠️"}


def render_markdown(report: Report) -> str:
    """The whole report as GitHub-flavoured Markdown; it lists every affine map."""
    blocks = [
        f"# {prose(headline(report))}",
        prose(deed(report)),
        f"{VERDICT_MARKS[report.verification.status]} {prose(verdict(report.verification))}",
        *([f"**{prose(readiness(report))}**"] if report.runtime else ()),
        "\n".join(_figures(report)),
        *_outputs(report.verification.outputs),
        *(prose(text) for text in (sensitivity(report.verification), *report.verification.notes) if text),
        *_kind("BatchNormalization", [o for o in report.outcomes if is_bn(o)]),
        *_kind(OTHER.capitalize(), [o for o in report.outcomes if not is_bn(o)]),
        *_changes(report),
        *_equalized(report),
        *_types(report),
        *_findings(report),
        *(["## Notes", "\n".join(f"- {prose(note)}" for note in report.notes)] if report.notes else ()),
        *(
            ["## What to do with the file", "\n".join(f"    {printable(line)}" for line in report.recipe)]
            if report.recipe
            else ()
        ),
        f"bnfold {prose(report.version)}",
    ]
    return "\n\n".join(blocks) + "\n"


def prose(text: str) -> str:
    """The text escaped, so that markup, mentions, HTML and line breaks in it are shown as text."""
    text = printable(text)
    lead = "" if text[:1].isalnum() else text[:1]  # else the line could begin a quote, a list or a heading
    return "".join(f"&#{ord(c)};" if c in MARKUP + lead else c for c in text)


def code(name: str) -> str:
    """The name as code, for a table or a list; a character that would end the code or the cell is escaped."""
    name = printable(name)
    if not name or name != name.strip() or any(c in name for c in UNSAFE_IN_CODE):
        return f"<code>{prose(name)}</code>"
    return f"`{name}`"


def _figures(report: Report) -> Iterator[str]:
    before, after, change = sizes(report)
    yield from ("| | before | after |", "| --- | ---: | ---: |")
    yield f"| BatchNormalization | {report.bn_before:,} | {report.bn_after:,} |"
    yield f"| nodes | {report.nodes_before:,} | {report.nodes_after:,} |"
    yield f"| size | {before} | {f'{after} ({change})' if after else ''} |"


def _outputs(outputs: Sequence[OutputError]) -> Iterator[str]:
    if not outputs:
        return
    rows = ["| output | largest error | tolerated | rounding noise | |", "| --- | ---: | ---: | ---: | --- |"]
    for o in outputs:
        cells = (code(o.name), figure(o.max_absolute), figure(o.tolerance), figure(o.noise))
        rows.append(f"| {' | '.join(cells)} | {'ok' if o.ok else '**failed**'} |")
    yield "\n".join(rows)


def _kind(title: str, outcomes: Sequence[Outcome]) -> Iterator[str]:
    folds = fold_groups(outcomes)
    if outcomes:
        yield f"## {title}"
    for group in folds:
        yield f"### {group.title}: {len(group.outcomes):,}"
        yield "\n".join(_fold_rows(group.outcomes))
    for heading, groups in ((STAYS_TITLE, kept_groups(outcomes)), (LEFT_TITLE, left_groups(outcomes))):
        if groups:
            yield f"### {heading}: {sum(len(group.outcomes) for group in groups):,}"
        for kept in groups:
            yield f"**{len(kept.outcomes):,} {prose(kept.operators)}**"
            yield "\n".join(_kept_lines(kept, brief=not is_bn(outcomes[0])))


def _fold_rows(outcomes: Iterable[Outcome]) -> Iterator[str]:
    yield "| node | operator | outcome | into | through | &#124;scale&#124; |"
    yield "| --- | --- | --- | --- | --- | ---: |"
    for o in outcomes:
        into, through = (", ".join(map(code, labels)) for labels in (o.absorbed_by, o.path))
        what = f"{STATUS_WORDS[o.status]} {o.direction}".rstrip()
        yield f"| {code(named(o))} | {prose(o.operator)} | {what} | {into} | {through} | {scale_range(o)} |"


def _kept_lines(group: KeptGroup, *, brief: bool) -> Iterator[str]:
    """The reasons, hints and names of a group; the reasons and hints of maps that are no normalizations on one line."""
    if brief:
        yield f"- {prose(group.sentence(REASONS_SHOWN))}"
    else:
        for way, refusals in group.refusals:
            yield f"- {way}: {prose(reasons(refusals, REASONS_SHOWN))} (`{refusals[0].code}`)"
        yield from (f"- what to do: {prose(hint)}" for hint in group.hints)
    yield from _names([f"{code(named(o))}{_places(o)}" for o in group.outcomes], closed=brief)


def _places(outcome: Outcome | Leftover) -> str:
    refusals = (("backward", outcome.backward), ("forward", outcome.forward))
    met = [f"behind {code(outcome.after)}"] if isinstance(outcome, Leftover) and outcome.after else []
    met += [f"{way} at {code(refusal.at)}" for way, refusal in refusals if refusal and refusal.at]
    return f": {', '.join(met)}" if met else ""


def _changes(report: Report) -> Iterator[str]:
    for title, changes in changes_by_stage(report.changes):
        yield f"## {title}: {sum(change.count for change in changes):,}"
        rows = ["| number | what | for example |", "| ---: | --- | --- |"]
        for change in changes:
            grown = f", {size_change(0, change.nbytes)}" if change.nbytes else ""
            examples = ", ".join(map(code, change.examples[:REASONS_SHOWN]))
            rows.append(f"| {change.count:,} | {prose(change.kind + grown)} | {examples} |")
        yield "\n".join(rows)


def _equalized(report: Report) -> Iterator[str]:
    if report.equalized:
        said = f"\n\n{prose(unevenness(report))}" if unevenness(report) else ""
        yield f"## {equalization(report)}{said}"
    for reason, those in staying_uneven(report):
        names = [code(one.value) for one in those]
        yield "\n".join([f"**{len(those):,}** stay: {prose(reason)}", "", *_names(names)])


def _types(report: Report) -> Iterator[str]:
    groups = staying_wide(report)
    if groups:
        yield f"## Stays in float32, and why: {sum(len(those) for _, those in groups):,}"
    for reason, those in groups:
        yield "\n".join([f"**{len(those):,}**: {prose(reason)}", "", *_names([code(placed.label) for placed in those])])
    if report.rounded:
        yield f"## Constants that lose more than digits in 16 bits: {len(report.rounded):,}"
        yield "\n".join(f"- {code(one.name)}: {loss(one)}" for one in report.rounded)


def _findings(report: Report) -> Iterator[str]:
    if report.findings:
        yield f"## What {prose(report.runtime)} does not run as it is: {len(report.findings):,}"
    for group in finding_groups(report.findings):
        first = group.first
        yield f"**{len(group.findings):,} {SEVERITY_WORDS[first.severity]}: {prose(group.operators)}**"
        lines = [
            f"- {prose(first.sentence)} (`{first.code}`)",
            *([f"- what to do: {prose(first.advice)}"] * bool(first.advice)),
        ]
        yield "\n".join([*lines, *_names([code(finding.node) for finding in group.findings])])


def _names(names: Sequence[str], *, closed: bool = False) -> Iterator[str]:
    """The names as a list, which is closed if it is long."""
    if len(names) <= NAMES_OPEN and not closed:
        yield from (f"- {name}" for name in names)
    else:
        yield "\n<details><summary>all of them</summary>\n"
        yield from (f"- {name}" for name in names)
        yield "\n</details>"
