"""Functions are inlined: unique names, attributes of the call, nested calls and graphs; weights stay in the file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from folding import onnxfile
from folding.conversion.functions import inline
from folding.errors import OptionError
from tests.folding.conversion.computing import applied, assert_equal

NESTED = """
<ir_version: 10, opset_import: ["": 17, "l": 1]>
g (float[2,3] x, bool[1] c) => (float[2,3] y, float[2,3] z) {
  t = Relu(x)
  a = l.Outer<alpha: float = 2.0>(t, x)
  b = l.Outer(a, t)
  d = l.Inner(b)
  y = Add(d, x)
  z = If (c) <then_branch = t1 () => (float[2,3] u) { u = l.Inner(y) }, else_branch = e1 () => (float[2,3] v) { v = Neg(t) }>
}
<domain: "l", opset_import: ["": 17, "l": 1]>
Outer <alpha: float = 0.5> (p, q) => (r) {
  t = l.Inner(p)
  s = LeakyRelu<alpha: float = @alpha>(q)
  r = Sub(t, s)
}
<domain: "l", opset_import: ["": 17]>
Inner (p) => (t) {
  one = Constant<value = float[1] {1}>()
  yes = Constant<value = bool[1] {1}>()
  t = If (yes) <then_branch = t2 () => (float[2,3] w) { w = Add(p, one) }, else_branch = e2 () => (float[2,3] t3) { t3 = Identity(p) }>
}
"""  # noqa: E501


def test_nested_calls_in_graphs_and_functions():
    before = parser.parse_model(NESTED)
    after, changes = applied(before, inline)
    assert [(change.kind, change.count, change.examples) for change in changes] == [
        ("function inlined", 2, ("Outer", "Inner"))
    ]
    assert not after.functions
    assert [entry.domain for entry in after.opset_import] == [""]
    onnx.checker.check_model(after, full_check=True)
    assert_equal(before, after)
    slopes = [a.f for node in after.graph.node if node.op_type == "LeakyRelu" for a in node.attribute]
    assert slopes == [2.0, 0.5]
    names = [name for node in after.graph.node for name in node.output]
    assert len(set(names)) == len(names)


def test_only_those_that_are_named():
    before = parser.parse_model(NESTED)
    after, changes = applied(before, lambda file: inline(file, ["Inner"]))
    assert [function.name for function in after.functions] == ["Outer"]
    assert "Inner" not in {node.op_type for node in (*after.graph.node, *after.functions[0].node)}
    assert changes[0].count == 1
    assert_equal(before, after)
    assert applied(after, lambda file: inline(file, ["Inner"])) == (after, [])


PASSING = """
<ir_version: 10, opset_import: ["": 17, "l": 1]>
g (float[2] x) => (float[2] y, float[2] z) { y, z, w = l.Both(x, x) }
<domain: "l", opset_import: ["": 17]> Both (p, q, absent) => (p, r, r2) { r = Add(p, q) r2 = Neg(q) }
"""


def test_an_input_that_is_handed_on_and_an_output_that_nobody_takes():
    before = parser.parse_model(PASSING)
    after, _ = applied(before, inline)
    onnx.checker.check_model(after, full_check=True)
    given = {"x": np.float32([1, 2])}
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415  slow to load

    for one, two in zip(([1, 2], [2, 4]), ReferenceEvaluator(after).run(None, given), strict=True):
        np.testing.assert_array_equal(two, one)


def test_one_of_another_opset_is_converted_first():
    before = parser.parse_model("""
    <ir_version: 10, opset_import: ["": 18, "l": 1]> g (float[2,3] x) => (float[2,1] y) { y = l.F(x) }
    <domain: "l", opset_import: ["": 17]> F (a) => (b) { b = ReduceMean<axes = [1]>(a) }
    """)
    after, _ = applied(before, inline)
    onnx.checker.check_model(after, full_check=True)
    assert [node.op_type for node in after.graph.node] == ["Constant", "ReduceMean"]


def test_another_version_of_a_custom_operator_set_is_refused():
    before = parser.parse_model("""
    <ir_version: 10, opset_import: ["": 17, "l": 1, "c": 2]> g (float[2] x) => (float[2] y) { y = l.F(x) }
    <domain: "l", opset_import: ["": 17, "c": 1]> F (a) => (b) { b = c.Op(a) }
    """)
    with onnxfile.from_bytes(before.SerializeToString()) as file, pytest.raises(OptionError, match="imports c 1, and"):
        inline(file)


def test_weights_in_a_function_stay_in_the_file():
    before = parser.parse_model(NESTED)
    large = numpy_helper.from_array(np.ones((2000, 3), np.float32))
    before.functions[1].node.add(op_type="Constant", output=["large"]).attribute.add(name="value", type=4, t=large)
    with onnxfile.from_bytes(before.SerializeToString()) as file:
        inline(file)
        made = [
            node for node in file.model.graph.node if node.op_type == "Constant" and node.output[0].endswith("large")
        ]
        assert len(made) == 3
        assert all(isinstance(file.payload(node.attribute[0].t), onnxfile.Span) for node in made)
