"""Targets on the command line: the report, the exit code, Polygraphy's form."""

from __future__ import annotations

import json

import onnx
import pytest

from folding.command.main import main

CUSTOM = """<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
g (float[2,4] x) => (float[2,4] y) { [r] a = Relu(x) [own] y = mine.Own(a) }"""
PLAIN = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,4] x) => (float[N,4] y) { [i] a = Identity(x) [r] y = Relu(a) }"""
PRODUCT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,4] y) <float[4,4] w = {WEIGHT}> { y = MatMul(x, w) }"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("custom", CUSTOM), ("plain", PLAIN)):
        onnx.save(onnx.parser.parse_model(text), f"{name}.onnx")
    return tmp_path


def test_what_the_target_refuses_is_not_written(models, capsys):
    assert main(["fold", "custom.onnx", "-o", "out.onnx", "--target", "tensorrt-11"]) == 6
    said = capsys.readouterr()
    assert not (models / "out.onnx").exists()
    assert "1 operator is refused" in said.out
    assert "mine::Own" in said.out
    assert "--allow-fallback" in said.err
    given = ["--target", "tensorrt-11", "--allow-fallback", "--no-verify"]
    assert main(["fold", "custom.onnx", "-o", "out.onnx", *given]) == 0
    assert (models / "out.onnx").exists()


def test_inspect_ends_with_the_same_code(models, capsys):
    assert main(["inspect", "custom.onnx", "--target", "tensorrt-11"]) == 6
    assert main(["inspect", "plain.onnx", "--target", "tensorrt-11"]) == 0
    assert "takes every operator" in capsys.readouterr().out


def test_the_report_ends_with_the_line_that_builds_the_engine(models, capsys):
    assert main(["fold", "plain.onnx", "-o", "out.onnx", "--target", "tensorrt-11"]) == 0
    said = capsys.readouterr().out
    assert "trtexec --onnx=out.onnx" in said
    assert "--minShapes=x:" in said
    assert [node.op_type for node in onnx.load("out.onnx").graph.node] == ["Relu"]


def test_lint_is_in_the_form_of_polygraphy(models, capsys):
    assert main(["inspect", "custom.onnx", "--target", "tensorrt-11", "--lint", "lint.json", "-q"]) == 6
    found = json.loads((models / "lint.json").read_text())
    assert found["summary"] == {"passing": ["r"], "failing": ["own"]}
    assert [(entry["level"], entry["nodes"]) for entry in found["lint_entries"]] == [("exception", ["own"])]
    assert main(["inspect", "custom.onnx", "--lint", "lint.json"]) == 2
    assert "--target" in capsys.readouterr().err


def test_an_unknown_target_names_the_nearest(models, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fold", "plain.onnx", "-o", "out.onnx", "--target", "tensorrt"])
    assert stop.value.code == 2
    assert "tensorrt-11" in capsys.readouterr().err


def test_16_bits_are_written_and_verified(models, capsys):
    text = PRODUCT.replace("WEIGHT", ", ".join(["0.5"] * 16))
    onnx.save(onnx.parser.parse_model(text), "product.onnx")
    assert main(["fold", "product.onnx", "-o", "half.onnx", "--precision", "fp16", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verification"]["status"] == "verified"
    assert [(one["op"], one["dtype"]) for one in report["types"]] == [("MatMul", "float16")]
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load("half.onnx").graph.initializer}
    assert list(kinds.values()) == [onnx.TensorProto.FLOAT16]
