"""The architecture survey reads reports right and writes a table that says so; no network is exported here."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.architectures import families, survey, table
from benchmarks.architectures.families import FAMILIES, QUICK, Network
from benchmarks.architectures.survey import Fold, Row, Stay, Survey
from tests.support import ROOT
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    import pytest

WORSE = "; in {} ONNX Runtime's own graph got worse."
STAYS = (Stay("barrier Relu", "zero-padding Conv", 3), Stay("graph-input", "graph-output", 1))
ROWS = [
    Row(
        "A", "a1", "p:a1", "torchscript", 20, 10,
        Fold(4, {"folded": 5, "split": 1}, STAYS, "verified", 0.0012, 0.01, (30, 31), ["30 -> 31 operators"]),
        Fold(1, {"folded": 9}, STAYS[1:], "failed", 2.0, 1.0),
    ),
    Row("A", "a1", "p:a1", "dynamo", 20, 0, Fold(verdict="verified"), Fold(verdict="verified")),
    Row("B", "b|1", "p:b1", "torchscript", failure="stopped after 5 s"),
    Row(
        "B", "b|1", "p:b1", "dynamo", 5, 5,
        Fold(5, {}, [Stay("barrier", "barrier", 5)], "verified"), Fold(failure="bang"),
    ),
    Row("C", "c1", "p:c1", "dynamo", 3, 2, Fold(2, {}, (), "verified"), Fold(1, {"folded": 1}, (), "verified")),
]  # fmt: skip


def test_every_network_has_a_file_name_of_its_own_and_a_package_that_is_installed_for_it():
    names = [name for family in FAMILIES.values() for name in family]
    assert len(set(names)) == len(names)
    assert {"timm", "pytorchcv"} | {""} == {n.package for family in FAMILIES.values() for n in family.values()}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {line.partition(">")[0] for line in extras["survey"]} == {"timm", "pytorchcv"}


def test_networks_of_this_folder_are_there_and_the_quick_ones_need_no_package():
    text = (ROOT / "benchmarks" / "architectures" / "networks.py").read_text()
    own = [n.make.partition(":") for family in FAMILIES.values() for n in family.values() if not n.package]
    assert own
    assert all(module == families.OWN and f"class {name}(" in text for module, _, name in own)
    assert not any(network.package for family in QUICK for network in FAMILIES[family].values())


def test_a_row_says_what_went_what_stays_and_how_well_it_was_verified():
    lines = table.markdown(ROWS, {"python": "3"}).splitlines()
    row = next(line for line in lines if line.startswith("| A | a1 | torchscript"))
    assert row.split(" | ")[3:8] == ["20", "10", "4", "5 folded, 1 split", "1"]
    assert row.split(" | ")[8] == "30 -> 31 (worse: 30 -> 31 operators)"
    assert "3 barrier Relu / zero-padding Conv; 1 graph-input / graph-output" in row
    assert row.endswith("| verified, 0.001 of 0.01 | failed, 2 of 1 |")
    assert next(line for line in lines if "a1 | dynamo" in line).endswith(
        "| verified, unchanged | verified, unchanged |"
    )
    assert len({line.replace("\\|", "").count("|") for line in lines if line.startswith(("| A", "| B"))}) == 1


def test_a_failed_export_and_a_failed_fold_are_rows():
    text = table.markdown(ROWS, {})
    assert "| B | b\\|1 | torchscript |  |  |  |  |  |  |  |  | not exported: stopped after 5 s |" in text
    assert "| verified, unchanged | bang |" in text


def test_totals_count_what_the_exporter_leaves():
    torchscript, dynamo = (table.total(ROWS, exporter) for exporter in survey.EXPORTERS)
    assert "1 of 2 networks, 20 BatchNormalizations in the modules; of the 10 that" in torchscript
    shares = "60.0% (6) go by default, 90.0% (9) with clamps"
    assert torchscript.endswith(f"{shares}; 1 failed verification{WORSE.format(1)}")
    assert dynamo.startswith("dynamo: 2 of 3 networks, 23 BatchNorm")
    assert dynamo.endswith(
        "of the 2 that the exporter leaves, 0.0% (0) go by default, 50.0% (1) with clamps; 0 failed verification"
        + WORSE.format(0)
    )
    assert table.total([], "dynamo").endswith(
        "of the 0 that the exporter leaves, none go by default, none with clamps; 0 failed verification"
        + WORSE.format(0)
    )


def test_reasons_are_ranked_with_the_families_they_occur_in(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(table, "PAIRS_SHOWN", 2)
    tail = table.markdown(ROWS, {}).splitlines()[-3:]
    assert tail == [
        "| barrier | barrier | 5 | 0 | B |",
        "| barrier Relu | zero-padding Conv | 3 | 0 | A |",
        "| 1 other pairs |  | 1 | 1 |  |",
    ]


def test_the_json_form_holds_every_row(tmp_path: Path):
    table.write(ROWS, tmp_path / "new")
    plain = json.loads((tmp_path / "new" / "architectures.json").read_text())
    assert [row["network"] for row in plain["rows"]] == ["a1", "a1", "b|1", "b|1", "c1"]
    assert plain["rows"][0]["default"]["stays"][0] == {
        "backward": "barrier Relu",
        "forward": "zero-padding Conv",
        "count": 3,
    }
    assert (tmp_path / "new" / "architectures.md").read_text().startswith("# What real architectures leave")


def test_of_several_outputs_the_one_closest_to_its_tolerance_is_reported():
    outputs = [
        {"max_absolute": 1.0, "tolerance": 9.0},
        {"max_absolute": 0.5, "tolerance": 1.0},
        {"max_absolute": 0.0, "tolerance": 0.0},
    ]
    report = {"outcomes": [], "bn_after": 0, "verification": {"status": "verified", "outputs": outputs}}
    assert (survey.read(report, {}).error, survey.read(report, {}).tolerance) == (0.5, 1.0)
    outputs.append({"max_absolute": None, "tolerance": 1.0})  # JSON's word for a figure that is not finite
    assert survey.read(report, {}).error is None
    assert table._verdict(Fold(0, {"folded": 1}, (), "failed", None, 1.0)) == "failed, not finite of 1"  # type: ignore[arg-type]


def write_model(path: Path) -> None:
    """Conv -> BatchNormalization, and before it one that only a clamp lets reach the Conv."""
    names = ["scale", "bias", "mean", "var"]
    nodes = [
        helper.make_node("Asinh", ["x"], ["a"], "asinh"),
        helper.make_node("BatchNormalization", ["a", *names], ["n"], "clamped"),
        helper.make_node("Relu", ["n"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", *names], ["y"], "textbook"),
    ]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2, 4, 4]) for name in "xy")
    weights = [numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "w")]
    values = {"scale": [-0.5, 2], "bias": [1, 2], "mean": [1, 2], "var": [1, 2]}  # a negative scale does not pass Relu
    weights += [numpy_helper.from_array(np.array(values[name], np.float32), name) for name in names]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_a_fold_is_counted_from_the_commands_report(tmp_path: Path):
    write_model(tmp_path / "m.onnx")
    fold = Survey(tmp_path, timeout=PATIENCE).fold(tmp_path / "m.onnx")
    assert (fold.left, dict(fold.gone), fold.verdict, fold.failure) == (1, {"folded": 1}, "verified", "")
    assert fold.error <= fold.tolerance
    assert list(fold.stays) == [Stay("barrier Asinh", "clamp Relu", 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_row_without_its_package_or_its_export_says_why(tmp_path: Path):
    here = Survey(tmp_path, timeout=PATIENCE)
    missing = here.row("F", "n", Network("nosuchpackage.models:net", (1, 3)), "dynamo")
    assert missing.failure == "nosuchpackage is not installed"
    (tmp_path / "n.dynamo.onnx").write_bytes(b"no model")
    assert "m.onnx" not in (broken := here.fold(tmp_path / "n.dynamo.onnx")).failure
    assert broken.failure


def test_a_process_that_takes_too_long_is_stopped(tmp_path: Path):
    write_model(tmp_path / "m.onnx")
    assert Survey(tmp_path, timeout=0.01).fold(tmp_path / "m.onnx").failure == "stopped after 0.01 s"


def test_an_export_is_made_once_for_each_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = []

    def run(self: Survey, *arguments: str) -> dict[str, int]:
        made.append(arguments)
        write_model(Path(arguments[-1]))
        return {"normalizations": 7}

    monkeypatch.setattr(Survey, "_run", run)
    path, network = tmp_path / "n.dynamo.onnx", Network("benchmarks.x:Net", (1, 2, 4, 4), {"width": 3})
    here = Survey(tmp_path, timeout=PATIENCE)
    assert [here._export(network, "dynamo", path) for _ in range(2)] == [7, 7]
    assert [arguments[2:] for arguments in made] == [
        ("benchmarks.x:Net", "[1, 2, 4, 4]", '{"width": 3}', "dynamo", str(path))
    ]
    here._export(Network("benchmarks.x:Net", (1, 2, 8, 8)), "dynamo", path)
    assert len(made) == 2


def test_a_row_is_folded_by_default_and_with_clamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def export(self: Survey, network: Network, exporter: str, path: Path) -> int:
        write_model(path)
        return 3

    monkeypatch.setattr(Survey, "_export", export)
    row = Survey(tmp_path, timeout=PATIENCE).row("F", "n", Network(f"{families.OWN}:Net", (1, 2, 4, 4)), "dynamo")
    assert (row.in_module, row.in_file, row.default.left, row.clamps.left) == (3, 2, 1, 0)
    assert row.clamps.verdict == "verified"
