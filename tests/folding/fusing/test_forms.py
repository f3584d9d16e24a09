"""Operators that a target lacks are written out in the form that fusing, and a runtime, recognizes."""

from __future__ import annotations

import numpy as np
import pytest

from folding.fusing.forms import FORMS, KEY, write_out
from tests.support.models import Model
from tests.support.ready.fusing import Fake, assert_equal, fused, once, operators, rewritten
from tests.support.rows.row import start

NEWEST = 24


def made(op, *parameters, shape=(2, 4, 5, 6), opset=NEWEST, dtype=np.float32, **attributes):
    """A model of one operator between two others."""
    m = Model(opset=opset, dtype=dtype, ir=10)
    x = start(m, *shape)
    m.op("Identity", m.op(op, x, *(m.constant(one) for one in parameters), like=x, **attributes), like=x)
    return m, m.build()


ROWS = {
    "Gelu": lambda **kind: made("Gelu", **kind),
    "Gelu tanh": lambda **kind: made("Gelu", approximate="tanh", **kind),
    "HardSwish": lambda **kind: made("HardSwish", **kind),
    "Mish": lambda **kind: made("Mish", **kind),
    "Swish": lambda **kind: made("Swish", **kind),
    "Swish alpha": lambda **kind: made("Swish", alpha=1.702, **kind),
    "LayerNormalization": lambda **kind: made("LayerNormalization", (6,), (6,), **kind),
    "LayerNormalization from axis 2": lambda **kind: made("LayerNormalization", (5, 6), axis=2, epsilon=0.1, **kind),
    "LayerNormalization in its own type": lambda **kind: made("LayerNormalization", (6,), axis=-1, **kind),
    "RMSNormalization": lambda **kind: made("RMSNormalization", (6,), **kind),
    "GroupNormalization": lambda **kind: made("GroupNormalization", (4,), (4,), num_groups=2, **kind),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("row", ROWS)
def test_an_operator_is_written_out_and_back(row, dtype):
    m, model = ROWS[row](dtype=dtype)
    op = row.split()[0]
    after, (change,) = rewritten(write_out, model, Fake(lacks=frozenset({op})))
    assert op not in operators(after)
    assert (change.stage, change.kind, change.examples) == (
        "converted",
        f"{op} written out",
        (model.graph.node[1].name,),
    )
    assert after.graph.output == model.graph.output
    assert_equal(model, after, m.feeds)
    again, _ = fused(after)
    assert operators(again) == operators(model)


@pytest.mark.parametrize("opset", [17, 18, 20])
def test_axes_are_an_attribute_in_older_operator_sets(opset):
    m, model = made("LayerNormalization", (6,), (6,), opset=opset)
    after, _ = rewritten(write_out, model, Fake(lacks=frozenset({"LayerNormalization"})))
    assert_equal(model, after, m.feeds)


def test_every_form_has_a_row():
    assert FORMS.keys() == {row.split()[0] for row in ROWS}


@pytest.mark.parametrize("row", ROWS)
def test_what_a_target_takes_stays(row):
    _, model = ROWS[row]()
    assert rewritten(write_out, model, Fake()) == (model, [])


@pytest.mark.parametrize(
    ("row", "lacks"),
    [
        ("Gelu", {"Erf"}),
        ("Mish", {"Softplus"}),
        ("LayerNormalization", {"Sqrt"}),
        ("HardSwish", {"HardSigmoid", "Clip"}),
    ],
)
def test_a_form_that_the_target_lacks_too_is_not_written(row, lacks):
    _, model = ROWS[row]()
    assert rewritten(write_out, model, Fake(lacks=frozenset({row, *lacks}))) == (model, [])


def test_the_next_form_is_written_where_the_first_is_not_taken():
    m, model = ROWS["HardSwish"]()
    after, _ = rewritten(write_out, model, Fake(lacks=frozenset({"HardSwish", "HardSigmoid"})))
    assert operators(after) == ["Asinh", "Add", "Clip", "Mul", "Div", "Identity"]
    assert_equal(model, after, m.feeds)


def test_another_operator_set_can_be_asked_for():
    asked = set()

    class Asking(Fake):
        def takes(self, op, opset, dtype=None):
            asked.add((opset, dtype))
            return super().takes(op, opset, dtype)

    rewritten(write_out, ROWS["Gelu"](dtype=np.float16)[1], Asking(lacks=frozenset({"Gelu"})), opset=17)
    assert asked == {(17, "float16")}


def test_the_shape_behind_a_group_normalization_is_known():
    """onnx infers none, and the form of the second one needs it."""
    m = Model(opset=21, dtype=np.float32)
    x = m.x(2, 4, 5, 6)
    for _ in range(2):
        y = m.op("GroupNormalization", x, m.constant((4,)), m.constant((4,)), num_groups=2, like=x)
        x = m.op("Add", y, x)
    model = m.build()
    after, changes = rewritten(write_out, model, Fake(lacks=frozenset({"GroupNormalization"})))
    assert len(changes) == 2
    assert_equal(model, after, m.feeds)


def test_statistics_that_are_read_keep_a_normalization():
    m = Model(opset=NEWEST, dtype=np.float32, ir=10)
    x = m.x(2, 3, 4)
    y = m.op("LayerNormalization", x, m.constant((4,)), outputs=3, like=x)
    m.op("Add", y, f"{y}_1", like=x)
    model = m.build()
    assert rewritten(write_out, model, Fake(lacks=frozenset({"LayerNormalization"}))) == (model, [])


def test_a_scale_of_another_type_keeps_a_normalization():
    m = Model(opset=NEWEST, dtype=np.float16, ir=10)
    x = m.x(2, 3, 4)
    m.op("RMSNormalization", x, m.constant((4,), dtype=np.float32), like=x)
    model = m.build()
    assert once(write_out, model, Fake(lacks=frozenset({"RMSNormalization"}))) == (model, [])


def test_one_can_be_left_out_and_one_kept():
    _, model = ROWS["Gelu"]()
    target = Fake(lacks=frozenset({"Gelu"}))
    key = f"{KEY}0:{model.graph.node[1].output[0]}"
    assert rewritten(write_out, model, target, [key]) == (model, [])
    assert rewritten(write_out, model, target, keeps=lambda label: label == model.graph.node[1].name) == (model, [])
