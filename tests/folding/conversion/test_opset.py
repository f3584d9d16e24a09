"""Each adapter upwards, downwards and back: equal results; what has no form is refused; nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import defs, helper, numpy_helper, parser

from folding import onnxfile
from folding.conversion.adapters import DOWN, UP
from folding.conversion.opset import convert
from folding.conversion.schemas import boundaries, versions
from folding.errors import OptionError
from tests.folding.conversion.computing import applied, assert_equal, converted, model, results
from tests.support import ROOT

X = "float[2,3,4,4] x"
AXES, MINUS = "int64[2] a = {1, 2}", "int64[1] a = {-1}"

# opset, the opset to convert to, inputs, body, constants; each row is converted there and back.
ROWS = [
    # attributes that became inputs
    (11, 13, "float[2,1,4] x", "y = Squeeze<axes=[1]>(x)", ""),
    (11, 13, X, "y = Unsqueeze<axes=[0, 5]>(x)", ""),
    (11, 13, X, "y = ReduceSum<axes=[1, -1], keepdims=0>(x)", ""),
    (11, 13, X, "y = ReduceSum(x)", ""),
    (13, 18, X, "y = ReduceMean<axes=[1], keepdims=1>(x)", ""),
    (13, 18, X, "y = ReduceMax<axes=[-1], keepdims=0>(x)", ""),
    (13, 18, X, "y = ReduceL2(x)", ""),
    (18, 13, X, "y = ReduceMean(x, a)", AXES),
    (18, 13, X, "y = ReduceMean<noop_with_empty_axes=1>(x)", ""),
    (13, 11, X, "y = ReduceSum<noop_with_empty_axes=1>(x)", ""),
    (13, 11, "float[2,1,4] x", "y = Squeeze(x)", ""),
    (11, 13, X, "y, z = Split<axis=3, split=[1, 3]>(x)", ""),
    (11, 18, X, "y, z = Split<axis=3>(x)", ""),
    (18, 13, X, "y, z = Split<axis=1, num_outputs=2>(x)", ""),
    (18, 11, X, "y, z = Split<axis=1, num_outputs=2>(x)", ""),
    (9, 10, X, "y = Slice<starts=[1, 0], ends=[3, 2], axes=[2, 3]>(x)", ""),
    (13, 9, X, "y = Slice(x, s, e, a)", "int64[1] s = {1}, int64[1] e = {3}, " + MINUS),
    (9, 13, X, "y = Pad<pads=[0, 0, 1, 1, 0, 0, 2, 0], value=1.5>(x)", ""),
    (9, 13, X, 'y = Pad<mode="reflect", pads=[0, 0, 1, 1, 0, 0, 2, 0]>(x)', ""),
    (18, 13, X, "y = Pad(x, p, v, a)", "int64[2] p = {1, 2}, float v = {0.5}, " + MINUS),
    (9, 11, X, "y, z = TopK<k=2, axis=2>(x)", ""),
    (11, 9, X, "y, z = TopK(x, k)", "int64[1] k = {2}"),
    (17, 20, "float[2,8,1] x", "y = DFT<axis=1, onesided=1>(x)", ""),
    (20, 17, "float[2,8,1] x", "y = DFT<onesided=1>(x)", ""),
    (14, 13, X, "y = Reshape<allowzero=1>(x, a)", "int64[2] a = {2, 48}"),
    # attributes and defaults
    (9, 13, X, "y = Clip<min=-0.5, max=0.5>(x)", ""),
    (9, 12, X, "y = Clip<max=0.5>(x)", ""),
    (13, 10, X, "y = Clip(x, b, b)", "float b = {0.25}"),
    (13, 10, X, "y = Clip(x, m, b)", "float m = {6}, float b = {-1}"),  # crossed: max wins
    (13, 10, X + ", float b", "y = Clip(x, b)", ""),
    (13, 10, X + ", float b", "y = Clip(x, m, b)", "float m = {0.1}"),
    (10, 13, X, "y = Dropout<ratio=0.25>(x)", ""),
    (13, 10, X, "y = Dropout(x, r)", "float r = {0.25}"),
    (17, 13, X, "s = Shape<start=1, end=-1>(x) y = Cast<to=1>(s)", ""),
    (15, 13, X, "s = Shape<start=-2>(x) y = Cast<to=1>(s)", ""),
    (13, 11, X, "c = Constant<value_floats=[1.0, 2.0, 3.0, 4.0]>() y = Add(x, c)", ""),
    (13, 11, X, "c = Constant<value_int=2>() f = Cast<to=1>(c) y = Add(x, f)", ""),
    (16, 20, X + ", float[2,3,3,2] g", 'y = GridSample<mode="bilinear">(x, g)', ""),
    (16, 20, X + ", float[2,3,3,2] g", 'y = GridSample<mode="bicubic">(x, g)', ""),
    (20, 16, X + ", float[2,3,3,2] g", "y = GridSample(x, g)", ""),
    (10, 16, X, "y = RoiAlign<output_height=2, output_width=2>(x, r, b)",
     "float[1,4] r = {0, 0, 3, 3}, int64[1] b = {1}"),
    (10, 13, X, "y = MaxPool<kernel_shape=[2, 2], ceil_mode=1, strides=[2, 2]>(x)", ""),
    (17, 22, X, "y = MaxPool<kernel_shape=[3, 3], ceil_mode=1, strides=[2, 2], pads=[1, 1, 1, 1]>(x)", ""),
    (19, 17, X, "y = AveragePool<kernel_shape=[2, 2], dilations=[1, 1]>(x)", ""),
    (9, 13, "float[2,3] x, int64[2,3] i, float[2,3] u", "y = Scatter<axis=1>(x, i, u)", ""),
    (19, 13, X, "y = Cast<to=1, saturate=1>(x)", ""),
    # axes
    (11, 13, X, "y = Softmax<axis=1>(x)", ""),
    (11, 13, X, "y = LogSoftmax<axis=2>(x)", ""),
    (11, 13, X, "y = Softmax<axis=3>(x)", ""),
    (11, 13, "float[2,5,1,1] x", "y = Softmax(x)", ""),
    (11, 13, "float[N,5,H] x", "y = Hardmax<axis=1>(x)", ""),
    (13, 11, X, "y = Softmax<axis=1>(x)", ""),
    (13, 11, X, "y = LogSoftmax(x)", ""),
    (13, 9, X, "y = Softmax(x)", ""),
    (13, 10, X, "a = Concat<axis=-1>(x, x) b = Flatten<axis=-2>(a) y = ReduceMax<axes=[-1]>(b)", ""),
    (13, 10, "float[2,3] x", "a = Unsqueeze(x, m) y = Squeeze(a, m)", "int64[1] m = {-1}"),
    # operands
    (11, 10, "float[2,3] x, float[3,4] w", "y = Gemm(x, w)", ""),
    (9, 7, "float[2,3] x, float[3,4] w, float[4] b", "y = Gemm(x, w, b)", ""),
    (8, 13, X, "y = Max(x, x)", ""),
    # normalization
    (9, 15, X, "y = BatchNormalization(x, s, s, s, s)", "float[3] s = {1, 2, 3}"),
    (15, 9, X, "y = BatchNormalization(x, s, s, s, s)", "float[3] s = {1, 2, 3}"),
    (8, 9, X, "y = BatchNormalization<spatial=1>(x, s, s, s, s)", "float[3] s = {1, 2, 3}"),
    (18, 21, "float[2,6,4] x", "y = GroupNormalization<num_groups=2>(x, s, s)", "float[2] s = {1, 2}"),
    (18, 21, "float[2,6,4] x, float[2] s", "y = GroupNormalization<num_groups=2>(x, s, s)", ""),
    (21, 18, "float[2,6,4] x", "y = GroupNormalization<num_groups=2>(x, s, s)", "float[6] s = {1, 2, 3, 4, 5, 6}"),
    (21, 17, "float[2,6,4] x, float[6] s", "y = GroupNormalization<num_groups=3>(x, s, s)", ""),
    # resizing
    (9, 10, X, 'y = Upsample<mode="nearest">(x, s)', "float[4] s = {1, 1, 2, 2}"),
    (9, 13, X, 'y = Upsample<mode="linear">(x, s)', "float[4] s = {1, 1, 2, 2}"),
    (9, 18, X, "y = Upsample(x, s)", "float[4] s = {1, 1, 1.5, 2}"),
    (10, 13, X, 'y = Resize<mode="linear">(x, s)', "float[4] s = {1, 1, 0.5, 2}"),
    (13, 11, X, "y = Resize(x, , s)", "float[4] s = {1, 1, 0.5, 2}"),
    (11, 13, X, 'y = Resize<mode="cubic">(x, r, s)', "float[0] r = {}, float[4] s = {1, 1, 0.5, 2}"),
    (13, 10, X, 'y = Resize<mode="nearest">(x, , s)', "float[4] s = {1, 1, 3, 2}"),
    (13, 9, X, 'y = Resize<mode="linear", coordinate_transformation_mode="asymmetric">(x, , , z)',
     "int64[4] z = {2, 3, 8, 4}"),
    (18, 13, X, "y = Resize<axes=[2, 3]>(x, , s)", "float[2] s = {2, 3}"),
    # quantization
    (21, 19, "float[2,3] x", "q = QuantizeLinear<output_dtype=3>(x, s) y = DequantizeLinear(q, s, z)",
     "float s = {0.1}, int8 z = {0}"),
    (13, 10, "float[2,3] x", "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
     "float s = {0.1}, uint8 z = {9}"),
    # written out
    (20, 17, X, "y = Gelu(x)", ""),
    (20, 13, X, 'y = Gelu<approximate="tanh">(x)', ""),
    (17, 13, X, "y = LayerNormalization<axis=-2>(x, s, b)", "float[4] s = {1, 2, 3, 4}, float[4] b = {1, 2, 3, 4}"),
    (17, 11, X, "y, m, r = LayerNormalization<axis=2>(x, s)", "float[4] s = {1, 2, 3, 4}"),
    (14, 13, X, "y = HardSwish(x)", ""),
    (18, 17, X, "y = Mish(x)", ""),
    (24, 13, X, "y = Swish<alpha=0.5>(x)", ""),
    (20, 17, "float16[2,3] x", "y = LayerNormalization(x, s)", "float16[3] s = {1, 2, 3}"),
    (20, 13, X, "y, m, r = LayerNormalization<axis=2>(x, s)", "float[4] s = {1, 2, 3, 4}"),
    (23, 17, X, "y = RMSNormalization(x, s)", "float[4] s = {1, 2, 3, 4}"),
    (12, 11, X + ", float[2,3,4,4] w", "g = GreaterOrEqual(x, w) y = Cast<to=1>(g)", ""),
    (15, 13, X + ", float[1] w", "i = Cast<to=7>(x) y = CastLike(i, w)", ""),
    (12, 11, X, "y = Celu<alpha=2.0>(x)", ""),
]  # fmt: skip
BY_REFERENCE = {"Swish", "GroupNormalization", "RMSNormalization"}  # operators that ONNX Runtime has not
OLD = {"Gemm": 7, "BatchNormalization": 7, "Max": 8}


def text(row: tuple) -> str:
    return f"{row[3]} {row[0]}-{row[1]}"


@pytest.mark.parametrize("row", ROWS, ids=text)
def test_it_computes_the_same_in_another_opset_and_back(row):
    opset, target, inputs, body, constants = row
    outputs = body.split(" = ")[-2].split(")")[-1].strip().replace(",", ", float")
    before = model(opset, inputs, body, constants=constants, outputs=outputs)
    reference = any(op in body for op in BY_REFERENCE)
    after = converted(before, target)
    assert_equal(before, after, reference=reference)
    assert_equal(before, converted(after, opset), reference=reference)


LEGACY = [
    ("float[2,3,4] x, float[3] w", "y = Add<broadcast=1, axis=1>(x, w)", "b = Unsqueeze<axes=[1]>(w) y = Add(x, b)"),
    ("float[2,3,4] x, float[4] w", "y = Mul<broadcast=1>(x, w)", "y = Mul(x, w)"),
    ("float[2,3,4] x, float[2,3,4] w", "y = Sub(x, w)", "y = Sub(x, w)"),
    ("float[2,3,4] x, float[1] w", "y = Div<broadcast=1, axis=0>(x, w)", "y = Div(x, w)"),
    ("float[2,3,4] x, float[3] w", "y = PRelu(x, w)", "b = Unsqueeze<axes=[1]>(w) y = PRelu(x, b)"),
    ("float[2,3] x, float[3,4] w, float[4] c", "y = Gemm<broadcast=1>(x, w, c)", "y = Gemm(x, w, c)"),
    ("float[2,3,4] x, float[3] w", "y = BatchNormalization<is_test=1>(x, w, w, w, w)",
     "y = BatchNormalization(x, w, w, w, w)"),
    ("float[2,3,4] x", "y = Dropout<is_test=1>(x)", "y = Dropout(x)"),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "body", "now"), LEGACY, ids=lambda text: text)
def test_operands_of_opset_6_broadcast_as_numpy_lets_them(inputs, body, now):
    """No runtime has opset 6 any more, so the form itself is compared, and its results with those of the model of 7."""
    found = converted(model(6, inputs, body), 7)
    assert_equal(model(7, inputs, now), found)
    ops = [node.op_type for node in model(7, inputs, now).graph.node]
    assert [node.op_type for node in found.graph.node] == ops
    assert not [a.name for node in found.graph.node for a in node.attribute if a.name != "axes"]
    back = converted(found, 6)
    assert_equal(model(7, inputs, now), converted(back, 7))


def test_a_tile_of_opset_1():
    before = model(1, "float[2,3] x", "y = Tile(x, t, a)", constants="float[1] t = {2}, float[1] a = {1}")
    before.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, [2, 6]))
    found = converted(before, 6)
    assert_equal(model(6, "float[2,3] x", "y = Tile(x, r)", constants="int64[2] r = {1, 2}"), converted(found, 6))


REFUSED = [
    (13, 11, X, "y = Squeeze(x, i)", "int64[1] i", "its axes are computed"),
    (18, 13, "float[N,5] x", "y, z = Split<num_outputs=2>(x)", "", "the length of its input is unknown"),
    (13, 11, X, "y = Mod<fmod=1>(x, x)", "", None),
    (12, 11, X, 'y = Einsum<equation="abcd->abc">(x)', "", "it came with opset 12"),
    (18, 17, X + ", bool b", 'y = Pad<mode="wrap">(x, p)', "", None),
    (19, 18, X, 'y = Pad<mode="wrap">(x, p)', "int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}", "its mode is wrap"),
    (13, 9, X, "y = Slice(x, s, e, a, t)", "int64[1] s = {0}, int64[1] e = {4}, int64[1] a = {2}, int64[1] t = {2}",
     "its steps are not 1"),
    (11, 10, X, "y, z = TopK<largest=0>(x, k)", "int64[1] k = {2}", "smallest"),
    (13, 10, X, "y = Resize(x, , s)", "float[4] s = {1, 1, 1.5, 2}", "opset 10 has no mode nearest with half_pixel"),
    (10, 11, X, "y = Resize(x, s)", "float[4] s = {1, 1, 0.5, 1}", "leaves open how it rounds"),
    (18, 17, X, 'y = Resize<mode="linear", antialias=1>(x, , s)', "float[4] s = {1, 1, 0.5, 1}", "antialias"),
    (14, 13, "int64[2] x", "y = Relu(x)", "", None),
    (14, 13, "int32[2] x", "y = Relu(x)", "", "has the type int32"),
    (14, 13, "uint8[2] x", "y = Add(x, x)", "", "has the type uint8"),
    (12, 11, X, "y, z = Dropout(x)", "", "its mask is read"),
    (15, 13, X, "y = BatchNormalization<training_mode=1>(x, s, s, s, s)", "float[3] s = {1, 2, 3}", "training mode"),
    (14, 13, X, "y = Reshape<allowzero=1>(x, a)", "int64[2] a = {0, 0}", None),
    (17, 22, "float[2,3,N,N] x", "y = MaxPool<kernel_shape=[1, 1], ceil_mode=1, strides=[2, 2]>(x)", "",
     "its last window may start in the padding"),
    (23, 20, "float[1,3,4] x", 'y = LpPool<kernel_shape=[1], auto_pad="VALID", ceil_mode=1, strides=[2]>(x)', "",
     "its last window starts in the padding"),
    (13, 12, "float[2,3] x, float[3] s", "q = QuantizeLinear<axis=1>(x, s) y = DequantizeLinear<axis=1>(q, s)", "",
     "a scale for every channel"),
]  # fmt: skip


@pytest.mark.parametrize("row", [row for row in REFUSED if row[-1] is not None], ids=lambda row: f"{row[3]} {row[0]}")
def test_what_has_no_equal_form_is_refused_and_the_model_stays(row):
    opset, target, inputs, body, constants, message = row
    if constants and "=" not in constants:
        inputs, constants = f"{inputs}, {constants}", ""
    outputs = body.split(" = ")[-2].split(")")[-1].strip().replace(",", ", float")
    before = model(opset, inputs, body, constants=constants, outputs=outputs)
    with onnxfile.from_bytes(before.SerializeToString()) as file:
        with pytest.raises(
            OptionError, match=f"has no equal form in opset {target} .the model has {opset}.: .*{message}"
        ):
            convert(file, target)
        assert file.model == before


@pytest.mark.parametrize("opset", [0, -3, 999])
def test_an_opset_that_nobody_knows_is_refused(opset):
    with (
        onnxfile.from_bytes(model(13, X, "y = Relu(x)").SerializeToString()) as file,
        pytest.raises(OptionError, match="the installed onnx knows 1 to"),
    ):
        convert(file, opset)


# --- the table is complete -----------------------------------------------------------------------------------


def defaults(op: str, opset: int) -> dict[str, bytes]:
    """The attributes of an operator with their defaults; a hint about memory means nothing."""
    attributes = defs.get_schema(op, opset, "").attributes
    return {name: a.default_value.SerializeToString() for name, a in attributes.items() if name != "consumed_inputs"}


def test_every_change_that_drops_or_redefines_an_attribute_has_an_adapter():
    names = {schema.name for schema in defs.get_all_schemas_with_history() if schema.domain == ""}
    changes = ((op, *pair) for op in sorted(names) for pair in zip(versions(op), versions(op)[1:], strict=False))
    without = []
    for op, older, newer in changes:
        old, new = defaults(op, older), defaults(op, newer)
        if any(old[name] != new.get(name) for name in old) and (op, newer) not in UP:
            without.append((op, newer))
    assert not without


def test_every_change_of_the_order_of_inputs_has_an_adapter():
    for op, newer in [(one, v) for one in ("Resize", "Split", "Tile", "Upsample") for v in versions(one)[1:]]:
        one, two = (defs.get_schema(op, v, "") for v in (newer - 1, newer))
        names = [[formal.name for formal in schema.inputs] for schema in (one, two)]
        if names[1][: len(names[0])] != names[0] and not two.deprecated:
            assert (op, newer) in UP
            assert (op, newer) in DOWN


def test_boundaries_are_in_the_order_of_the_way():
    assert boundaries("Softmax", 9, 17) == [11, 13]
    assert boundaries("Softmax", 17, 9) == [13, 11]
    assert boundaries("Relu", 14, 17) == []
    assert set(UP) | set(DOWN) <= {(op, v) for op in {op for op, _ in (*UP, *DOWN)} for v in versions(op)}


# --- nothing else changes ------------------------------------------------------------------------------------


def rich() -> onnx.ModelProto:
    """A model with everything that a conversion has no business with."""
    made = parser.parse_model("""
    <ir_version: 10, opset_import: ["": 13, "local": 1], producer_name: "p", doc_string: "d">
    g (float[N,4] x, bool c) => (float[N,4] y) <float[4] w = {1, 2, 3, 4}, int64[1] axes = {1}> {
      a = Relu(x)
      b = local.F(a)
      m = ReduceMean<axes=[1], keepdims=1>(b)
      d = If (c) <then_branch = t () => (float[N,4] e) { f = Neg(b) e = Add(f, m) }, else_branch = u () => (float[N,4] h) { s = ReduceMax<axes=[-1]>(b) h = Add(b, s) }>
      k = Unsqueeze(d, axes)
      l = Squeeze(k, axes)
      y = Mul(l, w)
    }
    <domain: "local", opset_import: ["": 13]> F (p) => (q) { r = ReduceMin<axes=[-1], keepdims=1>(p) q = Sub(p, r) }
    """)  # noqa: E501
    for number, node in enumerate(made.graph.node):
        node.name, node.doc_string = f"n{number}", f"doc {number}"
        node.metadata_props.add(key="k", value=str(number))
        node.MergeFromString(b"\xfa\x7f\x03new")  # a field that no version of onnx knows
    made.metadata_props.add(key="a", value="b")
    made.graph.value_info.append(helper.make_tensor_value_info("a", 1, ["N", 4]))
    made.graph.quantization_annotation.add(tensor_name="a")
    made.training_info.add().update_binding.add(key="w", value="w")
    made.graph.initializer.append(numpy_helper.from_array(np.zeros(5000, np.float32), "large"))
    values, places = (
        numpy_helper.from_array(np.ones(1, np.float32), "sparse"),
        numpy_helper.from_array(np.zeros(1, np.int64)),
    )
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4]))
    return made


def test_everything_else_is_byte_for_byte_the_same():
    before = rich()
    after, changes = applied(before, lambda file: convert(file, 20))
    assert [(change.kind, change.count, change.examples) for change in changes] == [
        ("operator set 13 to 20", 1, ()),
        ("ReduceMax in the form of opset 20", 1, ("s",)),
        ("ReduceMean in the form of opset 20", 1, ("n2",)),
        ("ReduceMin in the form of opset 20", 1, ("r",)),
    ]
    for old, new in zip(before.graph.node, after.graph.node, strict=True):
        if old.op_type not in {"ReduceMean", "If"}:
            assert old.SerializeToString() == new.SerializeToString()
    old, new = before.graph.node[2], after.graph.node[2]
    del new.input[1:]
    new.attribute.insert(0, old.attribute[0])
    assert sorted(a.name for a in new.attribute) == ["axes", "keepdims"]
    assert (old.name, old.doc_string, old.metadata_props) == (new.name, new.doc_string, new.metadata_props)
    assert b"\xfa\x7f\x03new" in new.SerializeToString()
    assert list(after.graph.initializer)[: len(before.graph.initializer)] == list(before.graph.initializer)
    for field in ("metadata_props", "training_info", "producer_name", "doc_string", "ir_version"):
        assert getattr(before, field) == getattr(after, field)
    for field in ("value_info", "quantization_annotation", "sparse_initializer", "input", "output"):
        assert list(getattr(before.graph, field)) == list(getattr(after.graph, field))


def test_bodies_and_functions_are_converted():
    before = rich()
    for part in (before.training_info, before.graph.sparse_initializer):
        del part[:]
    after = converted(before, 20)
    given = {"x": np.float32([[1, -2, 3, 4], [5, 6, -7, 8]])}
    for c in (True, False):
        expected = results(before, given | {"c": np.asarray(c)})
        np.testing.assert_allclose(results(after, given | {"c": np.asarray(c)})[0], expected[0], rtol=1e-5)
    assert [node.op_type for node in after.functions[0].node] == ["Constant", "ReduceMin", "Sub"]
    back = converted(after, 13)
    assert len(back.graph.initializer) == len(before.graph.initializer)
    assert [node.op_type for node in back.functions[0].node] == ["ReduceMin", "Sub"]


CLIPPED = """<ir_version: 9, opset_import: ["": 13, "m": 1]>
g (float[3] x) => (float[3] y, float[3] z) <float low = {-0.5}, float high = {0.5}> { y = m.outer(x, low) CALL }
<domain: "m", opset_import: ["": 13, "m": 1]> outer (x, low, high) => (y) { y = m.inner(x, low, high) }
<domain: "m", opset_import: ["": 13]> inner (x, low, high) => (y) { y = Clip(x, low, high) }"""


def test_an_input_of_a_function_that_a_call_leaves_out_is_not_read_where_it_must_be_there():
    before = parser.parse_model(CLIPPED.replace("CALL", "z = m.outer(x, low, high)"))
    with onnxfile.from_bytes(before.SerializeToString()) as file:
        with pytest.raises(OptionError, match=r"Clip 'y' has no equal form in opset 10 .*its input 'high' is one of a"):
            convert(file, 10)
        assert file.model == before
    assert converted(before, 20).functions[1].node[0].input == ["x", "low", "high"]


def test_an_input_of_a_function_that_a_call_leaves_out_is_none_that_the_operator_needs():
    """Before opset 11 a Gemm had to have its third input."""
    before = parser.parse_model(
        """<ir_version: 9, opset_import: ["": 13, "m": 1]>
        g (float[2,3] x) => (float[2,3] y) <float[3,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}> { y = m.linear(x, w) }
        <domain: "m", opset_import: ["": 13]> linear (x, w, b) => (y) { y = Gemm(x, w, b) }"""
    )
    with onnxfile.from_bytes(before.SerializeToString()) as file:
        with pytest.raises(OptionError, match="its input 'b' is one of a function, and a call leaves it out"):
            convert(file, 10)
        assert file.model == before


def test_an_input_of_a_function_that_every_call_gives_is_read():
    before = parser.parse_model(
        CLIPPED.replace("CALL", "z = m.outer(y, low, high)").replace("(x, low) z", "(x, low, high) z")
    )
    after = converted(before, 10)
    assert [node.op_type for node in after.functions[1].node] == ["Max", "Min"]
    given = {"x": np.float32([-1, 0.2, 2])}
    for one, other in zip(results(before, given), results(after, given), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_same_opset_changes_nothing():
    before = rich()
    with onnxfile.from_bytes(before.SerializeToString()) as file:
        assert convert(file, 13) == []
        assert (
            file.model.SerializeToString() == onnxfile.from_bytes(before.SerializeToString()).model.SerializeToString()
        )


def test_a_model_of_which_no_operator_changes_gets_another_number_only():
    before = model(14, X, "a = Relu(x) y = Sigmoid(a)")
    after, changes = applied(before, lambda file: convert(file, 17))
    assert [change.kind for change in changes] == ["operator set 14 to 17"]
    after.opset_import[0].version = 14
    assert after.SerializeToString() == before.SerializeToString()


def test_constants_that_others_read_stay():
    body = """
      minus = Constant<value = int64[1] {-1}>()
      one = Neg(minus)
      two = Add(one, one)
      a = Squeeze(x, two)
      b = Squeeze(x, two)
      f = Cast<to=1>(minus)
      c = Add(a, f)
      d = Add(c, b)
      y = Reshape(d, sizes)
    """
    before = model(13, "float[2,3,1] x", body, constants="int64[2] sizes = {2, 3}")
    after = converted(before, 11)
    assert [node.op_type for node in after.graph.node] == [
        *("Constant", "Squeeze", "Squeeze", "Cast", "Add", "Add", "Reshape")
    ]
    assert_equal(before, after)


@pytest.mark.parametrize("ir", [3, 8])
def test_constants_are_nodes_where_initializers_are_inputs(ir):
    before = model(
        11,
        "float[2,1,3] x, float[2,1,4] w",
        "a = Squeeze<axes=[1]>(x) b = Squeeze<axes=[1]>(w) y = Concat<axis=1>(a, b)",
        ir=ir,
    )
    after = converted(before, 13)
    assert [value.name for value in after.graph.input] == ["x", "w"]
    assert len(after.graph.initializer) == (ir >= 4)
    assert sum(node.op_type == "Constant" for node in after.graph.node) == (ir < 4)
    assert_equal(before, after)


def test_a_constant_node_holds_integers_from_opset_9_on():
    before = model(4, "float[2,3] x", "y = Reshape<shape=[3, 2]>(x)", ir=3)
    before.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, [3, 2]))
    with (
        onnxfile.from_bytes(before.SerializeToString()) as file,
        pytest.raises(OptionError, match="opset 8 has no constants of integers in IR version 3"),
    ):
        convert(file, 8)
    assert_equal(model(9, "float[2,3] x", "y = Reshape(x, s)", constants="int64[2] s = {3, 2}"), converted(before, 9))


def test_weights_stay_in_the_file(tmp_path):
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    before = model(
        13, "float[2,64] x", "a = MatMul(x, w) m = ReduceMean<axes=[1]>(a) y = Sub(a, m)", constants="float[1] w = {0}"
    )
    before.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    onnx.save(before, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    with onnxfile.read(tmp_path / "model.onnx") as file:
        convert(file, 20)
        payload = file.payload(file.model.graph.initializer[0])
        assert isinstance(payload, onnxfile.Span)
        onnxfile.write(file, tmp_path / "out.onnx")
    after = onnx.load(tmp_path / "out.onnx")
    np.testing.assert_array_equal(numpy_helper.to_array(after.graph.initializer[0]), weights)
    assert_equal(onnx.load(tmp_path / "model.onnx"), after)


# --- real files ----------------------------------------------------------------------------------------------

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
FILES = [
    *sorted((ROOT / ".cache" / "models").glob("*.onnx")),
    *(LIGHT / f"light_{n}.onnx" for n in ("squeezenet", "densenet121")),
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("opset", [13, 21])
def test_real_files_compute_the_same(path, opset):
    before = onnx.load(path)
    after = converted(before, opset)
    given = {}
    defaults = {tensor.name for tensor in before.graph.initializer}
    for value in (value for value in before.graph.input if value.name not in defaults):
        shape = [
            d.dim_value if d.dim_value > 0 else 32 if axis else 1
            for axis, d in enumerate(value.type.tensor_type.shape.dim)
        ]
        given[value.name] = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    for one, two in zip(results(before, given), results(after, given), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)
