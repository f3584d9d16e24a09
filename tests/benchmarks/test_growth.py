"""The table of growth: its families fold whole, its exponent is the slope of the figures."""

from __future__ import annotations

import pytest

from benchmarks import growth
from benchmarks.measure import Run
from folding import Options, fold_model


@pytest.mark.parametrize("family", growth.FAMILIES)
def test_every_normalization_of_a_family_folds(family):
    model = growth.FAMILIES[family](24)
    _, report = fold_model(model, Options(verify=False))
    assert report.bn_before >= 20
    assert report.bn_after == 0


@pytest.mark.parametrize("power", [1, 1.5, 2])
def test_the_exponent_is_that_of_the_figures(power):
    counts = [2_000, 8_000, 32_000]
    assert growth.exponent(counts, [3 * count**power for count in counts]) == pytest.approx(power)


def test_rows_show_the_exponent_once_and_failures_as_they_are():
    runs = [(100, Run("a", "bnfold", 1, cpu=1.4)), (200, Run("b", "bnfold", 1, cpu=2.4))]
    first, last = growth.rows("chain", runs, 0.4)
    assert (first[-1], last[-1]) == ("", "1.00")
    assert first[:4] == ("chain", "100", "1.40", "10.000")
    (failed,) = growth.rows("chain", [(100, Run("a", "bnfold", 1, failure="stopped after 600 s"))], 0.4)
    assert failed[2] == "stopped after 600 s"


def test_the_command_writes_the_table(tmp_path, capsys):
    assert growth.main(["--sizes", "4", "8", "--output", str(tmp_path / "growth.md")]) == 0
    written = (tmp_path / "growth.md").read_text()
    assert all(written.count(f"| {family} |") == 2 for family in growth.FAMILIES)
    assert "chain" in capsys.readouterr().out
