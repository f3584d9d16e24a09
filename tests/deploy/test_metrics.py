"""docs/monitoring.md has every metric, and no other."""

from __future__ import annotations

import re

from tests.support import ROOT
from tests.support.deploy.series import Metric, metrics, series

ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| (.*?) \| \S.* \|$", re.MULTILINE)


def documented(text: str) -> list[Metric]:
    found = ROW.findall(text)
    return [Metric(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in found]


def test_every_metric_is_documented_with_its_type_and_its_labels():
    rows = documented((ROOT / "docs" / "monitoring.md").read_text())
    assert sorted(rows) == sorted(metrics())


def test_a_row_that_is_wrong_is_noticed():
    row = "| `bnfold_waiting` | gauge | `size`, `state` | jobs that wait |"
    assert documented(row) == [Metric("bnfold_waiting", "gauge", frozenset({"size", "state"}))]
    assert not metrics() & set(documented(row))


def test_the_series_are_those_of_the_wire():
    assert series()["bnfold_fold_seconds_bucket"] == {"size", "le", "job", "instance"}
    assert series()["bnfold_fold_seconds_sum"] == {"size", "job", "instance"}
    assert "bnfold_fold_seconds" not in series()
    assert series()["bnfold_build_info"] == {"version", "job", "instance"}
