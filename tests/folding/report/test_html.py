"""The HTML report: well-formed, self-contained, readable by everybody, and its pictures drawn where they should be."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from folding.report.digest import printable
from folding.report.html import POLICY, render_html
from folding.report.pictures import BINS, Axis
from tests.support.reports import (
    EVERY,
    HOSTILE,
    HOSTILE_REPORT,
    LEFT,
    NOT_VERIFIED,
    PADDED,
    SHARED,
    VARIED,
    bn,
    kept,
    report,
)

if TYPE_CHECKING:
    from folding.report.model import Report

VOID = {"meta", "wbr"}

every_report = pytest.mark.parametrize("example", EVERY.values(), ids=EVERY.keys())


class Page(HTMLParser):
    """Collects what a browser would see: elements, their attributes and the text; fails on unbalanced tags."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


@every_report
def test_html_is_balanced_and_asks_for_nothing(example: Report) -> None:
    text = render_html(example)
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(page.tags)
    assert page.values("src") == []
    assert all(value.startswith("#") for value in page.values("href"))
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text
    assert "://" not in text.replace("http://evil", "")


@every_report
def test_html_links_lead_somewhere_and_ids_are_unique(example: Report) -> None:
    page = Page(render_html(example))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {value.removeprefix("#") for value in page.values("href")} <= set(ids)


@every_report
def test_html_can_be_read_by_everybody(example: Report) -> None:
    page = Page(render_html(example))
    assert page.values("lang") == ["en"]
    assert page.tags.count("h1") == 1
    assert page.tags.count("caption") == page.tags.count("table")
    assert set(page.values("scope")) <= {"col", "row"}
    assert page.tags.count("th") == len(page.values("scope"))
    assert page.values("role").count("img") == page.tags.count("svg")
    assert page.values("content")[0] == POLICY


def test_hostile_names_are_only_text_in_html() -> None:
    text = render_html(HOSTILE_REPORT)
    page = Page(text)
    assert page.tags.count("title") == 1 + len(HOSTILE_REPORT.outcomes)
    assert page.tags.count("style") == 1
    assert printable(HOSTILE) in page.text
    assert not any("evil" in value for _, value in page.attributes)
    assert all(line.isprintable() for line in text.split("\n"))


def test_html_shows_everything_about_an_affine() -> None:
    text = Page(render_html(VARIED)).text
    for part in ("folded in part", "merged", "removed", "through relu, reshape", "q, k, v", "0.25 .. 2", "3 channels",
                 "scales of 3 channels: 0.25 to 2, median 0.5", "pad explicitly", "call eval()", "zero-padding",
                 "backward at cat", "Two nodes are read by nobody."):  # fmt: skip
        assert part in text, part


def test_html_says_what_is_left_of_a_map_where_and_why() -> None:
    page = Page(render_html(VARIED))
    assert "matmul.addbehind matmul, backward at asinh, forward at asinh" in page.text
    assert "1 Add kept; backward: another operator reads the value [other-consumer]; forward: a shift" in page.text
    assert "1 Add left; both ways: Asinh passes nothing [barrier]; what to do: nothing" in page.text
    assert {"#left-1", "#other-left-1", "#stay-1", "#other-kept-1"} <= set(page.values("href"))


@pytest.mark.parametrize(
    ("example", "amber"),
    [
        (report(bn(), kept()), {"chip stays", "todo"}),
        (report(bn(), bn("add", "kept", operator="Add", backward=SHARED, forward=PADDED)), set()),
        (report(bn(), bn("split", "split", left=(LEFT, replace(LEFT, forward=PADDED)))), set()),
        (report(bn(), target=None, verification=NOT_VERIFIED), set()),
        (report(bn(), verification=NOT_VERIFIED), {"verdict not-verified"}),
    ],
)
def test_amber_is_for_a_normalization_that_stays(example: Report, amber: set[str]) -> None:
    """And for a result that nobody could check."""
    page = Page(render_html(example))
    assert {kind for kind in page.values("class") if {"stays", "todo", "not-verified"} & set(kind.split())} == amber


def test_dead_channels_are_drawn_apart() -> None:
    page = Page(render_html(EVERY["odd scales"]))
    assert page.values("class").count("dead") == 2
    assert page.values("class").count("bars") == 2


# Pictures


@pytest.mark.parametrize(
    ("scales", "axis"),
    [
        ((), Axis(0, 1)),
        ((0.02, 3.0), Axis(-2, 1)),
        ((0.5,), Axis(-1, 1)),
        ((1e-300, 1e2), Axis(-6, 2)),
        ((5e3,), Axis(0, 4)),
    ],
)
def test_the_axis_spans_whole_decades_around_one(scales: tuple[float, ...], axis: Axis) -> None:
    assert Axis.over([bn(scales=scales)]) == axis


@pytest.mark.parametrize(
    ("scale", "place"), [(1e-9, 0), (0.01, 0), (1.0, BINS // 2), (99.0, BINS - 1), (1e9, BINS - 1)]
)
def test_bins_of_the_axis(scale: float, place: int) -> None:
    assert Axis(-2, 2).bin(scale) == place
