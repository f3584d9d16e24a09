"""The report over a fleet as one self-contained HTML page: no script, no request, no name that becomes markup."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import tostring

from folding.fleet.model import staying_groups
from folding.fleet.text import cells, heads
from folding.report.digest import counted, duration, file_size, printable, size_change
from folding.report.elements import closable, code, section, table
from folding.report.html import LINES_AFTER, POLICY
from folding.report.pictures import share, tag
from folding.report.style import STYLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from folding.fleet.model import Entry, FleetReport, Staying
    from folding.report.pictures import Child

NAMES_OPEN = 12  # longer lists of names are closed at first
CHIPS = {
    "failed": "wrong",
    "gate not passed": "wrong",
    "folded": "good",
    "can be folded": "good",
    "done before": "good",
}
HEADS: tuple[Child, ...] = ("Model", "Outcome", "BatchNormalization", "Nodes", "Size", "What there is to say")


def render_html(fleet: FleetReport) -> str:
    """The whole report as a page: the figures, every model, and what stays in all of them, by the reason."""
    body = tag("body", tag("main", _header(fleet), _tiles(fleet), _models(fleet), _staying(fleet)), _footer(fleet))
    page = tag("html", _head(fleet), body, lang="en")
    for element in page.iter():
        if element.tag in LINES_AFTER:
            element.tail = (element.tail or "") + "\n"
    return f"<!doctype html>\n{tostring(page, encoding='unicode', method='html')}\n"


def _head(fleet: FleetReport) -> Element:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", printable(f"bnfold: {heads(fleet)[0]}")),
        tag("style", STYLE),
    )


def _header(fleet: FleetReport) -> Element:
    _, bn, _ = heads(fleet)
    is_well = fleet.code == 0
    said = "Every model is done" if is_well else f"Ended with exit code {fleet.code}"
    return tag(
        "header",
        tag("p", f"in {duration(fleet.seconds)}", class_="soft"),
        tag("h1", f"{counted(len(fleet.entries), 'model')}: {bn}"),
        tag("p", said, class_=f"verdict {'verified' if is_well else 'failed'}"),
    )


def _tiles(fleet: FleetReport) -> Element:
    bn, (before, after) = fleet.normalizations, fleet.sizes
    picture = share(bn.total - bn.stay, bn.total, bn.sentence("BatchNormalizations", "folded")) if bn.total else ""
    return tag(
        "dl",
        _tile("Models", f"{len(fleet.entries):,}", ", ".join(f"{n:,} {s}" for s, n in fleet.statuses.items())),
        _tile("BatchNormalizations that stay", f"{bn.stay:,} of {bn.total:,}", picture),
        _tile("Size", f"{file_size(before)} → {file_size(after)}", size_change(before, after)),
        class_="tiles",
    )


def _tile(label: str, value: Child, detail: Child) -> Element:
    return tag("div", tag("dt", label), tag("dd", value, class_="big"), tag("dd", detail, class_="soft"), class_="tile")


def _models(fleet: FleetReport) -> Element:
    return section("Models", "models", table("As they were given", HEADS, map(_model, fleet.entries)))


def _model(entry: Entry) -> Element:
    name, *figures, said = cells(entry)
    chip = tag("span", entry.status, class_=f"chip {CHIPS.get(entry.status, '')}".strip())
    labelled = zip(figures, ("BatchNormalization", "Nodes", "Size"), strict=True)
    numbers = [tag("td", text.replace("->", "→"), class_="number", data_label=label) for text, label in labelled]
    return tag(
        "tr", tag("th", code(name), scope="row"), tag("td", chip, class_="outcome"), numbers, tag("td", printable(said))
    )


def _staying(fleet: FleetReport) -> Iterator[Element]:
    groups = staying_groups(fleet.entries)
    if groups:
        yield section("What stays, and why", "stays", map(_group, groups))


def _group(group: Staying) -> Element:
    number, models = counted(len(group.nodes), "BatchNormalization"), counted(len(group.models), "model")
    names = tag("ul", [tag("li", code(model), ": ", code(node)) for model, node in group.nodes])
    return tag(
        "article",
        tag("h3", f"{number} in {models} ", tag("code", printable(group.codes or "untold"), class_="code")),
        [tag("p", printable(sentence)) for sentence in group.sentences],
        closable(names, len(group.nodes), is_open=len(group.nodes) <= NAMES_OPEN),
    )


def _footer(fleet: FleetReport) -> Element:
    return tag("footer", tag("p", f"bnfold {printable(fleet.version)}"))
