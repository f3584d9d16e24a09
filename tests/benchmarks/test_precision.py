"""The comparison of converters measures what it says, and keeps rows of an earlier run; no network is exported here."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.precision import __main__ as command
from benchmarks.precision import table
from benchmarks.precision.converters import NOT_THERE, TOOLS
from benchmarks.precision.measure import Row, converted, counts, error_of, judged, presentable
from tests.support import ROOT
from tests.support.halved import lowered
from tests.support.verification import parsed

ROWS = [
    Row("ResNet", "original", "AutoCast", 0.03, 0, 4, 1, 5000, 12.5, 400_000_000),
    Row("ResNet", "folded", "AutoCast", None, 7, 2, 0, 4000, 12.5, 400_000_000),
    Row("U-Net", "original", "bnfold mixed", failure="invalid: a|b"),
]
GEMM = "(float[2,4] input0) => (float[2,4] output0) { a = MatMul(input0, w) b = Relu(a) output0 = MatMul(b, w) }"


def gemm() -> onnx.ModelProto:
    model = parsed(GEMM)
    weight = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return model


def exact(model: onnx.ModelProto, x: Any) -> Any:
    w = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64)
    return np.maximum(x @ w, 0) @ w


def test_the_error_is_that_of_the_type(tmp_path):
    model = gemm()
    x = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)
    np.savez(tmp_path / "tests.npz", input0=x, output0=exact(model, x))
    onnx.save(model, tmp_path / "single.onnx")
    onnx.save(lowered(model), tmp_path / "half.onnx")
    assert error_of(tmp_path / "single.onnx", tmp_path / "tests.npz")["error"] < 1e-6
    found = judged(tmp_path / "half.onnx", tmp_path / "tests.npz")
    assert 1e-5 < found["error"] < 2e-3
    assert (found["nonfinite"], found["casts"], found["heavy"]) == (0, 2, 0)
    np.savez(tmp_path / "tests.npz", input0=x * np.float32(3e4), output0=exact(model, x * np.float32(3e4)))
    found = judged(tmp_path / "half.onnx", tmp_path / "tests.npz")
    assert found["error"] is None
    assert 0 < found["nonfinite"] <= 8


def test_wrong_types_are_invalid_though_an_emulation_would_run(tmp_path):
    model = lowered(gemm())
    model.graph.node[3].input[0] = "input0"
    onnx.save(model, tmp_path / "half.onnx")
    assert judged(tmp_path / "half.onnx", tmp_path / "tests.npz")["failure"].startswith("invalid: ")


def test_products_that_stay_are_counted_in_graphs_within(tmp_path):
    text = """(float[2,2] x, bool c) => (float[2,2] y) {
        y = If(c) <then_branch = g () => (float[2,2] u) { u = MatMul(x, x) },
                   else_branch = h () => (float[2,2] v) { a = Cast<to=10>(x) b = MatMul(a, a) v = Cast<to=1>(b) }> }"""
    assert counts(parsed(text)) == {"casts": 2, "heavy": 1}


def test_a_converter_that_fails_says_why(tmp_path):
    onnx.save(gemm(), tmp_path / "model.onnx")
    files = tmp_path / "model.onnx", tmp_path / "none.npz", tmp_path / "out.onnx"
    found = converted(command.sys.executable, "no such tool", *files, timeout=60)
    assert found["failure"] == "KeyError: 'no such tool'"
    assert found["peak"] > 0
    assert presentable(f"{tmp_path}/x\n is wrong", tmp_path) == ".../x is wrong"


def test_the_table_has_a_line_for_each_row_and_each_converter(tmp_path):
    table.write(tmp_path, {"onnx": "1.0"}, ROWS)
    text = (tmp_path / "precision.md").read_text()
    assert "; onnx 1.0." in text
    assert "| AutoCast | original | 0.03 | 0 | 4 | 1 | 5 | 12.5 | 400 |  |" in text
    assert "| AutoCast | folded |  | 7 | 2 | 0 | 4 | 12.5 | 400 |  |" in text
    assert r"| bnfold mixed | original |  |  |  |  |  | 0.0 | 0 | invalid: a\|b |" in text
    assert "| AutoCast | original | 1 | 1 | 1 | 1 | 0.03 | 4 | 1 | 12 |" in text
    assert table.read(tmp_path) == ({"onnx": "1.0"}, ROWS)
    assert table.read(tmp_path / "none") == ({}, [])


def test_rows_that_are_not_measured_again_stay(tmp_path, monkeypatch, capsys):
    table.write(tmp_path, {}, ROWS)
    new = replace(ROWS[2], error=0.01, nbytes=10, failure="")
    monkeypatch.setattr(command, "_rows", lambda network, _: [new] if network == "U-Net" else [])
    monkeypatch.setattr(command, "_version", lambda name, _: "" if name == "onnx" else "2.0")
    assert command.main(["--network", "U-Net", "--output", str(tmp_path)]) == 0
    versions, rows = table.read(tmp_path)
    assert rows == [*ROWS[:2], new]
    assert "onnx" not in versions
    assert versions["torch"] == "2.0"
    assert "0.01" in capsys.readouterr().out


def test_the_names_are_those_of_the_networks():
    """They are known without PyTorch, which loads slowly."""
    text = (ROOT / "benchmarks" / "precision" / "networks.py").read_text()
    assigned = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.AnnAssign)]
    (networks,) = [node.value for node in assigned if ast.unparse(node.target) == "NETWORKS"]
    assert isinstance(networks, ast.Dict)
    plain = [ast.literal_eval(key) for key in networks.keys if key is not None]
    assert [name for name in command.NAMES if not name.startswith("conformer")] == plain
    assert len(command.NAMES) >= 14
    assert set(command.QUICK) <= set(command.NAMES)


def test_ours_says_what_it_waits_for(tmp_path):
    """The option is of another part; a row without it says so."""
    onnx.save(gemm(), tmp_path / "model.onnx")
    np.savez(tmp_path / "samples.npz", input0=np.ones((2, 4), np.float32))
    files = tmp_path / "model.onnx", tmp_path / "samples.npz", tmp_path / "out.onnx"
    failure = converted(command.sys.executable, "bnfold mixed", *files, timeout=120)["failure"]
    assert failure in {"", NOT_THERE}
    assert (failure == "") == files[2].exists()
    assert list(TOOLS)[-2:] == ["bnfold fp16", "bnfold mixed"]
