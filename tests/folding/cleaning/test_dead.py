"""What nothing reads goes; names that others know stay."""

from __future__ import annotations

import onnx
import pytest

from tests.support.ready.cleaning import check, clean_model, model, operators

N = "(float[N,3] x) => (float[N,3] y)"
ROWS = [
    (N + "{ a = Exp(x) b = Neg(a) y = Relu(x) }", "Relu"),
    (N + "{ a, b = Split <axis = 0> (x) y = Relu(x) }", "Relu"),
    (
        N
        + "<bool c = {1}> { n = Size(x) s = Exp(x) m = Greater(n, n) b = If (m) < then_branch = t () => (float[N,3] r)"
        "{ r = Neg(s) }, else_branch = e () => (float[N,3] r) { r = Abs(s) } > y = Relu(x) }",
        "Relu",
    ),
    (N + "{ a = local.Print(x) y = Relu(x) }", "Print Relu"),
]


@pytest.mark.parametrize(("text", "left"), ROWS)
def test_what_is_left(text, left):
    assert " ".join(operators(check(model(text), runs="local" not in text).graph)) == left


def test_dead_initializers_go_and_inputs_stay():
    before = model("(float[2] x, float[2] z, float[2] a = {1,2}) => (float[2] y) <float[2] b = {1,3}> { y = Relu(x) }")
    after = check(before)
    assert [value.name for value in after.graph.input] == ["x", "z", "a"]
    assert [tensor.name for tensor in after.graph.initializer] == ["a"]


def test_a_dead_initializer_before_ir_4_goes_with_its_input():
    before = model("(float[2] x, float[2] a = {1,2}) => (float[2] y) { y = Relu(x) }", opset=8, ir=3)
    after, _ = clean_model(before)
    assert [value.name for value in after.graph.input] == ["x"]
    assert not after.graph.initializer


def test_what_a_body_reads_stays():
    text = (
        "(float[N,3] x, bool c) => (float[N,3] y) <float k = {2}> { a = Exp(x) b = Identity(a) y = If (c) <"
        "then_branch = t () => (float[N,3] r) { r = Mul(b, k) }, else_branch = e () => (float[N,3] r) { r = Neg(b) }> }"
    )
    after = check(model(text))
    assert list(operators(after.graph)) == ["Exp", "If", "Mul", "Neg"]
    assert [tensor.name for tensor in after.graph.initializer] == ["k"]


def test_names_of_annotations_and_of_training_stay():
    before = model(N + "<float s = {2}> { a = Identity(x) b = Identity(a) c = Exp(x) y = Relu(b) }")
    before.graph.quantization_annotation.add(tensor_name="a").quant_parameter_tensor_names.add(key="SCALE", value="s")
    info = before.training_info.add()
    info.algorithm.node.add(op_type="Neg", input=["c"], output=["d"])
    info.update_binding.add(key="s", value="d")
    after, _ = clean_model(before)
    assert [node.output[0] for node in after.graph.node] == ["a", "c", "y"]
    assert [tensor.name for tensor in after.graph.initializer] == ["s"]


def test_operators_that_an_option_keeps_stay():
    text = N + "{ [mine] a = Identity(x) [other] b = Identity(a) [dead_mine] c = Exp(x) y = Relu(b) }"
    before = model(text.replace("[mine] ", "").replace("[other] ", "").replace("[dead_mine] ", ""))
    for node, name in zip(before.graph.node, ("mine", "other", "mine too", "last"), strict=True):
        node.name = name
    after = check(before, keeps=lambda name: name.startswith("mine"))
    assert [node.name for node in after.graph.node] == ["mine", "mine too", "last"]


def test_the_rest_of_the_file_stays_as_it_is():
    before = model(N + "{ a = Identity(x) y = Relu(a) }")
    before.producer_name = "someone"
    before.graph.node[1].doc_string = "why"
    before.graph.node[1].metadata_props.add(key="k", value="v")
    before.graph.value_info.add(name="a")
    after = check(before)
    assert after.producer_name == "someone"
    assert after.graph.node[0].doc_string == "why"
    assert after.graph.node[0].metadata_props[0].value == "v"
    assert not after.graph.value_info


def test_a_clean_graph_is_left_alone():
    before = model(N + "{ y = Relu(x) }")
    after, changes = clean_model(before)
    assert not changes
    assert after == before


def test_a_function_is_cleaned_and_its_references_stay():
    text = """
    <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
    g (float[N,3] x) => (float[N,3] y) { y = local.f <alpha = 0.5> (x) }
    <opset_import: ["" : 17], domain: "local">
    f <alpha> (a) => (d) { b = Identity(a) c = LeakyRelu <alpha: float = @alpha> (b) e = Exp(a) d = Identity(c) }
    """
    before = onnx.parser.parse_model(text)
    after = check(before)
    assert [node.op_type for node in after.functions[0].node] == ["LeakyRelu"]
    assert after.functions[0].node[0].attribute[0].ref_attr_name == "alpha"


def test_functions_that_nothing_calls_go():
    text = """
    <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
    g (float[N,3] x) => (float[N,3] y) { z = local.unread (x) y = local.f (x) }
    <opset_import: ["" : 17, "local" : 1], domain: "local"> f (a) => (b) { b = local.inner (a) }
    <opset_import: ["" : 17], domain: "local"> none (a) => (b) { c = Identity(a) b = Exp(c) }
    <opset_import: ["" : 17], domain: "local"> inner (a) => (b) { c = Identity(a) b = Neg(c) }
    <opset_import: ["" : 17], domain: "local"> unread (a) => (b) { b = Abs(a) }
    """
    after = check(onnx.parser.parse_model(text))
    assert [function.name for function in after.functions] == ["f", "inner", "unread"]
    assert [node.op_type for node in after.functions[1].node] == ["Neg"]
