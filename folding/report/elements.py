"""The building blocks of the HTML report: sections, tables, names as code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.report.digest import counted, printable
from folding.report.pictures import tag

if TYPE_CHECKING:
    from collections.abc import Iterable
    from xml.etree.ElementTree import Element

    from folding.report.pictures import Child

ERROR_COLUMNS = ("Largest error", "Relative to the output", "Mean error, relative", "Tolerated", "Rounding noise")
NUMBER_COLUMNS = (*ERROR_COLUMNS, "|scale|", "Number")


def section(title: str, anchor: str, *children: Child | Iterable[Child]) -> Element:
    """A part of the page with its heading, to which `anchor` leads."""
    return tag("section", tag("h2", title), *children, id=anchor)


def table(caption: Child | Iterable[Child], heads: Iterable[Child], rows: Iterable[Element]) -> Element:
    """A table that a keyboard can scroll."""
    head = tag("thead", tag("tr", [_column(h) for h in heads]))
    return tag("div", tag("table", tag("caption", caption), head, tag("tbody", rows)), class_="table", tabindex="0")


def code(name: str) -> Element:
    """The name as code, with possible line breaks before each scope but the first."""
    shown = printable(name)
    first, *scopes = shown[1:].split("/")
    return tag("code", shown[:1] + first, [part for scope in scopes for part in (tag("wbr"), f"/{scope}")])


def codes(names: Iterable[str]) -> list[Child]:
    """The names as code, with commas between them."""
    parts = [part for name in names for part in (", ", code(name))]
    return parts[1:]


def closable(content: Element, number: int, *, is_open: bool = False) -> Element:
    """The content behind a line that states its number of nodes and opens it."""
    details = tag("details", tag("summary", counted(number, "node")), content)
    if is_open:
        details.set("open", "")
    return details


def _column(head: Child) -> Element:
    return tag("th", head, scope="col", class_="number" if head in NUMBER_COLUMNS else "")
