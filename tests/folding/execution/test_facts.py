"""facts: number types and quantizers are found wherever a model may name them, and what cannot be read says so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from folding.command import main as cli
from folding.errors import ModelError
from folding.execution.facts import read_facts
from folding.verification.parent import verify
from tests.support.verification import parsed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from folding.execution.facts import Facts

FLOAT, FLOAT16, DOUBLE, BFLOAT16 = 2**-23, 2**-10, 2**-52, 2**-7
RELU = "(float[1] x) => (float[1] y) { y = Relu(x) }"
CONSTANT = "(float[1] x) => (float[1] y) { k = Constant<%s>() y = Relu(x) }"
BRANCHES = """(float[1] x, bool c) => (float[1] y) { y = If (c) <
    then_branch = t () => (float[1] a) { a = %s(x) },
    else_branch = e () => (float[1] b) %s { h = Cast<to=%d>(x) b = Cast<to=1>(h) }> }"""


def known(model: onnx.ModelProto, folder: Path) -> Facts:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return read_facts(path)


@pytest.mark.parametrize(
    ("text", "epsilon"),
    [
        (RELU, FLOAT),
        ("(int64[1] x) => (int64[1] y) { y = Abs(x) }", FLOAT),
        ("(double[1] x) => (double[1] y) { y = Relu(x) }", DOUBLE),
        ("(double[4] x) => (float[4] y) { y = Cast<to=1>(x) }", FLOAT),
        ("(float[4] x) => (double[4] y) { y = Cast<to=11>(x) }", FLOAT),
        ("(float[4] x) => (float[4] y) { h = Cast<to=10>(x) y = Cast<to=1>(h) }", FLOAT16),
        ("(bfloat16[4] x) => (float16[4] y) { y = Cast<to=10>(x) }", BFLOAT16),
        ("(float[1] x) => (float[1] y) <float16[1] w = {1}> { y = Relu(x) }", FLOAT16),
        (CONSTANT % "value=bfloat16[1] {1}", BFLOAT16),
        (BRANCHES % ("Relu", "", 10), FLOAT16),
        (BRANCHES % ("Relu", "<float16[1] w = {1}>", 1), FLOAT16),
    ],
)
def test_the_narrowest_type_named_anywhere_decides(text: str, epsilon: float, tmp_path: Path) -> None:
    assert known(parsed(text), tmp_path).epsilon == epsilon


def _function(model: onnx.ModelProto) -> None:
    node = model.functions.add(name="f", domain="d", input=["x"], output=["y"]).node
    node.add(op_type="Cast", input=["x"], output=["y"]).attribute.add(name="to", i=10, type="INT")


def _half(**named: str) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.ones(1, np.float16), **named)
    return onnx.SparseTensorProto(values=values, indices=numpy_helper.from_array(np.zeros(1, np.int64)), dims=[4])


def _sparse_initializer(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.append(_half(name="w"))


def _sparse_constant(model: onnx.ModelProto) -> None:
    attribute = onnx.helper.make_attribute("sparse_value", _half())
    model.graph.node.add(op_type="Constant", output=["w"]).attribute.append(attribute)


def _large_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones(10_000, np.float16), "w"))


@pytest.mark.parametrize("add", [_function, _sparse_initializer, _sparse_constant, _large_initializer])
def test_types_are_found_in_every_corner(add: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    model = parsed(RELU)
    assert known(model, tmp_path).epsilon == FLOAT
    add(model)
    assert known(model, tmp_path).epsilon == FLOAT16


@pytest.mark.parametrize(
    ("operator", "quantizes"),
    [
        ("QuantizeLinear", True),
        ("DynamicQuantizeLinear", True),
        ("QLinearConv", True),
        ("ConvInteger", True),
        ("DequantizeLinear", False),
        ("Conv", False),
    ],
)
@pytest.mark.parametrize("text", ["(float[1] x) => (float[1] y) { y = %s(x) }", BRANCHES % ("%s", "", 1)])
def test_quantized_activations_are_distinguished_from_quantized_weights(
    text: str, operator: str, quantizes: bool, tmp_path: Path
) -> None:
    assert known(parsed(text % operator), tmp_path).quantizes is quantizes


def test_external_data_count(tmp_path: Path) -> None:
    model = parsed(RELU)
    for name in ("v", "w"):
        tensor = model.graph.initializer.add(
            name=name, data_type=onnx.TensorProto.FLOAT, dims=[1000], data_location=onnx.TensorProto.EXTERNAL
        )
        tensor.external_data.add(key="location", value="weights.bin")
    (tmp_path / "weights.bin").write_bytes(bytes(4000))
    assert known(model, tmp_path).nbytes == (tmp_path / "model.onnx").stat().st_size + 4000


@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "cannot be opened: No such file or directory", id="missing"),
        pytest.param(b"", "is empty; it is not an ONNX model", id="empty"),
        pytest.param(b"no protobuf at all", "corrupt", id="text"),
        pytest.param(parsed(RELU).SerializeToString()[:-3], "truncated", id="cut off"),
    ],
)
def test_a_model_that_cannot_be_read_ends_the_command(
    content: bytes | None, reason: str, broken: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "before.onnx", tmp_path / "after.onnx"]
    for path in paths:
        onnx.save(parsed(RELU), path)
    paths[broken].unlink()
    if content is not None:
        paths[broken].write_bytes(content)
    assert cli.main(["verify", *map(str, paths)]) == cli.BAD_INPUT
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"bnfold: {paths[broken]}")
    assert reason in err
    with pytest.raises(ModelError, match=re.escape(str(paths[broken]))):
        verify(*paths)


@pytest.mark.parametrize("operator", ["Round", "Floor", "Ceil", "Sign"])
def test_steps_of_data_are_found_and_those_of_lengths_are_not(operator: str, tmp_path: Path) -> None:
    of_data = f"(float[N] x) => (float[N] y) {{ t = Relu(x) y = {operator}(t) }}"
    of_lengths = f"(float[N] x) => (float[M] y) {{ n = Shape(x) f = Cast <to = 1> (n) y = {operator}(f) }}"
    assert known(parsed(of_data), tmp_path).quantizes
    assert not known(parsed(of_lengths), tmp_path).quantizes
