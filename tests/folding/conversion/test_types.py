"""Narrow types: float32 instead of float64 within a border of Casts, int32 indices; out of range is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs, numpy_helper, parser

from folding import onnxfile
from folding.conversion.types import narrow
from folding.errors import OptionError
from tests.folding.conversion.computing import applied, assert_equal

DOUBLE = """
<ir_version: 10, opset_import: ["": 17]>
g (double[2,3] x, bool[1] c) => (double[2,3] y, float[2,3] z, double[2,3] x2)
<double[3] w = {1.5, 2.5, 3.5}, int64[1] n = {3}, double[2,3] a> {
  a = Mul(x, w)
  k = Constant<value = double[1] {0.25}>()
  f = ConstantOfShape<value = double[1] {2.0}>(n)
  b = If (c) <then_branch = t () => (double[2,3] u) { u = Add(a, k) }, else_branch = e () => (double[2,3] v) { v = Sub(a, x) }>
  y = Add(b, f)
  q = Neg(y)
  z = Cast<to = 1>(q)
  x2 = Identity(x)
}
"""  # noqa: E501
EVERY = {"double": "float"}
INDICES = {"int64": "int32"}


def test_double_becomes_float_within_the_border():
    before = parser.parse_model(DOUBLE)
    after, changes = applied(before, lambda file: narrow(file, EVERY))
    onnx.checker.check_model(after, full_check=True)
    assert_equal(before, after, digits=1e-6)
    assert [(change.kind, change.nbytes) for change in changes] == [("double to float", -20)]
    assert [value.type for value in (*after.graph.input, *after.graph.output)] == [
        value.type for value in (*before.graph.input, *before.graph.output)
    ]
    casts = [node for node in after.graph.node if node.op_type == "Cast"]
    assert [node.output[0] for node in casts] == ["x_float", "z", "y", "x2"]
    assert TensorProto.DOUBLE not in {tensor.data_type for tensor in after.graph.initializer}


def test_a_large_constant_is_narrowed_while_it_is_written():
    before = parser.parse_model(DOUBLE)
    values = np.random.default_rng(0).standard_normal(300_000)
    before.graph.initializer.append(numpy_helper.from_array(values, "large"))
    with onnxfile.from_bytes(before.SerializeToString()) as file:
        narrow(file, EVERY)
        assert not isinstance(file.payload(file.model.graph.initializer[-1]), (onnxfile.Span, type(None)))
        after = onnx.ModelProto.FromString(onnxfile.to_bytes(file))
    np.testing.assert_array_equal(numpy_helper.to_array(after.graph.initializer[-1]), values.astype(np.float32))


@pytest.mark.parametrize("count", [3, 3000])
def test_numbers_out_of_range_are_refused(count):
    before = parser.parse_model(DOUBLE)
    before.graph.initializer.append(numpy_helper.from_array(np.full(count, 1e300), "huge"))
    with onnxfile.from_bytes(before.SerializeToString()) as file:
        with pytest.raises(OptionError, match="'huge' has numbers beyond the range of float"):
            narrow(file, EVERY)
        assert file.model.graph.initializer[0].data_type == TensorProto.DOUBLE


def test_infinity_stays_infinity():
    before = parser.parse_model(DOUBLE.replace("3.5}", "inf}"))
    after, _ = applied(before, lambda file: narrow(file, EVERY))
    assert numpy_helper.to_array(after.graph.initializer[0])[2] == np.inf


def test_a_custom_operator_is_refused():
    text = '<ir_version: 8, opset_import: ["": 17, "c": 1]> g (double[2] x) => (double[2] y) { y = c.Op(x) }'
    file = onnxfile.from_bytes(parser.parse_model(text).SerializeToString())
    with pytest.raises(OptionError, match="whether c::Op"):
        narrow(file, EVERY)


def test_a_model_without_double_stays():
    made = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17, "c": 1]> g (float[2] x) => (float[2] y) { y = c.Op(x) }'
    )
    assert applied(made, lambda file: narrow(file, EVERY)) == (made, [])


def test_whatever_takes_double_takes_float():
    for schema in defs.get_all_schemas_with_history():
        for constraint in schema.type_constraints if schema.domain == "" else ():
            kinds = set(constraint.allowed_type_strs)
            assert "tensor(double)" not in kinds or "tensor(float)" in kinds, (schema.name, schema.since_version)


INTS = """
<ir_version: 10, opset_import: ["": 17]>
g (float[5,6] x, int64[2] i, int64[2] j, float[N,6] w) => (float y, float r, int64[2] s, float[2,6] q, float[2,6] v)
<int64[1] starts = {1}, int64[1] ends = {9223372036854775807}, int64[1] axes = {1}, int64[2] sizes = {6, 5},
 int64[2] rows = {0, 3}, int64[1] far = {3000000000}> {
  y = Slice(x, starts, ends, axes)
  r = Reshape(x, sizes)
  s = Add(i, rows)
  q = Gather(x, i)
  v = Gather(w, j)
}
"""


def test_indices_become_int32_where_the_result_does_not_depend_on_it():
    before = parser.parse_model(INTS)
    after, changes = applied(before, lambda file: narrow(file, INDICES))
    assert [change.count for change in changes] == [2]
    types = {tensor.name: tensor.data_type for tensor in after.graph.initializer}
    kinds = {node.output[0]: [types.get(name) for name in node.input] for node in after.graph.node}
    assert kinds["y"][1:] == [TensorProto.INT32] * 3
    assert kinds["r"][1] == kinds["s"][1] == TensorProto.INT64
    gathers = [list(node.input) for node in after.graph.node if node.op_type == "Gather"]
    assert gathers == [["x", "i_int32"], ["w", "j"]]  # the length of w is unknown
    assert {"starts", "ends", "axes"} & set(types) == set()
    for part in (before, after):
        del part.graph.output[:2]
        part.graph.output.extend([onnx.ValueInfoProto(name="y"), onnx.ValueInfoProto(name="r")])
    assert_equal(before, after)


def test_another_pair_of_types_is_refused():
    file = onnxfile.from_bytes(parser.parse_model(INTS).SerializeToString())
    with pytest.raises(OptionError, match="float cannot be narrowed to float16"):
        narrow(file, {"float": "float16"})
