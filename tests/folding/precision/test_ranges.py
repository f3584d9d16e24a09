"""What is known of the magnitudes of values: on samples, measured in a child process, and without."""

from __future__ import annotations

import numpy as np
import pytest

from folding import OptionError, onnxfile
from folding.analysis import shapes
from folding.analysis.values import indexed
from folding.precision import ranges
from folding.precision.bounds import Bound, bounds
from folding.precision.groups import Groups
from folding.precision.kinds import BFLOAT16, FLOAT16
from folding.precision.opsets import wanted_opset
from folding.verification.ranges import Range
from tests.support.lowering import FLOAT, HALF, lowered, parsed, types

M4 = np.eye(4)
TEXT = """g (float[B,4] x, bool[B,4] k) => (float[B,4] y) {
    a = Mul(x, big) b = Where(k, a, low) c = MatMul(b, w) y = Relu(c) }"""


def measured(model, **options):
    with onnxfile.from_bytes(model.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        return ranges.measure(graph, **options)


def test_ranges_of_the_samples_of_the_user(tmp_path):
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.array([[1, -2, 0, 4]], np.float32), k=np.array([[True, True, True, False]]))
    found = measured(parsed(TEXT, w=M4, big=np.array([100.0]), low=np.array([-np.inf])), inputs=str(path))
    assert found.described.startswith(str(path))
    assert found.values["x"] == Range(4, 1, 4, -2, 0.0, 0, 3)
    assert found.values["a"] == Range(400, 100, 400, -200, 0.0, 0, 3)
    assert found.values["b"] == Range(200, 100, 100, -200, 0.0, 1, 2)
    assert set(found.values) == {"x", "a", "b", "c", "y"}


def test_ranges_of_generated_samples_are_the_same_every_time():
    model = parsed(TEXT, w=M4, big=np.array([100.0]), low=np.array([-1.0]))
    first, second = measured(model), measured(model)
    assert first == second
    assert first.described.startswith("generated")
    assert 100 < first.values["a"].largest < 1000


def test_values_are_looked_at_in_slices(monkeypatch):
    model = parsed(TEXT, w=M4, big=np.array([100.0]), low=np.array([-1.0]))
    whole = measured(model)
    monkeypatch.setattr(ranges, "SLICE_BYTES", 1)
    assert measured(model) == whole


def test_samples_that_do_not_fit_are_an_error(tmp_path):
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.zeros((1, 5), np.float32), k=np.zeros((1, 4), bool))
    with pytest.raises(OptionError, match="x"):
        measured(parsed(TEXT, w=M4, big=np.array([1.0]), low=np.array([-1.0])), inputs=str(path))


def test_a_model_that_does_not_run_has_no_ranges():
    model = parsed(
        "g (float[4] x, int64[1] i) => (float[2,2] y) { s = Concat<axis=0>(i, i) a = Reshape(x, s) y = Relu(a) }"
    )
    found = measured(model)
    assert not found.values
    assert found.refusal


def test_a_model_that_does_not_load_has_no_ranges_whatever_the_samples(tmp_path):
    model = parsed("g (float[1,4,4,4] x) => (float[1,4,1,1] y) { y = GlobalLpPool(x) }", 22)
    np.savez(tmp_path / "inputs.npz", x=np.zeros((1, 4, 4, 4), np.float32))
    found = measured(model, inputs=str(tmp_path / "inputs.npz"))
    assert not found.values
    assert "GlobalLpPool" in found.refusal


def test_ranges_add_up():
    one, two = Range.of(np.array([1.0, 0.0, np.inf], np.float32)), Range.of(np.array([-3.0, 1e-6], np.float32))
    assert one + two == Range(3, np.float32(1e-6), 1, -3, 1 / 3, 1, 3)
    empty = Range.of(np.zeros(3, np.float32))
    assert empty + one == one + empty == one
    assert Range.of(np.array([np.nan], np.float16)).other == 1


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("y = Sigmoid(x)", Bound(0, 1)),
        ("a = Tanh(x) y = Mul(a, c)", Bound(-5, 5)),
        ("a = Softmax(x) y = Add(a, c)", Bound(5, 6)),
        ("y = Clip(x, c, d)", Bound(5, 7)),
        ("a = Sigmoid(x) y = ReduceSum(a)", Bound(0, 16)),
        ("a = Sin(x) b = Neg(a) e = Sub(b, c) y = Abs(e)", Bound(0, 6)),
        ("a = Cos(x) b = Relu(a) y = Concat<axis=0>(b, b)", Bound(0, 1)),
        ("a = Greater(x, c) y = Cast<to=1>(a)", Bound(0, 1)),
        ("a = Erf(x) y = Add(a, x)", None),
        ("y = MatMul(x, x)", None),
    ],
)
def test_bounds_need_no_samples(text, bound):
    model = parsed(f"g (float[4,4] x) => (float[M,N] y) {{ {text} }}", c=np.array(5.0), d=np.array(7.0))
    with onnxfile.from_bytes(model.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        found = bounds(Groups(graph, FLOAT16)).get((0, "y"))
    assert found == bound


def test_a_bound_beyond_the_type_keeps_a_value():
    text = """g (float[2,4] x) => (float[2,4] y) {
        a = MatMul(x, w) s = Tanh(a) t = Mul(s, two) b = Mul(t, c) d = Div(b, c) y = MatMul(d, w) }"""
    m, _ = lowered(parsed(text, w=M4, two=np.array([2.0]), c=np.array([3e4])))
    assert types(m)["b"] == HALF
    m, outcome = lowered(parsed(text, w=M4, two=np.array([2.0]), c=np.array([6e4])))
    assert types(m)["b"] == FLOAT
    assert any("may reach 1.2e+05" in node.reason for node in outcome.nodes)


@pytest.mark.parametrize(
    ("op", "precision", "opset", "wanted"),
    [
        ("Conv<pads=[1,1,1,1]>(x, w)", "bf16", 17, 22),
        ("Conv<pads=[1,1,1,1]>(x, w)", "fp16", 17, 17),
        ("Relu(x)", "bf16", 11, 13),
        ("Relu(x)", "bf16", 17, 17),
        ("CumSum(x, i)", "fp16", 13, 14),
        ("Clip(x, i)", "bf16", 13, 16),
        ("Pow(x, i)", "bf16", 13, 15),
    ],
)
def test_the_operator_set_that_a_type_wants(op, precision, opset, wanted):
    model = parsed(f"g (float[1,4,4,4] x) => (float[1,4,4,4] y) {{ y = {op} }}", opset,
                   w=np.zeros((4, 4, 3, 3)), i=np.array(0))  # fmt: skip
    used = set(model.graph.node[0].input)
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)
    with onnxfile.from_bytes(model.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        assert wanted_opset(graph, precision) == wanted


def test_the_types():
    assert (FLOAT16.largest, FLOAT16.normal, FLOAT16.digits) == (65504, 2.0**-14, 11)
    assert BFLOAT16.digits == 8
    assert FLOAT16.nearest(1e6) == np.inf


@pytest.mark.parametrize(("exponent", "stays"), [(2.0, False), (1.0, False), (0.5, True), (-1.0, True)])
def test_small_numbers_matter_where_they_are_inverted_and_not_where_they_are_squared(exponent, stays):
    model = parsed(
        "g (float[1,4] x) => (float[1,4] y) { a = MatMul(x, w) b = Pow(a, e) y = MatMul(b, w) }",
        w=np.eye(4),
        e=np.array(exponent),
    )
    found = Range(largest=1.0, smallest=1e-9, highest=1.0, count=4)
    _, outcome = lowered(model, "mixed", ranges={"a": found})
    assert ("inverted" in " ".join(placed.reason for placed in outcome.nodes)) == stays


@pytest.mark.parametrize(("largest", "stays"), [(1e-7, False), (1e-5, True)])
def test_what_rounding_leaves_of_a_difference_is_not_too_small(largest, stays):
    """The terms are as large as 1; 5e-6 is no rounding of float32, and too small for float16."""
    model = parsed(
        "g (float[1,4] x) => (float[1,4] y) { a = MatMul(x, w) b = Sub(a, x) y = MatMul(b, w) }", w=np.eye(4)
    )
    terms = Range(largest=1.0, smallest=0.5, highest=1.0, count=4)
    found = {"x": terms, "a": terms, "b": Range(largest=largest / 2, smallest=largest / 2, highest=largest, count=4)}
    _, outcome = lowered(model, "fp16", ranges=found)
    assert ("stays below" in " ".join(placed.reason for placed in outcome.nodes)) == stays
