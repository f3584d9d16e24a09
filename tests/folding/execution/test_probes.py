"""What verification looks at besides the outputs is found by the graph alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import parser

from folding.execution import probes
from folding.onnxfile import read

if TYPE_CHECKING:
    from pathlib import Path

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\nagraph '
BRANCH = """(float[2] x) => (float[2] y, float[2] z) <float[2] a = {1, 2}, float[2] b = {3, 4}, bool c = {1}> {
    h = Mul(x, a)
    y = If(c) <then_branch = t () => (float[2] p) { p = Add(h, b) }, else_branch = e () => (float[2] q) { q = Neg(x) }>
    z = Abs(h) }"""


def model(text: str) -> onnx.ModelProto:
    return parser.parse_model(HEAD + text)


@pytest.mark.parametrize(
    ("body", "tap"),
    [
        ("h = Neg(x)  y = Softmax(h)", ("h", "Softmax", ())),
        ("h = Neg(x)  s = Sigmoid(h)  t = Transpose(s)  y = Identity(t)", ("h", "Sigmoid", (("Transpose",),))),
        ("h = Neg(x)  s = Sigmoid(h)  i = Identity(s)  y = Cast <to = 1> (i)", ("h", "Sigmoid", ())),
        ("y = Sigmoid(x)", None),  # nothing is computed before it
        ("h = Sigmoid(x)  y = Neg(h)", None),
        ("y = Identity(x)", None),
    ],
)
def test_values_before_a_last_saturating_operator(body: str, tap: tuple[object, ...] | None) -> None:
    found = probes.taps(model(f"(float[2,3] x) => (float[A,B] y) {{ {body} }}"))
    assert found == ({} if tap is None else {"y": tap})


def test_transposes_of_other_orders_are_other_moves() -> None:
    one, other = (
        probes.taps(model(f"(float[2,2] x) => (float[2,2] y) {{ h = Neg(x)  s = Tanh(h)  y = Transpose{perm}(s) }}"))
        for perm in ("<perm = [0, 1]>", "<perm = [1, 0]>")
    )
    assert one["y"].moves != other["y"].moves


def test_a_value_that_is_an_output_is_not_tapped() -> None:
    assert not probes.taps(model("(float[2] x) => (float[2] y, float[2] h) { h = Neg(x)  y = Softmax(h) }"))


def test_bytes_behind_a_model_make_values_outputs() -> None:
    data = model("(float[2] x) => (float[2] y) { h = Neg(x)  y = Abs(h) }").SerializeToString()
    longer = onnx.ModelProto.FromString(data + probes.outputs_fragment(["h"]))
    assert [value.name for value in longer.graph.output] == ["y", "h"]


def test_outputs_behind_a_constant_also_through_nested_graphs() -> None:
    assert probes.outputs_behind(model(BRANCH), ["a", "b", "c"]) == {"a": ("y", "z"), "b": ("y",), "c": ("y",)}


@pytest.mark.parametrize(("inputs", "known"), [("x, a, b, b, a", 1), ("x, a, b, k, l", 0)])
def test_a_known_trap_is_recognized(inputs: str, known: int) -> None:
    constants = ", ".join(f"float[4] {name} = {{1, 2, 3, 4}}" for name in "abkl")
    text = "(float[2,4] x) => (float[2,4] y) <" + constants + "> { y, m, v = BatchNormalization<training_mode=%d>(%s) }"
    found = probes.traps(model(text % (1, inputs)))
    assert [trap.reference.rpartition("/")[2] for trap in found] == ["29790"] * known
    assert not probes.traps(model(text.replace("y, m, v", "y") % (0, inputs)))


def test_constants_of_operators_that_absorbed_something_are_read(tmp_path: Path) -> None:
    found = model(
        "(float[1,2] x) => (float[1,600] y) <float[2,600] w = {%s}, float[600] b = {%s}, float[600] z = {%s}> "  # noqa: UP031
        "{ g = Gemm(x, w, b)  h = Gemm(x, w, z)  y = Add(g, h) }"
        % (", ".join(["0.5"] * 1200), ", ".join(["2"] * 600), ", ".join(["0"] * 600))
    )
    for tensor in found.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    for node in found.graph.node[:2]:
        node.metadata_props.add(key=probes.ABSORBED, value="bn")
    (tmp_path / "model.onnx").write_bytes(found.SerializeToString())
    with read(tmp_path / "model.onnx") as file:
        constants = probes.folded_constants(file)
    assert {name: values.shape for name, values in constants.items()} == {"w": (2, 600), "b": (600,)}
    np.testing.assert_array_equal(constants["w"], np.full((2, 600), 0.5, np.float32))
