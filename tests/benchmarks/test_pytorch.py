"""The tables on PyTorch modules: one row of each outcome."""

from __future__ import annotations

import json
import math

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from benchmarks.architectures.families import FAMILIES  # noqa: E402
from benchmarks.pytorch import compare, families, fusers, gate  # noqa: E402
from benchmarks.pytorch.patterns import CASES, SEED  # noqa: E402
from tests.support.torch.judge import Judged  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # inside PyTorch


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("name", "fuser", "expected"),
    [
        ("conv2d, bn", fusers.fuse_eval, "folded"),
        ("conv2d, bn", fusers.constant_fold, "not folded"),
        ("conv, bn, bn", fusers.fuse_modules, "in part"),
        ("linear, bn on 3-D input", fusers.fuse_modules, "WRONG by"),
        ("linear, bn on 3-D input", fusers.onnx, "not folded"),
        ("grouped convtranspose, bn", fusers.fuse_eval, "error: RuntimeError"),
        ("conv, relu, bn, conv", fusers.freezing, "not folded"),
        ("two conv, shared bn", fusers.freezing, "folded"),
        ("conv, bn without statistics", fusers.bnfold, "not folded"),
        ("functional conv and bn", fusers.fuse_fx, "not folded"),
    ],
)
def test_a_verdict(name, fuser, expected):
    torch.manual_seed(SEED)
    module, x = CASES[name].make(), torch.randn(CASES[name].shape)
    assert fusers.verdict(fuser, module, x).startswith(expected)


def test_the_names_that_a_user_gives_are_of_what_follows_each_other():
    assert fusers.pairs(CASES["bn read by two conv"].make()) == []
    assert fusers.pairs(CASES["RepVGG block"].make()) == [["a", "bn"], ["b", "bn2"]]


def test_the_table_of_patterns_counts_and_an_unexpected_result_of_ours_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "FUSERS", {compare.OURS: fusers.bnfold, "another": fusers.constant_fold})
    written = tmp_path / "t.md"
    assert compare.main(["--only", "linear, dropout", "--output", str(written)]) == 0
    assert "| linear, dropout, bn | folded | not folded |" in written.read_text()
    assert "| not folded | 0 | 1 |" in written.read_text()
    monkeypatch.setattr(compare, "FUSERS", {compare.OURS: fusers.constant_fold})
    assert compare.main(["--only", "linear, dropout", "--output", str(written)]) == 1


def test_every_chosen_network_is_one_of_the_survey():
    assert {family: name for family, name in families.CHOSEN.items() if name not in FAMILIES[family]} == {}


def test_a_family_has_a_line_for_every_way_and_what_is_known_is_not_measured_again(tmp_path, monkeypatch):
    given = ["--family", "MLP", "--rows", str(tmp_path / "rows"), "--output", str(tmp_path / "t.md")]
    assert families.main(given) == 0
    written = (tmp_path / "t.md").read_text()
    assert all(f"| MLP | mlp | {way} |" in written for way in families.WAYS)
    assert "1 of 1 networks verified with all names" in written
    monkeypatch.setattr(families, "_row", None)
    assert families.main(given) == 0


def test_random_modules_are_judged_once_and_an_unequal_one_is_an_error(tmp_path, monkeypatch):
    rows, written = tmp_path / "rows", tmp_path / "t.md"
    monkeypatch.setattr(gate, "judged", lambda seed: Judged(seed, 1e-16, 2e-16, 1e-16, 0.1, 3, 0, 0))
    assert gate.main(["--seeds", "0:2", "--rows", str(rows), "--output", str(written)]) == 0
    assert "2 modules, 0 unequal" in written.read_text()
    monkeypatch.setattr(gate, "judged", lambda seed: Judged(seed, 1e-3, math.nan, 1e-16, math.nan, 3, 0, 0))
    assert gate.main(["--seeds", "0:3", "--rows", str(rows), "--output", str(written)]) == 1
    assert "3 modules, 1 unequal: 2." in written.read_text()
    assert len(list(map(json.loads, rows.read_text().splitlines()))) == 3
    monkeypatch.setattr(gate, "judged", lambda _: 1 / 0)
    assert gate.main(["--seeds", "0:4", "--rows", str(rows), "--output", str(written)]) == 1
    assert "2 unequal: 2, 3." in written.read_text()
