"""A report comes back from its JSON form as it was, and what is no report is refused by the name of what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from folding.report.model import Report, Verification
from tests.support.reports import EVERY, NAN, VARIED, VERIFIED, bn, report


@pytest.mark.parametrize("told", EVERY.values(), ids=EVERY.keys())
def test_a_report_comes_back(told: Report) -> None:
    back = Report.from_dict(json.loads(told.to_json()))
    assert back.to_json() == told.to_json()
    assert repr(back).replace("inf", "nan") == repr(told).replace("inf", "nan")


def test_a_finite_report_is_equal() -> None:
    assert Report.from_dict(VARIED.as_dict()) == VARIED


def test_what_was_not_finite_is_not_a_number() -> None:
    told = report(bn(), verification=Verification("failed", outputs=(NAN,)))
    (output,) = Report.from_dict(told.as_dict()).verification.outputs
    assert output.max_absolute != output.max_absolute
    assert output.max_relative != output.max_relative


def test_keys_of_newer_versions_are_ignored_and_defaults_need_not_be_told() -> None:
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
