"""What is left of a map that folds in part is named, with its place and what holds it."""

from __future__ import annotations

import pytest

from folding import Leftover, Outcome, Report
from tests.support.models import SITE, Model, assert_left, fold
from tests.support.rows.row import out, start


def outcomes(m: Model) -> tuple[dict[str, Outcome], list[str]]:
    before = m.build()
    after, report = fold(before)
    assert_left(after, report)
    return {outcome.node: outcome for outcome in report.outcomes}, [node.op_type for node in after.graph.node]


def matmul(m: Model, x: str) -> str:
    return m.op("MatMul", x, m.constant((4, 5)), name="matmul")


def added(m: Model, x: str, name: str = "add") -> str:
    return m.op("Add", x, m.constant((5,)), name=name)


def test_a_leftover_has_a_name_a_place_and_reasons():
    m = Model()
    out(m, m.bn(matmul(m, start(m, 3, 4))))
    found, operators = outcomes(m)
    (left,) = found[SITE].left
    assert (left.node, left.operator, left.after) == ("matmul.add", "Add", "matmul")
    assert (left.backward.code, left.backward.at) == ("idiom", "matmul.add")
    assert left.backward.reason == left.forward.reason == "it is part of a product with its bias"
    assert found[SITE].status == "split"
    assert operators == ["Asinh", "MatMul", "Add", "Asinh"]


def test_half_of_a_normalization_that_stays_is_its_own_leftover():
    m = Model()
    out(m, m.conv(m.bn(start(m)), 6, pads=[1] * 4))
    found, operators = outcomes(m)
    (left,) = found[SITE].left
    assert (left.node, left.operator, left.after) == (SITE, "Add", "asinh0")
    assert left.forward.code == "zero-padding"
    assert left.forward.hint
    assert operators == ["Asinh", "Add", "Conv", "Asinh"]


def test_a_leftover_at_an_input_of_the_graph():
    m = Model()
    out(m, m.conv(m.bn(m.x(2, 4, 5, 6)), 6, pads=[1] * 4))
    (left,) = outcomes(m)[0][SITE].left
    assert (left.after, left.backward.code) == ("", "graph-input")


@pytest.mark.parametrize(
    ("build", "into"),
    [
        (lambda m, x: m.bn(added(m, matmul(m, x))), ("matmul", "matmul.add")),
        (lambda m, x: added(m, m.bn(matmul(m, x))), ("matmul", "matmul.add_2")),
        (lambda m, x: added(m, matmul(m, m.bn(x))), ("matmul", "add")),
    ],
)
def test_where_an_add_was_before_nothing_is_left_of_the_normalization(build, into):
    m = Model()
    out(m, build(m, start(m, 3, 4)))
    found, operators = outcomes(m)
    assert (found[SITE].status, found[SITE].absorbed_by, found[SITE].left) == ("folded", into, ())
    assert "add" not in found or found["add"].status == "merged"  # a bias is no map of its own
    assert operators == ["Asinh", "MatMul", "Add", "Asinh"]


def test_two_normalizations_share_what_is_left():
    m = Model()
    x = m.bn(matmul(m, start(m, 3, 4)), name="first")
    out(m, m.bn(x, name="second"))
    found, operators = outcomes(m)
    assert operators == ["Asinh", "MatMul", "Add", "Asinh"]
    assert {name: [left.node for left in end.left] for name, end in found.items()} == {
        "first": ["matmul.add_2"],
        "second": ["matmul.add_2"],
    }


def test_what_a_later_fold_takes_is_not_left():
    """The half of a normalization that stayed goes into the convolution when its branch does."""
    m = Model()
    x = start(m)
    out(m, m.bn(m.op("Add", m.conv(x, 4, pads=[1] * 4), x)))
    found, operators = outcomes(m)
    assert (found[SITE].status, found[SITE].left) == ("folded", ())
    assert operators == ["Asinh", "Conv", "Asinh"]


def test_a_report_reads_its_leftovers_back():
    m = Model()
    out(m, m.bn(matmul(m, start(m, 3, 4))))
    report = fold(m.build())[1]
    assert isinstance(report.outcomes[0].left[0], Leftover)
    assert Report.from_dict(report.as_dict()) == report
