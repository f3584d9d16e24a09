"""Shapes of inputs are fixed, the same lengths follow everywhere, and what does not fit is refused with what to do."""

from __future__ import annotations

import pytest
from onnx import ModelProto, checker, parser, save

from folding import onnxfile
from folding.conversion.dimensions import dims_of, parse_shape, written
from folding.conversion.shapes import fix
from folding.errors import OptionError

PARSED = [
    ("x=1x3x224x224", "x", (1, 3, 224, 224)),
    ("x=Nx3x224x224", "x", ("N", 3, 224, 224)),
    ("x=?x3x-1", "x", (None, 3, None)),
    ("x=max_length,3", "x", ("max_length", 3)),
    ("a=b/c:0=1x2", "a=b/c:0", (1, 2)),
    ("x=", "x", ()),
    ("x= 1 , N", "x", (1, "N")),
]


@pytest.mark.parametrize(("text", "name", "dims"), PARSED)
def test_the_text_of_the_option(text, name, dims):
    assert parse_shape(text) == (name, dims)


@pytest.mark.parametrize("text", ["1x3", "=1x3", "x=1xx3", "x=0x3", "x=1x-2", "x=1x3a", "x=maxx", f"x={2**63}"])
def test_a_text_that_is_no_shape_is_refused(text):
    with pytest.raises(OptionError, match="shape: "):
        parse_shape(text)


@pytest.mark.parametrize("dims", [(1, 3), ("N", None, 3), ("max_length", 3), (None,)])
def test_dimensions_are_written_as_they_are_read(dims):
    assert parse_shape(f"x={written(dims)}") == ("x", dims)


TWO = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3, H, W] image, float[N, 4] "query/x:0", float[2] fixed) => (float[N, 3, H, W] y, float[?, 4] z)
<float[N, 3, H, W] a>
{ a = Relu(image)  y = Relu(a)  z = Relu("query/x:0")  unused = Neg(fixed) }
""".replace('"query/x:0"', "query")
PLAIN = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[?, 3] x) => (float[1, 3] y) <float[1, 3] a> { a = Relu(x)  y = Relu(a) }
"""
BAKED = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3, 4] x) => (float[1, 12] y) <int64[2] sizes = {1, 12}> { y = Reshape(x, sizes) }
"""
JOINED = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[P, 4] x, float[Q, 4] w) => (float[?, 4] y) { y = Add(x, w) }
"""
BRANCHES = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3] x, bool c) => (float[N, 3] y) {
  y = If (c) <then_branch = t () => (float[N, 3] a) { a = Relu(x) },
              else_branch = e () => (float[N, 3] b) { b = Neg(x) }>
}
"""
DEFAULT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3] x, float[3] w) => (float[N, 3] y) <float[3] w = {1, 2, 3}> { y = Add(x, w) }
"""


def fixed(text: str, shapes: dict | None = None, batch: int | None = None) -> tuple[ModelProto, list]:
    with onnxfile.from_bytes(parser.parse_model(text).SerializeToString()) as file:
        changes = fix(file, shapes or {}, batch)
        return file.model, changes


def declared(model: ModelProto) -> dict[str, tuple]:
    graph = model.graph
    return {value.name: dims_of(value) for value in (*graph.input, *graph.output, *graph.value_info)}


FIXED = [
    (TWO, {"image": (1, 3, 224, 224)}, None, {"image": (1, 3, 224, 224), "query": (1, 4), "y": (1, 3, 224, 224)}),
    (TWO, {"image": (None, 3, 9, None)}, None, {"image": ("N", 3, 9, "W"), "a": ("N", 3, 9, "W")}),
    (TWO, {"image": ("N", 3, 8, 8)}, None, {"image": ("N", 3, 8, 8), "query": ("N", 4)}),
    (TWO, {"image": ("B", 3, 8, 8)}, None, {"image": ("B", 3, 8, 8), "query": ("B", 4), "y": ("B", 3, 8, 8)}),
    (TWO, {}, 4, {"image": (4, 3, "H", "W"), "query": (4, 4), "fixed": (2,), "y": (4, 3, "H", "W")}),
    (TWO, {"query": (4, 4)}, 4, {"image": (4, 3, "H", "W"), "query": (4, 4)}),
    (TWO, {"image": (None, 3, 8, 8)}, 4, {"image": (4, 3, 8, 8), "query": (4, 4)}),
    (PLAIN, {}, 8, {"x": (8, 3), "a": (8, 3), "y": (8, 3)}),
    (PLAIN, {"x": ("batch", 3)}, None, {"x": ("batch", 3)}),
    (JOINED, {"x": (2, 4), "w": (2, 4)}, None, {"x": (2, 4), "w": (2, 4)}),
    (JOINED, {"x": (2, 4), "w": (1, 4)}, None, {"x": (2, 4), "w": (1, 4)}),
    (BAKED, {}, 1, {"x": (1, 3, 4), "y": (1, 12)}),
    (DEFAULT, {}, 5, {"x": (5, 3), "w": (3,), "y": (5, 3)}),
]


@pytest.mark.parametrize(("text", "shapes", "batch", "expected"), FIXED)
def test_lengths_are_fixed_wherever_the_model_names_them(text, shapes, batch, expected):
    model, changes = fixed(text, shapes, batch)
    assert {name: declared(model)[name] for name in expected} == expected
    checker.check_model(model, full_check=True)
    assert [(change.stage, change.kind) for change in changes] == [("converted", "input shape fixed")]
    again, none = fixed(text, {}, None)
    assert not none
    assert again == parser.parse_model(text)


def test_the_bodies_of_branches_follow():
    model, _ = fixed(BRANCHES, {"x": (2, 3)})
    bodies = [attribute.g for attribute in model.graph.node[0].attribute]
    assert [dims_of(body.output[0]) for body in bodies] == [(2, 3), (2, 3)]
    checker.check_model(model, full_check=True)


REFUSED = [
    (TWO, {"imagee": (1, 3, 8, 8)}, None, r"no input 'imagee'; did you mean 'image'\?"),
    (TWO, {"zzz": (1,)}, None, "its inputs are 'image', 'query', 'fixed'"),
    (TWO, {"image": (1, 3, 8)}, None, "'image' has 4 axes .it is Nx3xHxW., but 1x3x8 has 3"),
    (TWO, {"image": (1, 4, 8, 8)}, None, "'image' has the length 3 on axis 1 .it is Nx3xHxW., and 4 was given"),
    (TWO, {"image": (1, "C", 8, 8)}, None, "and C was given"),
    (
        TWO,
        {"image": (1, 3, 8, 8), "query": (2, 4)},
        None,
        "'N' is one length of the model, and 1 on axis 0 of 'image', 2",
    ),
    (TWO, {"image": ("N", 3, 8, 8)}, 2, "'N' is one length of the model, and N on axis 0 of 'image', 2"),
    (TWO, {"image": ("H", 3, None, None)}, None, "'H' is another length of the model already"),
    (DEFAULT, {"w": (4,)}, None, "'w' is an input with a default value"),
    (BAKED, {}, 8, "x=8x3x4 does not fit 'y' .Reshape., which makes 1x12 of 8x3x4"),
    (JOINED, {}, 2, "the inputs differ in what their first axis is .x Px4, w Qx4."),
    (JOINED, {"x": (2, 4), "w": (3, 4)}, None, "x=2x4, w=3x4 does not fit the model: .*Incompatible dimensions"),
    (PLAIN, {}, 0, "batch is 0; give a length from 1 on"),
    (PLAIN.replace("[?, 3] x", "[1, 3] x"), {}, 8, "'x' has the length 1 on axis 0 .it is 1x3., and 8 was given"),
    (PLAIN.replace("[?, 3] x", " x"), {}, 8, "no input of the model has a first axis"),
]


@pytest.mark.parametrize(("text", "shapes", "batch", "message"), REFUSED)
def test_what_does_not_fit_is_refused(text, shapes, batch, message):
    with onnxfile.from_bytes(parser.parse_model(text).SerializeToString()) as file:
        with pytest.raises(OptionError, match=message):
            fix(file, shapes, batch)
        assert file.model == parser.parse_model(text)


def test_a_batch_that_it_has_already_changes_nothing():
    text = PLAIN.replace("[?, 3] x", "[8, 3] x")
    model, changes = fixed(text, {}, 8)
    assert not changes
    assert model == parser.parse_model(text)


def test_sizes_in_external_data_are_read(tmp_path):
    """Markers stand for external constants; inference must not take them for lengths."""
    made = parser.parse_model(BAKED.replace("{1, 12}", "{2, -1}").replace("[1, 12] y", "[?, ?] y"))
    save(made, tmp_path / "model.onnx", save_as_external_data=True, location="data", size_threshold=0)
    with onnxfile.read(tmp_path / "model.onnx") as file:
        fix(file, {"x": (3, None, None)})
    made.graph.initializer[0].CopyFrom(parser.parse_model(BAKED).graph.initializer[0])
    save(made, tmp_path / "baked.onnx", save_as_external_data=True, location="data", size_threshold=0)
    with onnxfile.read(tmp_path / "baked.onnx") as file, pytest.raises(OptionError, match="which makes 1x12 of 3x3x4"):
        fix(file, {}, 3)
