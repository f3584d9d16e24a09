"""A report comes back from its JSON form as it was, and what is no report is refused by the name of what is wrong."""

from __future__ import annotations

import json
from dataclasses import asdict
from html.parser import HTMLParser
from typing import Any

import pytest

from folding.report.html import render_html
from folding.report.markdown import render_markdown
from folding.report.model import Outcome, Refusal, Report, Verification
from folding.report.text import render_text
from tests.support.reports import EVERY, HOSTILE_REPORT, NAN, VARIED, VERIFIED, bn, report


@pytest.mark.parametrize("example", EVERY.values(), ids=EVERY.keys())
def test_a_report_comes_back(example: Report) -> None:
    back = Report.from_dict(json.loads(example.to_json()))
    assert back.to_json() == example.to_json()
    assert repr(asdict(back)).replace("inf", "nan") == repr(asdict(example)).replace("inf", "nan")


def test_a_finite_report_is_equal() -> None:
    assert Report.from_dict(VARIED.as_dict()) == VARIED


def test_what_was_not_finite_is_not_a_number() -> None:
    made = report(bn(), verification=Verification("failed", outputs=(NAN,)))
    (output,) = Report.from_dict(made.as_dict()).verification.outputs
    assert output.max_absolute != output.max_absolute
    assert output.max_relative != output.max_relative


def test_keys_of_newer_versions_are_ignored_and_defaults_need_not_be_given() -> None:
    plain = VARIED.as_dict() | {"colour": "green"}
    del plain["notes"], plain["seconds"]
    assert Report.from_dict(plain).outcomes == VARIED.outcomes


def spoiled(path: str, value: Any) -> dict[str, Any]:
    plain = json.loads(report(bn(), verification=VERIFIED).to_json())
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    at: Any = plain
    for parent in parents:
        at = at[parent]
    if value is KeyError:
        del at[last]
    else:
        at[last] = value
    return plain


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        (None, "report is None"),
        ([], "report is \\[\\]"),
        ({}, "report.version is missing"),
        (spoiled("source", KeyError), "report.source is missing"),
        (spoiled("source", None), "report.source is None"),
        (spoiled("target", 3), "report.target is 3"),
        (spoiled("bn_before", "3"), "report.bn_before is '3'"),
        (spoiled("bn_before", True), "report.bn_before is True"),
        (spoiled("changed", 1), "report.changed is 1"),
        (spoiled("seconds", "soon"), "report.seconds is 'soon'"),
        (spoiled("seconds", False), "report.seconds is False"),
        (spoiled("notes", "one"), "report.notes is 'one'"),
        (spoiled("notes", [1]), r"report.notes\[0\] is 1"),
        (spoiled("outcomes.0.status", "gone"), r"report.outcomes\[0\].status is 'gone'"),
        (spoiled("outcomes.0.scales", ["x"]), r"report.outcomes\[0\].scales\[0\] is 'x'"),
        (spoiled("outcomes.0.backward", {"code": "a"}), r"report.outcomes\[0\].backward.reason is missing"),
        (spoiled("verification.outputs.0", []), r"report.verification.outputs\[0\] is \[\]"),
        (spoiled("verification", {"status": "x" * 1000}), "status is 'xxx"),
    ],
)
def test_what_is_no_report_is_refused(plain: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        Report.from_dict(plain)
    assert len(str(caught.value)) < 250


def test_a_report_writes_itself_in_every_form() -> None:
    assert VARIED.to_html() == render_html(VARIED)
    assert VARIED.to_markdown() == render_markdown(VARIED)
    assert VARIED.to_text() == render_text(VARIED, more="to_json() lists all")
    assert max(map(len, VARIED.to_text(width=60).splitlines())) <= 60
    assert json.loads(VARIED.to_json()) == VARIED.as_dict()


def test_a_report_is_shown_in_one_line() -> None:
    made = report(bn(), source="model.onnx", target="folded.onnx", verification=VERIFIED)
    assert repr(made) == "<Report of model.onnx: 1 of 1 BatchNormalization folded; verified>"
    assert all(repr(one).isprintable() for one in EVERY.values())


def elements(text: str) -> list[tuple[str, dict[str, str | None]]]:
    """The tags of a piece of HTML, as a browser reads them, each with its attributes."""
    found: list[tuple[str, dict[str, str | None]]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: found.append((tag, dict(attrs)))  # type: ignore[method-assign]
    parser.feed(text)
    return found


def test_a_notebook_shows_the_page_in_a_frame_of_its_own() -> None:
    """No name of a model leaves the attribute that holds the page, and the page is what `to_html` gives."""
    for example in (VARIED, HOSTILE_REPORT):
        ((tag, attributes),) = elements(example._repr_html_())
        assert (tag, attributes["srcdoc"], attributes["sandbox"]) == ("iframe", example.to_html(), "")


def test_for_a_command_line_a_report_names_flags() -> None:
    refusal = Refusal("training-mode", 'reads clamp="always"', "bn", "call eval(), or use freeze_training=True")
    made = report(
        Outcome("bn", "BatchNormalization", "kept", backward=refusal, forward=refusal),
        verification=Verification("not verified", "verification was turned off (verify=False)"),
        notes=('try clamp="always"',),
    )
    (outcome,) = made.with_flags().outcomes
    assert outcome.backward is not None
    assert outcome.backward.hint == "call eval(), or use --freeze-training"
    assert outcome.backward.reason == 'reads clamp="always"'  # a reason names what is in the model
    assert made.with_flags().verification.reason == "verification was turned off (--no-verify)"
    assert made.with_flags().notes == ("try --clamp always",)
    assert made.with_flags().with_flags() == made.with_flags()
