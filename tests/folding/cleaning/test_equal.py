"""What is there twice is computed, or stored, once; idioms are merged as a whole or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from folding import Options, fold_model, onnxfile
from folding.analysis import shapes
from folding.analysis.stored import SAMPLE
from folding.analysis.values import indexed
from folding.cleaning.driver import clean
from folding.graph import idioms
from folding.onnxfile import INLINE_BYTES, Span
from tests.support.models import Model
from tests.support.ready.cleaning import check, clean_model, model, operators, run, samples
from tests.support.ready.idioms import WRITERS, kinds
from tests.support.structures import with_constant_nodes

N = "(float[N,3] x) => (float[N,3] y)"
ROWS = [
    (N + "{ a = Exp(x) b = Exp(x) y = Add(a, b) }", "Exp Add"),
    (N + "{ a = Exp(x) b = Exp(x) c = Neg(a) d = Neg(b) y = Add(c, d) }", "Exp Neg Add"),
    (N + "<float[1] p = {2}, float[1] q = {2}> { a = Mul(x, p) b = Mul(q, x) y = Add(a, b) }", "Mul Add"),
    ("(float[N,3] x) => (float[N,3] y, float[N,3] z) { y = Exp(x) a = Exp(x) z = Neg(a) }", "Exp Neg"),
    ("(float[N,3] x) => (float[N,3] y, float[N,3] z) { a = Exp(x) z = Neg(a) y = Exp(x) }", "Exp Neg"),
    (
        "(float[N,3] x) => (float[N,3] y, float[N,3] z) { a, b = Split <axis = 1> (x2) c, d = Split <axis = 1> (x2)"
        " y = Sub(a, d) z = Sub(b, c) }".replace("{ a", "{ x2 = Concat <axis = 1> (x, x) a"),
        "Concat Split Sub Sub",
    ),
    # near misses: attributes, the order, random numbers, two outputs, types
    (
        "(float[N,3] x) => (float[N,3] y) { a = Softmax <axis = 0> (x) b = Softmax <axis = 1> (x) y = Add(a, b) }",
        "Softmax Softmax Add",
    ),
    ("(float[N,3] x, float[N,3] z) => (float[N,3] y) { a = Sub(x, z) b = Sub(z, x) y = Add(a, b) }", "Sub Sub Add"),
    ("(float[N,3] x) => (float[N,3] y, float[N,3] z) { y = Exp(x) z = Exp(x) }", "Exp Exp"),
    (
        N
        + "{ a = Cast <to = 11> (x) b = Cast <to = 10> (x) c = Cast <to = 1> (a) d = Cast <to = 1> (b) y = Add(c, d) }",
        "Cast Cast Add",
    ),
    (
        N + "<float s = {0.5}, uint8 z = {3}> { a = QuantizeLinear(x, s, z) b = QuantizeLinear(x, s, z)"
        " c = DequantizeLinear(a, s, z) d = DequantizeLinear(b, s, z) y = Add(c, d) }",
        "QuantizeLinear QuantizeLinear DequantizeLinear DequantizeLinear Add",
    ),
    (N + "{ a = Exp(x) t = Greater(a, x) b = Exp(x) y = Where(t, a, b) }", "Exp"),
]


@pytest.mark.parametrize(("text", "left"), ROWS[:-1])
def test_what_is_left(text, left):
    assert " ".join(operators(check(model(text)).graph)) == left


def test_random_numbers_differ():
    text = N + "{ a = RandomNormalLike(x) b = RandomNormalLike(x) y = Sub(a, b) }"
    assert list(operators(check(model(text), runs=False).graph)) == ["RandomNormalLike", "RandomNormalLike", "Sub"]


def test_equal_operators_of_two_branches_stay_apart():
    body = "() => (float[N,3] r) { s = Exp(x) t = Exp(x) r = Add(s, t) }"
    text = (
        f"(float[N,3] x, bool c) => (float[N,3] y) {{ y = If (c) < then_branch = t {body}, else_branch = e {body} > }}"
    )
    assert list(operators(check(model(text)).graph)) == ["If", "Exp", "Add", "Exp", "Add"]


def weights(*arrays: np.ndarray) -> onnx.ModelProto:
    """The sum of an input and these initializers."""
    m = Model(dtype=np.float32)
    x = m.x(*arrays[0].shape)
    for array in arrays:
        x = m.op("Add", x, m.constant(array))
    return m.build()


@pytest.mark.parametrize("size", [4, INLINE_BYTES, 100_000])
def test_equal_initializers_are_stored_once(size):
    one = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    other = one.copy()
    other[3] += 1
    middle = one.copy()
    middle[size // 3] += 1  # between the samples
    after = check(weights(one, other, one, middle, other))
    assert len(after.graph.initializer) == 3
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    for node, expected in zip(after.graph.node, (one, other, one, middle, other), strict=True):
        assert np.array_equal(found[node.input[1]], expected)


def test_initializers_of_other_types_and_shapes_differ():
    m = Model(dtype=np.float32)
    x = m.op("Reshape", m.x(4), m.constant(np.array([2, 2])))
    x = m.op("Max", x, m.constant(np.zeros((1, 2))))
    x = m.op("Max", x, m.constant(np.zeros((2, 1))))
    x = m.op("Max", x, m.constant(np.array([[-0.0], [-0.0]])))
    after = check(m.build(x))
    assert len({name for node in after.graph.node if node.op_type == "Max" for name in node.input[1:]}) >= 2


def test_what_a_fold_computed_is_compared_as_it_will_be_written():
    m = Model(dtype=np.float32)
    x, w, b = m.x(2, 3), m.constant(np.float32([[1, 2], [3, 4], [5, 6]])), m.constant(np.float32([0.1, 0.2]))
    y = m.op("Gemm", x, w, b, alpha=2.0)
    z = m.op("Add", m.op("Gemm", x, w), b)
    before = m.build(y, z)
    folded, _ = fold_model(before, Options(clean=True))
    assert [list(node.input) for node in folded.graph.node] == [["x0", w, b]] * 2
    again, _ = fold_model(folded, Options(clean=True))
    assert again == folded


def test_an_initializer_that_a_caller_may_override_is_no_copy():
    text = "(float[2] x, float[2] a = {1,2}) => (float[2] y) <float[2] b = {1,2}> { c = Mul(x, a) y = Mul(c, b) }"
    after = check(model(text))
    assert [node.input[1] for node in after.graph.node] == ["a", "b"]
    frozen, _ = clean_model(model(text), freeze_initializers=True)
    assert {node.input[1] for node in frozen.graph.node} == {"a", "b"}  # graph inputs stay


def test_equal_strings_stay_two():
    text = """(int64[N] x) => (string[N] y, string[N] z) <string[2] a = {"no", "yes"}, string[2] b = {"no", "yes"}>
    { y = Gather(a, x) z = Gather(b, x) }"""
    after, _ = clean_model(model(text))
    assert [node.input[0] for node in after.graph.node] == ["a", "b"]


# --- idioms --------------------------------------------------------------------------------------------------------


def found(which: onnx.ModelProto) -> list[str]:
    with onnxfile.from_bytes(which.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        return kinds(idioms.find(graph))


@pytest.mark.parametrize("name", WRITERS)
def test_two_idioms_of_one_value_stay_or_become_one(name):
    idiom, writer = WRITERS[name]
    m = Model(dtype=np.float32)
    x = m.x(1, 4, 6, 4)
    m.op("Add", writer(m, x), writer(m, x))
    before = m.build()
    after, _ = clean_model(before)
    anchor = next(
        one.anchor
        for one in (*idioms.IDIOMS, idioms.BIAS)
        if one.name == idiom and one.anchor in operators(before.graph)
    )
    share = list(operators(after.graph)).count(anchor) / list(operators(before.graph)).count(anchor)
    assert len(found(before)) >= 2
    assert len(found(after)) == share * len(found(before))


@pytest.mark.parametrize(
    "name", [name for name in WRITERS if name != "product_with_bias"]
)  # one product less is worth more than its bias
def test_a_reader_of_an_equal_operator_outside_gets_not_inside(name):
    idiom, writer = WRITERS[name]
    m = Model(dtype=np.float32)
    x = m.x(1, 4, 6, 4)
    y = writer(m, x)
    before = m.build(y)
    for number in range(len(m.nodes)):
        extra = onnx.ModelProto()
        extra.CopyFrom(before)
        copy = extra.graph.node.add()
        copy.CopyFrom(m.nodes[number])
        copy.output[:] = ["copied"]
        extra.graph.node.add(op_type="Identity", input=["copied"], output=["copy"])
        extra.graph.output.add().CopyFrom(extra.graph.output[0])
        extra.graph.output[1].name = "copy"
        extra.graph.output[1].type.tensor_type.ClearField("shape")
        after, _ = clean_model(extra)
        assert idiom in found(after) or idiom not in found(extra)


def test_two_idioms_that_are_outputs_stay_two():
    m = Model(dtype=np.float32)
    x = m.x(2, 3)
    gelu = WRITERS["gelu"][1]
    before = m.build(gelu(m, x), gelu(m, x))
    after, _ = clean_model(before)
    assert found(after) == ["GELU", "GELU"]


def test_weights_are_not_loaded(monkeypatch):
    """Of weights that differ, samples are read; of what becomes an initializer or gets another shape, nothing more."""
    read: list[int] = []
    plain = Span.read_into

    def counted(span: Span, buffer: Any, start: int = 0) -> None:
        read.append(memoryview(buffer).nbytes)
        plain(span, buffer, start)

    random = np.random.default_rng(0)
    m = Model(dtype=np.float32)
    x = m.x(1, 512)
    for _ in range(3):
        weight = m.op("Reshape", m.constant(random.standard_normal(512 * 512)), m.constant(np.array([512, 512])))
        x = m.op("MatMul", x, weight)
    before = with_constant_nodes(m.build(x), ["c0"])
    with onnxfile.from_bytes(before.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        monkeypatch.setattr(Span, "read_into", counted)
        clean(graph)
        assert [node.op for node in graph.nodes()] == ["MatMul"] * 3
    assert read
    assert max(read) <= SAMPLE
    feeds = samples(before)
    one, other = (run(which, feeds)[0] for which in (before, clean_model(before)[0]))
    assert np.allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(one).max())  # a stored matrix takes another kernel


def test_large_constants_of_constants_are_not_computed():
    m = Model(dtype=np.float32)
    big = m.constant(np.random.default_rng(0).standard_normal((2048, 1024)))
    m.op(
        "MatMul",
        m.x(1, 1024),
        m.op("Transpose", big, perm=[1, 0], like=m.constant(np.zeros((1024, 2048)))),
        like=m.x(1, 2048),
    )
    before = m.build()
    assert list(operators(clean_model(before)[0].graph)) == ["Transpose", "MatMul"]
