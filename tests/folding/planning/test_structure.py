"""Bodies of If, Loop and Scan, names that collide or are missing, shapes that are unknown, ends of the graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from folding import fold_model
from tests.support import structures
from tests.support.models import DIGITS, NO_VERIFY, Model, assert_same_function, fold
from tests.support.rows.row import Kept, into, judge, out, start


def simple(**kind: int) -> Model:
    m = Model(**kind)
    out(m, m.bn(m.conv(start(m), 6)))
    return m


def checked(before: onnx.ModelProto, m: Model):
    after, report = fold(before)
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])
    again, second = fold(after)
    assert again == after
    assert not second.changed
    return after, report


def body_of(model: onnx.ModelProto) -> onnx.GraphProto:
    return next(a.g for node in model.graph.node for a in node.attribute if a.HasField("g") and len(a.g.node))


# --- bodies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [structures.in_branch, structures.in_loop])
@pytest.mark.parametrize("inside", [0, 2, 6])
def test_bodies_are_folded_and_leave_no_weight_behind(wrap, inside):
    m = simple()
    after, report = checked(wrap(m.build(), list(m.initializers)[:inside]), m)
    assert report.bn_after == 0
    body = body_of(after)
    assert "Conv" in [node.op_type for node in body.node]
    assert {t.name for t in after.graph.initializer} <= {"taken", "once"}
    assert len(body.initializer) == 2


def test_a_captured_weight_that_another_body_reads_stays():
    m = simple()
    before = structures.in_branch(m.build())
    other = before.graph.node[0].attribute[1].g
    other.node.add(op_type="Identity", input=["c0"], output=["unused"])
    after, _ = checked(before, m)
    assert "c0" in {t.name for t in after.graph.initializer}


def scan(m: Model) -> onnx.ModelProto:
    """A Scan whose body is Gemm and a normalization of every element; the weights are in the main graph."""
    x = m.x(3, 2, 4)
    state = m.x(2, 5)
    element = helper.make_tensor_value_info("element", 11, [2, 4])
    m.values["element"] = m.at(x)[0]
    m.op("Add", m.bn(m.op("Gemm", "element", m.constant((4, 5)))), state)
    nodes, m.nodes = m.nodes, []
    total = helper.make_node("Add", [nodes[-1].output[0], "sum"], ["total"])
    copy = helper.make_node("Identity", ["total"], ["each"])
    kinds = [helper.make_tensor_value_info(name, 11, [2, 5]) for name in ("sum", "total", "each")]
    body = helper.make_graph([*nodes, total, copy], "body", [kinds[0], element], kinds[1:])
    m.nodes = [helper.make_node("Scan", [state, x], ["last", "all"], body=body, num_scan_inputs=1)]
    m.values |= {"last": m.at(state), "all": np.zeros((3, 2, 5))}
    return m.build("last", "all")


def test_the_body_of_a_scan_is_folded():
    m = Model()
    after, report = checked(scan(m), m)
    assert report.outcomes[0].status == "folded"
    assert [n.op_type for n in body_of(after).node] == ["Gemm", "Add", "Add", "Identity"]


def test_what_a_loop_carries_does_not_change():
    """The value of the next round is an input of the body, not made by an operator in it."""
    m = Model()
    x = start(m, 3, 4)
    kinds = {n: helper.make_tensor_value_info(n, 11, [3, 4]) for n in ("carried", "next")}
    flags = [helper.make_tensor_value_info(n, t, []) for n, t in (("number", 7), ("go_on", 9), ("still", 9))]
    m.values["carried"] = m.at(x)
    m.bn("carried")
    nodes = [*m.nodes[1:], helper.make_node("Identity", ["go_on"], ["still"])]
    nodes[0].output[0] = "next"
    body = helper.make_graph(nodes, "body", [*flags[:2], kinds["carried"]], [flags[2], kinds["next"]])
    m.nodes = [m.nodes[0], helper.make_node("Loop", [m.constant(np.array(3)), "", x], ["last"], body=body)]
    m.values["last"] = m.at(x)
    before = m.build("last")
    after, report = checked(before, m)
    judge(report.outcomes[0], Kept("graph-input", "graph-output"), {})
    assert after == before


def test_a_name_of_a_body_is_not_taken():
    m = simple()
    before = structures.in_branch(m.build())
    other = before.graph.node[0].attribute[1].g
    other.node.add(op_type="Identity", input=["x0"], output=["c0_folded"])
    body = next(a.g for a in before.graph.node[0].attribute if a.name == "then_branch")
    body.node.add(op_type="Identity", input=["c0"], output=["c1_folded"])
    checked(before, m)


# --- names --------------------------------------------------------------------------------------------------------


def test_operators_without_names():
    m = simple()
    before = m.build()
    for node in before.graph.node:
        node.name = ""
    after, report = checked(before, m)
    assert [o.node for o in report.outcomes] == [m.nodes[2].output[0]]
    assert [n.op_type for n in after.graph.node] == ["Asinh", "Conv", "Asinh"]


def test_operators_of_one_name():
    m = Model()
    x = out(m, m.bn(m.conv(start(m), 6), name="same"))
    out(m, m.bn(m.op("MatMul", x, m.constant((m.at(x).shape[-1], 3))), name="same"))
    before = m.build()
    for node in before.graph.node:
        node.name = "same"
    _, report = checked(before, m)
    assert [o.status for o in report.outcomes] == ["folded", "kept"]


def test_a_fresh_name_is_fresh():
    m = Model()
    x = start(m)
    w = m.constant((4, 4, 3, 3), name="w")
    m.constant((1,), name="w_folded")
    y = m.op("Conv", out(m, m.bn(m.op("Conv", x, w))), w)
    out(m, m.op("Mul", out(m, y), "w_folded"))
    after, _ = checked(m.build(), m)
    assert {"w", "w_folded", "w_folded_2"} <= {t.name for t in after.graph.initializer}


# --- ends of the graph --------------------------------------------------------------------------------------------


def test_a_graph_output_that_is_a_weight():
    m = simple()
    before = m.build(m.nodes[-1].output[0], "c0")
    after, report = checked(before, m)
    assert report.outcomes[0].status == "folded"
    assert after.graph.initializer[0] == before.graph.initializer[0]


def test_a_graph_output_that_is_an_input():
    m = simple()
    _, report = checked(m.build(m.nodes[-1].output[0], "x0"), m)
    assert report.outcomes[0].status == "folded"


def test_an_affine_nobody_reads():
    m = simple()
    m.per_channel("Mul", m.nodes[0].output[0], name="dead")
    after, report = checked(m.build(m.nodes[3].output[0]), m)
    dead = next(o for o in report.outcomes if o.node == "dead")
    assert dead.status == "removed"
    assert "dead" not in {node.name for node in after.graph.node}


# --- shapes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [(), (0,), (0, 2, 3)])
def test_the_shape_of_a_reshape_that_reads_shapes(axes):
    """Two in a row, each known only once the one before it is."""
    m = Model(opset=11)
    x = m.conv(start(m, 2, 4, 6, 6), 6)
    for _ in range(2):
        first = m.op("Slice", m.op("Shape", x), *(m.constant(np.array([n])) for n in (0, 2)))
        shape = m.op("Concat", first, m.constant(np.array([2, -1])), axis=0)
        x = m.op("Reshape", x, shape)
    out(m, m.per_channel("Mul", x))
    before = structures.with_open_shapes(m.build(), axes)
    after, report = checked(before, m)
    judge(report.outcomes[0], into("Conv"), {n.name: n.op_type for n in after.graph.node})


@pytest.mark.parametrize("keep_zero", [0, 1])
def test_zeros_in_a_computed_shape(keep_zero):
    """A 0 copies the size of the input, unless allowzero says that it is one; then the -1 cannot be known."""
    m = Model(opset=14)
    x = m.conv(start(m, 2, 4, 6, 6), 6)
    last = m.op("Slice", m.op("Shape", x), *(m.constant(np.array([n])) for n in (2, 3)))
    shape = m.op("Concat", m.constant(np.array([0, 0])), last, m.constant(np.array([-1])), axis=0)
    x = m.op("Reshape", x, shape, allowzero=keep_zero, **({"like": x} if keep_zero else {}))
    out(m, m.per_channel("Mul", x))
    _, report = fold_model(structures.with_open_shapes(m.build(), {0, 2, 3}), NO_VERIFY)
    assert report.outcomes[0].status == ("kept" if keep_zero else "folded")


def test_numbers_that_are_no_sizes_are_not_computed():
    """n = n * n sixty times: no memory holds it."""
    m = Model(opset=11)
    x = start(m, 2, 4, 6, 6)
    n = m.op("Slice", m.op("Shape", x), *(m.constant(np.array([n])) for n in (1, 2)))
    one = m.constant(np.array([1]))
    for _ in range(60):
        n = m.op("Mul", n, n, like=one)
    m.op("Reshape", x, m.op("Concat", n, m.constant(np.array([-1])), axis=0), like=x)
    out(m, m.bn(m.conv(x, 6)))
    _, report = fold_model(structures.with_open_shapes(m.build(), {0, 2, 3}), NO_VERIFY)
    assert report.outcomes[0].status == "folded"


ODD_SHAPES = [
    ("a step", lambda m, s: m.op("Slice", s, *(m.constant(np.array([n])) for n in (0, 4, 0, 2)))),
    ("a fraction", lambda m, s: m.op("Cast", m.op("Cast", s, to=11), to=7)),
    ("a negative number", lambda m, s: m.op("Neg", m.op("Neg", s))),
]


@pytest.mark.parametrize(("name", "make"), ODD_SHAPES, ids=[row[0] for row in ODD_SHAPES])
def test_shapes_that_are_not_followed(name, make):
    m = Model(opset=11)
    x = start(m, 1, 4, 6, 6)
    y = m.op(
        "Reshape",
        m.conv(x, 6, kernel=1),
        m.op("Concat", make(m, m.op("Shape", x)), axis=0, like=m.constant(np.array([6, 36]))),
    )
    out(m, m.per_channel("Mul", y))
    before = structures.with_open_shapes(m.build(), {0, 1, 2, 3})
    _, report = fold_model(before, NO_VERIFY)
    assert report.outcomes[0].status == "kept"
