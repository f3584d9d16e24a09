"""Inferred shapes are recorded, what is of another time is corrected, names stay; open axes get names."""

from __future__ import annotations

import pytest
from onnx import ModelProto, checker, parser

from folding import onnxfile
from folding.analysis import shapes
from folding.analysis.values import indexed
from folding.conversion.dimensions import dims_of
from folding.conversion.record import name_axes, record
from tests.folding.conversion.computing import applied

MODEL = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, 3, 8, 8] x, float[?, ?] z) => (float[?, ?] y, float[?, ?] s, float[N, 5, 6, 6] t)
<float[5, 3, 3, 3] w, float[7, 5, 6, 6] c, int64[2] sizes = {0, -1}> {
  c = Conv(x, w)
  r = Relu(c)
  y = Reshape(r, sizes)
  s = Relu(z)
  t = Neg(r)
}
"""


def made(text: str = MODEL) -> ModelProto:
    found = parser.parse_model(text)
    if any(tensor.name == "w" for tensor in found.graph.initializer):
        return found
    weight = found.graph.initializer.add(name="w", data_type=1, dims=[5, 3, 3, 3])
    weight.raw_data = bytes(4 * 135)
    kept = [value for value in found.graph.value_info if value.name != "w"]
    del found.graph.value_info[:]
    found.graph.value_info.extend(kept)
    return found


def recorded(before: ModelProto) -> tuple[ModelProto, list]:
    with onnxfile.from_bytes(before.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        changes = record(graph, file.model)
        return file.model, changes


def test_shapes_are_recorded_and_completed():
    after, changes = recorded(made())
    known = {value.name: dims_of(value) for value in (*after.graph.output, *after.graph.value_info)}
    assert known == {
        "y": ("N", 180),
        "s": (None, None),
        "t": ("N", 5, 6, 6),
        "c": (7, 5, 6, 6),
        "r": ("N", 5, 6, 6),
    }
    assert [(change.kind, change.count) for change in changes] == [
        ("shape of a value recorded", 1),
        ("recorded shape completed", 1),
    ]
    checker.check_model(after)


def test_recording_twice_changes_nothing():
    after, _ = recorded(made())
    again, changes = recorded(after)
    assert (again, changes) == (after, [])


def test_a_length_of_another_time_is_corrected():
    text = MODEL.replace("[N, 3, 8, 8] x", "[4, 3, 8, 8] x").replace("[N, 5, 6, 6] t", "[?, 5, 6, 6] t")
    after, _ = recorded(made(text))
    known = {value.name: dims_of(value) for value in (*after.graph.output, *after.graph.value_info)}
    assert known["c"] == known["r"] == known["t"] == (4, 5, 6, 6)
    checker.check_model(after, full_check=True)


NAMED = [
    ("float[?, 3] x", "a = Relu(x) y = Neg(a)", {"x": ("batch", 3), "y": ("batch", None)}),
    ("float[?, ?] x", "y = Relu(x)", {"x": ("batch", "x_1"), "y": ("batch", "x_1")}),
    ("float[?, 3] x, float[?, 3] z", "y = Add(x, z)", {"x": ("batch", 3), "z": ("batch", 3)}),
    ("float[N, ?] x, float[?, 3] z", "y = Relu(x)", {"x": ("N", "x_1"), "z": ("z_0", 3), "y": ("N", "x_1")}),
    ("float[2, ?] x", "y = Relu(x)", {"x": (2, "x_1"), "y": (None, "x_1")}),
    ("float[?, batch] x", "y = Relu(x)", {"x": ("batch_2", "batch")}),
]


@pytest.mark.parametrize(("inputs", "body", "expected"), NAMED)
def test_open_axes_get_names(inputs, body, expected):
    before = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g ({inputs}) => (float[?, ?] y) {{ {body} }}')
    after, changes = applied(before, name_axes)
    found = {value.name: dims_of(value) for value in (*after.graph.input, *after.graph.output)}
    assert {name: found[name] for name in expected} == expected
    assert [change.kind for change in changes] == ["open axes of an input named"]
    assert applied(after, name_axes) == (after, [])
