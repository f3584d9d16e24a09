"""Gates: which results do not pass them, and that the exit code says so, for one model and for many."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from folding.command import main as cli
from tests.support.fleets import fleet, names
from tests.support.models import Model
from tests.support.rows.row import out, start

ONE = "models/sub/b.onnx"  # of which one of two normalizations stays
STAYS = "1 BatchNormalization stays, and --max-left allows 0"
BARRIER = "1 BatchNormalization stays because of barrier: stays"
GROWN = "the folded model is larger than the original: +"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import numpy as np  # noqa: PLC0415
    import onnx  # noqa: PLC0415

    fleet(tmp_path / "models")
    m = Model(dtype=np.float32)  # a weight out of one number becomes a real tensor
    w = m.op("ConstantOfShape", m.constant(np.array([8, 4, 3, 3], np.int64)), value=onnx.numpy_helper.from_array(
        np.array([0.5], np.float32)))  # fmt: skip
    out(m, m.bn(m.op("Conv", start(m, 1, 4, 5, 5), w)))
    onnx.save(m.build(), tmp_path / "grows.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*argv: str) -> int:
    try:
        return cli.main(list(argv))
    except SystemExit as left:
        return int(left.code or 0)


ROWS = [
    (ONE, ("--max-left", "0"), [STAYS]),
    (ONE, ("--max-left", "1"), []),
    (ONE, ("--fail-on", "barrier"), [BARRIER]),
    (ONE, ("--fail-on", "zero-padding"), []),
    (ONE, ("--fail-on", "zero-padding", "--fail-on", "barrier"), [BARRIER]),
    (ONE, ("--fail-if-grown",), []),
    (ONE, ("--max-left", "0", "--fail-on", "barrier", "--fail-if-grown"), [STAYS, BARRIER]),
    ("models/a.onnx", ("--max-left", "0", "--fail-on", "barrier"), []),
    ("grows.onnx", ("--fail-if-grown",), [GROWN]),
    ("grows.onnx", ("--max-left", "0"), []),
]
COMMANDS = {
    "fold": ["fold", "IN", "-o", "out.onnx", "--no-verify"],
    "dry run": ["fold", "IN", "--dry-run"],
    "inspect": ["inspect", "IN"],
    "fleet": ["fold", "IN", "--output-dir", "out", "--no-verify"],
    "inspect fleet": ["inspect", "IN", "models/sub/deep/c.onnx"],
}
CASES = [(way, *row) for way in ("fold", "inspect") for row in ROWS]
CASES += [(way, *row) for way in ("dry run", "fleet", "inspect fleet") for row in ROWS[-4:-1]]


@pytest.mark.parametrize(("way", "model", "gates", "said"), CASES)
def test_what_does_not_pass(here, capsys, way, model, gates, said):
    before = names(here)
    command = [model if word == "IN" else word for word in COMMANDS[way]]
    assert run(*command, "--quiet", *gates) == (7 if said else 0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(said)
    assert all(line.startswith(f"bnfold: {model}: {sentence}") for line, sentence in zip(lines, said, strict=True))
    written = {"fold": ["out.onnx"], "fleet": [f"out/{Path(model).name}"]}.get(way, [])
    assert set(names(here)) - set(before) == set(written)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--max-left", "-1"), "'-1' is no number of operators; give 0 or more"),
        (("--max-left", "few"), "'few' is no number of operators"),
        (("--fail-on", "zero-pading"), "there is no code 'zero-pading'; did you mean zero-padding?"),
        (("--fail-on", "xyz"), "there is no code 'xyz'; `bnfold explain` lists them all"),
    ],
)
def test_a_gate_that_cannot_be_one(here, capsys, flags, said):
    assert run("inspect", "models", *(f"{flags[0]}={flag}" for flag in flags[1:])) == 2
    assert said in capsys.readouterr().err


def test_an_error_comes_before_a_gate(here):
    assert run("fold", ONE, "-o", "out.onnx", "--keep", "nothing", "--max-left", "0", "--quiet") == 2
    assert run("fold", ONE, "-o", "out.onnx", "--keep", "*", "--require-change", "--max-left", "0", "--quiet") == 4


def test_forms_for_ci_of_one_model(here):
    reports = ("--report", "r.junit.xml", "--report", "r.sarif", "--report", "r.json")
    assert run("fold", ONE, "-o", "out.onnx", "--max-left", "0", "--quiet", *reports) == 7
    suite = ET.parse("r.junit.xml").getroot().find("testsuite")  # noqa: S314  our own
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert [case.get("name") for case in suite] == ["folds", "stays", "verification", "--max-left"]
    assert failed == ["stays", "--max-left"]
    (run_,) = json.loads(Path("r.sarif").read_text())["runs"]
    assert [(result["ruleId"], result["level"]) for result in run_["results"]] == [
        ("barrier", "warning"),
        ("max-left", "error"),
    ]
    assert json.loads(Path("r.json").read_text())["bn_after"] == 1  # the form of a report on one model


def test_forms_for_ci_of_a_model_that_was_refused(here):
    argv = ("fold", ONE, "-o", "out.onnx", "--keep", "*", "--require-change", "--quiet", "--report", "r.junit.xml")
    assert run(*argv) == 4
    root = ET.parse("r.junit.xml").getroot()  # noqa: S314  our own
    assert (root.get("failures"), root.get("errors")) == ("2", "1")
    assert root.find(".//error").get("type") == "exit-4"
