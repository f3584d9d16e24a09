"""The benchmark measures what it says: its models, one run of a tool, failures, turns, the table."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from benchmarks import __main__ as command
from benchmarks import models, table
from benchmarks.measure import Bench, Run, normalizations
from benchmarks.models import MODELS, Model
from benchmarks.networks import Architecture, Stage
from benchmarks.tools import TOOLS, Tool
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

SINGLE = Model("tiny", Architecture(image=8, stem=8, stages=(Stage(8, 1), Stage(16, 1, 2))))
EXTERNAL = Model("tiny, external data", SINGLE.architecture, external=True)
BOTTLENECK = Model("tiny", Architecture(32, 8, (Stage(4, 2), Stage(8, 1, 2)), bottleneck=True, imagenet_stem=True))
TINY_NORMALIZATIONS = 6  # the stem, two in each block, one shortcut


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setitem(MODELS, "tiny", SINGLE)
    return Bench("tiny", models.write(SINGLE, tmp_path / "tiny"), tmp_path, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("name", "convolutions", "smallest", "largest"),
    [
        ("small", 57, 5e6, 6e6),
        ("resnet50", 53, 102e6, 103e6),  # 25.6 million parameters
        ("1.9gb", 51, 1.8e9, 2**31 - 1e8),  # protobuf's limit, with room for what folding adds
        ("3.9gb-external", 103, 3.8e9, 4e9),
    ],
)
def test_models_have_the_size_they_are_named_for(name: str, convolutions: int, smallest: float, largest: float) -> None:
    network = MODELS[name].network
    assert sum(node.op_type == "Conv" for node in network.nodes) == convolutions
    assert network.normalizations == convolutions
    assert smallest < MODELS[name].nbytes < largest


@pytest.mark.parametrize("model", [SINGLE, EXTERNAL, BOTTLENECK])
def test_a_written_model_is_valid_and_its_outputs_are_finite(model: Model, tmp_path: Path) -> None:
    path, *data = models.write(model, tmp_path / "model")
    assert len(data) == model.external
    onnx.checker.check_model(path, full_check=True)
    assert normalizations(path) == model.network.normalizations
    image = model.architecture.image
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    result = np.asarray(session.run(None, {"input": np.ones((1, 3, image, image), np.float32)})[0])
    assert np.isfinite(result).all()
    assert result.std() > 0


def test_a_model_is_the_same_every_time_in_either_form(tmp_path: Path) -> None:
    weights = []
    for name, model in (("a", SINGLE), ("b", EXTERNAL)):
        loaded = onnx.load(models.write(model, tmp_path / name)[0])
        weights.append({tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in loaded.graph.initializer})
    assert weights[0] == weights[1]
    assert len(set(weights[0].values())) == len(weights[0])


def test_long_weights_are_written_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "NOISE_ELEMENTS", 1000)
    path, *_ = models.write(SINGLE, tmp_path / "model")
    onnx.checker.check_model(path, full_check=True)


def test_a_written_model_is_not_written_again(bench: Bench) -> None:
    (path,) = bench.files
    before = path.stat().st_mtime_ns
    models.write(SINGLE, path.parent)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "left"), [("cp", TINY_NORMALIZATIONS), ("load+save", TINY_NORMALIZATIONS), ("bnfold", 0)]
)
def test_a_run_measures_and_counts(bench: Bench, name: str, left: int) -> None:
    run = bench.run(name, TOOLS[name], 1)
    assert run.failure == ""
    assert run.normalizations == left
    assert run.nbytes > SINGLE.nbytes
    assert min(run.wall, run.cpu, run.peak) > 0
    assert {path.name for path in bench.folder.iterdir()} == {"tiny"}


def _python(program: str, **more: Any) -> Tool:
    return Tool(lambda files, folder: [sys.executable, "-c", program, str(files[0]), str(folder)], "a program", **more)


@pytest.mark.parametrize(
    ("tool", "failure"),
    [
        (_python("raise SystemExit('line one\\nno such operator')"), "exit code 1: no such operator"),
        (_python("import sys; sys.exit(sys.argv[2])"), "exit code 1: .../output"),
        (_python("raise SystemExit(7)"), "exit code 7: no message"),
        (_python("import os; os.kill(os.getpid(), 9)"), "ended by signal 9"),
        (_python("import time; time.sleep(6000)"), "stopped after 0.3 s"),
        (_python("", package="no-such-package"), "no-such-package is not installed"),
        (_python(""), "no usable output"),
        (_python("import sys; open(sys.argv[2] + '/model.onnx', 'w').write('no model')"), "no usable output"),
        (Tool(lambda _, __: ["no-such-command"], "missing"), "no-such-command could not be started"),
    ],
)
def test_a_failure_is_reported(bench: Bench, tool: Tool, failure: str) -> None:
    limit = 0.3 if "stopped" in failure else bench.timeout
    run = Bench(bench.model, bench.files, bench.folder, limit).run("tool", tool, 1)
    assert failure in run.failure
    assert str(bench.folder) not in run.failure
    assert run.normalizations is None


@dataclass(frozen=True)
class Rehearsal(Bench):
    """Runs nothing and remembers what it was asked for."""

    asked: list[str] = field(default_factory=list)
    slow: str = ""
    broken: str = ""

    def run(self, name: str, tool: Tool, number: int) -> Run:  # noqa: ARG002  (the signature of what it replaces)
        self.asked.append(f"{number}{name}")
        failure = "broken" if name == self.broken else ""
        return Run(self.model, name, number, wall=99.0 if name == self.slow else 1.0, failure=failure)


@pytest.mark.parametrize(
    ("model", "options", "asked"),
    [
        ("tiny", {}, "0cp 1cp 1bnfold 1onnxsim 2bnfold 2onnxsim 2cp"),
        ("tiny", {"slow": "bnfold"}, "0cp 1cp 1bnfold 1onnxsim 2onnxsim 2cp"),
        ("tiny", {"broken": "onnxsim"}, "0cp 1cp 1bnfold 1onnxsim 2bnfold 2cp"),
        ("1.9gb", {}, "0cp 1cp 1bnfold 2bnfold 2cp"),
    ],
)
def test_tools_take_turns(bench: Bench, model: str, options: dict[str, str], asked: str) -> None:
    rehearsal = Rehearsal(model, bench.files, bench.folder, 60, **options)  # type: ignore[arg-type]
    list(command.rounds(command.Schedule([model], ["cp", "bnfold", "onnxsim"], rounds=2), rehearsal))
    assert " ".join(rehearsal.asked) == asked


def test_a_model_the_disk_cannot_hold_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SPARE_BYTES", 1 << 60)
    runs, notes = command.measure(command.Schedule(["small"], ["cp"]), tmp_path)
    assert runs == []
    assert "small: it needs" in notes[0]
    table.write(runs, tmp_path, notes)
    assert notes[0] in (tmp_path / "results.md").read_text()


RUNS = [
    Run("tiny", "cp", 1, wall=1.0, cpu=0.5, peak=10_000_000, normalizations=6, nbytes=6_000_000, operators=18),
    Run("tiny", "bnfold", 1, wall=2.0, cpu=1.0, peak=50_000_000, normalizations=0, nbytes=6_100_000, operators=6),
    Run("tiny", "bnfold", 2, wall=4.0, cpu=2.0, peak=50_000_000, normalizations=0, nbytes=6_100_000, operators=6),
    Run("tiny", "onnxsim", 1, failure="exit code 1: a | b"),
]


@pytest.mark.parametrize(
    "row",
    [
        "| cp | 1.00 (1.00 to 1.00) | 1.0 | 0.50 | 1.0 | 10 | 6 | 18 | 6.0 | 1 |",
        "| bnfold | 3.00 (2.00 to 4.00) | 3.0 | 1.50 | 3.0 | 50 | 0 | 6 | 6.1 | 2 |",
        "| onnxsim | exit code 1: a \\| b |  |  |  |  |  |  |  | 1 |",
        "## tiny: tiny, 0 MB, 6 convolutions, 6 BatchNormalizations",
    ],
)
def test_the_table_has_medians_ratios_and_failures(bench: Bench, row: str) -> None:
    table.write(RUNS, bench.folder, [])
    assert row in (bench.folder / "results.md").read_text().splitlines()


def test_the_json_has_every_run_and_no_path(bench: Bench) -> None:
    table.write(RUNS, bench.folder, [])
    text = (bench.folder / "results.json").read_text()
    assert [Run(**run) for run in json.loads(text)["runs"]] == RUNS
    assert sys.prefix not in text


@pytest.mark.parametrize(("runs", "code"), [(RUNS, 0), ([Run("tiny", "bnfold", 1, failure="x")], 1)])
def test_the_plot_is_drawn_and_the_exit_code_is_about_bnfold(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs: list[Run], code: int
) -> None:
    monkeypatch.setattr(command, "measure", lambda _schedule, _folder: (runs, []))
    assert command.main(["--quick", "--output", str(bench.folder)]) == code
    assert "bnfold" in (bench.folder / "results.svg").read_text()
    assert "## tiny" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["--models", "huge"], ["--tools", "cp,tar"], ["--rounds", "0"], ["--keep"]])
def test_usage_errors(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(argv)
    assert "error: " in capsys.readouterr().err
