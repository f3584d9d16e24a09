"""Render the report as one self-contained HTML page: no script, no request, valid under the strictest policy.

The page is built as a tree, not as text, so a name from a model can never become markup.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree.ElementTree import tostring

from folding.report.digest import (
    LEFT_TITLE,
    NOTHING,
    OTHER,
    STATUS_WORDS,
    STAYS_TITLE,
    Tally,
    code_of,
    counted,
    deed,
    figure,
    headline,
    is_bn,
    kept_groups,
    left_groups,
    named,
    place_of,
    printable,
    reasons,
    scale_range,
    sensitivity,
    sizes,
    tally,
    verdict,
    worst_output,
)
from folding.report.elements import ERROR_COLUMNS, closable, code, codes, section, table
from folding.report.html_ready import changes, equalized, findings, recipe, types
from folding.report.model import BATCH_NORMALIZATION, Leftover
from folding.report.pictures import Axis, histogram, ruler, share, tag
from folding.report.ready import is_refused, readiness
from folding.report.style import STYLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from xml.etree.ElementTree import Element

    from folding.report.digest import KeptGroup
    from folding.report.model import Outcome, OutputError, Report
    from folding.report.pictures import Child

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
FLAG = re.compile(r"(--[a-z-]+)")
NAMES_OPEN = 12  # longer lists of names are closed at first
ROWS_OPEN = 40  # a longer table of decomposed affine maps is closed too, because readers rarely need it
REASONS_SHOWN = 3
VERDICT_MARKS = {"verified": "✓", "failed": "✗", "not verified": "!"}
STATUS_CLASSES = {"kept": "stays", "split": ""}
LINES_AFTER = {"tr", "section", "article", "li", "dl", "thead", "tbody", "header", "head", "style", "meta"}


def render_html(report: Report) -> str:
    """The whole report as a page; every affine map is listed, with a picture of its scales."""
    bn = [o for o in report.outcomes if is_bn(o)]
    others = [o for o in report.outcomes if not is_bn(o)]
    anchors = _anchors(bn, "stay", "left") | _anchors(others, "other-kept", "other-left")
    sections = [
        *_verification(report),
        *_affines("BatchNormalization", "batch-normalization", bn, anchors),
        *_stays(STAYS_TITLE, "stay", kept_groups(bn)),
        *_stays(LEFT_TITLE, "left", left_groups(bn)),
        *_affines(OTHER.capitalize(), "other-maps", others, anchors),
        *changes(report),
        *equalized(report),
        *types(report),
        *findings(report),
        *_notes(report.notes),
        *recipe(report),
    ]
    body = tag("body", tag("main", _header(report), _tiles(report), _contents(sections), sections), _footer(report))
    return f"<!doctype html>\n{_written(tag('html', _head(report), body, lang='en'))}\n"


def _anchors(outcomes: Sequence[Outcome], stay: str, left: str) -> dict[int, str]:
    """Where the reasons are, by the identity of a map that stays or folded in part."""
    found = {id(o): f"{stay}-{i}" for i, group in enumerate(kept_groups(outcomes), 1) for o in group.outcomes}
    places = {one: f"{left}-{i}" for i, group in enumerate(left_groups(outcomes), 1) for one in group.outcomes}
    return found | {id(o): places[o.left[0]] for o in outcomes if o.left}


def _written(page: Element) -> str:
    for element in page.iter():
        if element.tag in LINES_AFTER:
            element.tail = (element.tail or "") + "\n"
    return tostring(page, encoding="unicode", method="html")


def _head(report: Report) -> Element:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", printable(f"{report.source}: {headline(report)}")),
        tag("style", STYLE),
    )


def _header(report: Report) -> Element:
    text = f"{VERDICT_MARKS[report.verification.status]} {printable(verdict(report.verification))}"
    status = report.verification.status if report.target is not None else "planned"
    return tag(
        "header",
        tag("p", tag("code", printable(deed(report))), class_="soft"),
        tag("h1", _flagged(headline(report))),
        tag("p", text, class_=f"verdict {status.replace(' ', '-')}"),
        _readiness(report),
    )


def _readiness(report: Report) -> list[Child]:
    if not report.runtime:
        return []
    return [
        tag(
            "p",
            printable(readiness(report)),
            class_=f"verdict {'failed' if is_refused(report.findings) else 'verified'}",
        )
    ]


def _flagged(text: str) -> list[Child]:
    """The text, in which no flag of the command line is broken into two lines."""
    parts = FLAG.split(text)
    return [tag("span", part, class_="flag") if FLAG.fullmatch(part) else part for part in parts if part]


def _tiles(report: Report) -> Element:
    bn = tally(report.outcomes, bn=True)
    nodes = report.nodes_after - report.nodes_before
    before, after, change = sizes(report)
    return tag(
        "dl",
        _tile("BatchNormalization nodes", _change(f"{report.bn_before:,}", f"{report.bn_after:,}"), _share(bn)),
        _tile("Nodes", _change(f"{report.nodes_before:,}", f"{report.nodes_after:,}"), f"{nodes:+,}" if nodes else ""),
        _tile("Size", _change(before, after) if after else [before], change),
        _tile("Verification", [report.verification.status.capitalize()], _margin(report.verification.outputs)),
        class_="tiles",
    )


def _tile(label: str, value: Iterable[Child], detail: Child) -> Element:
    lines = [tag("dd", value, class_="big"), tag("dd", detail, class_="soft")]
    return tag("div", tag("dt", label), lines, class_="tile")


def _change(before: str, after: str) -> list[Child]:
    return [tag("span", f"{before} → ", class_="was"), after]


def _share(bn: Tally) -> Child:
    return share(bn.total - bn.stay, bn.total, bn.sentence("BatchNormalizations", "folded")) if bn.total else ""


def _margin(outputs: Sequence[OutputError]) -> str:
    if not outputs:
        return "no figures"
    worst = worst_output(outputs)
    return f"largest error {figure(worst.max_absolute)}, tolerated {figure(worst.tolerance)}"


def _contents(sections: Iterable[Element]) -> Element:
    links = [tag("a", section[0].text or "", href=f"#{section.get('id')}") for section in sections]
    return tag("nav", links, aria_label="Contents")


def _verification(report: Report) -> Iterator[Element]:
    if not report.verification.outputs:
        return
    heads = ("Output", *ERROR_COLUMNS, "Verdict")
    rows = [_output(output) for output in report.verification.outputs]
    caption = f"Absolute differences over {counted(report.verification.samples, 'sample')}"
    where = f" ({printable(report.verification.inputs)})" if report.verification.inputs else ""
    noise = "; noise is how far two ways to run the original differ."
    texts = filter(None, (sensitivity(report.verification), *report.verification.notes))
    remarks = [tag("p", printable(f"{text}.")) for text in texts]
    yield section("Verification", "verification", table(caption + where + noise, heads, rows), *remarks)


def _output(output: OutputError) -> Element:
    figures = (output.max_absolute, output.max_relative, output.mean_relative, output.tolerance, output.noise)
    chip = tag("span", "ok" if output.ok else "failed", class_=f"chip {'good' if output.ok else 'wrong'}")
    labelled = zip(ERROR_COLUMNS, figures, strict=True)
    numbers = [tag("td", figure(number), class_="number", data_label=label) for label, number in labelled]
    return tag("tr", tag("th", code(output.name), scope="row"), numbers, tag("td", chip))


def _affines(title: str, anchor: str, outcomes: Sequence[Outcome], anchors: Mapping[int, str]) -> Iterator[Element]:
    if not outcomes:
        return
    axis = Axis.over(outcomes)
    caption = (
        "The pictures show how many channels have which |scale|, on one logarithmic axis;"
        " the upright line is 1, red at the left is 0."
    )
    heads: list[Child] = ["Node", "Outcome", "Where to, or why not", "|scale|", ruler(axis)]
    rows = [_affine(outcome, axis, anchors) for outcome in outcomes]
    whole = table(caption, heads, rows)
    if is_bn(outcomes[0]):
        yield section(title, anchor, whole)
    else:
        shown = closable(whole, len(rows)) if len(rows) > ROWS_OPEN else whole
        yield section(
            title, anchor, shown, _asides("kept", kept_groups(outcomes)), _asides("left", left_groups(outcomes))
        )


def _asides(verb: str, groups: Sequence[KeptGroup]) -> Iterator[Element]:
    """One line for each group of maps that are no normalizations; it opens to show their names."""
    for i, group in enumerate(groups, 1):
        said = f"{len(group.outcomes):,} {group.operators} {verb}; {group.sentence(REASONS_SHOWN)}"
        yield tag("details", tag("summary", printable(said)), _names(group), id=f"other-{verb}-{i}", class_="aside")


def _affine(outcome: Outcome, axis: Axis, anchors: Mapping[int, str]) -> Element:
    operator = () if is_bn(outcome) else _line(printable(outcome.operator))
    channels = _line(counted(outcome.channels, "channel")) if outcome.channels else ()
    return tag(
        "tr",
        tag("th", code(named(outcome)), operator, scope="row"),
        tag("td", _outcome(outcome, anchors), class_="outcome"),
        tag("td", _destination(outcome), class_="to"),
        tag("td", scale_range(outcome), channels, class_="number", data_label="|scale|"),
        tag("td", histogram(outcome, axis)),
    )


def _line(*children: Child | Iterable[Child]) -> Element:
    return tag("div", *children, class_="soft")


def _destination(outcome: Outcome) -> list[Child]:
    if outcome.status == "kept":
        return [_line("backward: ", code_of(outcome.backward)), _line("forward: ", code_of(outcome.forward))]
    through = [_line("through ", codes(outcome.path))] if outcome.path else []
    return [*codes(outcome.absorbed_by), *through]


def _outcome(outcome: Outcome, anchors: Mapping[int, str]) -> list[Child]:
    kind = STATUS_CLASSES.get(outcome.status, "good") if is_bn(outcome) or outcome.status != "kept" else ""
    chip = tag("span", STATUS_WORDS[outcome.status], class_=f"chip {kind}".strip())
    shown = tag("a", chip, href=f"#{anchors[id(outcome)]}") if id(outcome) in anchors else chip
    return [shown, f" {outcome.direction}".rstrip()]


def _stays(title: str, anchor: str, groups: Sequence[KeptGroup]) -> Iterator[Element]:
    if groups:
        cards = [_stay(group, f"{anchor}-{i}") for i, group in enumerate(groups, 1)]
        yield section(title, f"{anchor}s", cards)


def _stay(group: KeptGroup, anchor: str) -> Element:
    ways = [
        part
        for way, refusals in group.refusals
        for part in (
            tag("dt", way.capitalize()),
            tag("dd", printable(reasons(refusals, REASONS_SHOWN)), " ", tag("code", refusals[0].code, class_="code")),
        )
    ]
    is_amber = group.operators == BATCH_NORMALIZATION
    todo = [
        part
        for hint in group.hints
        for part in (
            tag("dt", "What to do"),
            tag("dd", printable(hint), class_="todo" if is_amber and hint != NOTHING else ""),
        )
    ]
    names = _names(group)
    return tag(
        "article",
        tag("h3", printable(f"{len(group.outcomes):,} {group.operators}")),
        tag("dl", ways, todo),
        closable(names, len(group.outcomes), is_open=len(group.outcomes) <= NAMES_OPEN),
        id=anchor,
    )


def _names(group: KeptGroup) -> Element:
    return tag("ul", [tag("li", code(named(o)), _places(o)) for o in group.outcomes])


def _places(outcome: Outcome | Leftover) -> Element:
    refusals = (("backward", outcome.backward), ("forward", outcome.forward))
    met = [f"{way} at {printable(refusal.at)}" for way, refusal in refusals if refusal and refusal.at]
    return _line(", ".join(([place_of(outcome)] if isinstance(outcome, Leftover) else []) + met))


def _notes(notes: Sequence[str]) -> Iterator[Element]:
    if notes:
        yield section("Notes", "notes", tag("ul", [tag("li", printable(note)) for note in notes]))


def _footer(report: Report) -> Element:
    return tag("footer", tag("p", f"bnfold {printable(report.version)}"))
