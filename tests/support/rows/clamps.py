"""Rows of clamps (Relu, Clip, Max, Min) as they fold by default: no bound per channel where there was none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.support.models import SITE, Model
from tests.support.rows.row import Kept, barrier, gemm, into, out, start

if TYPE_CHECKING:
    from tests.support.rows.row import Row


def scaled(m: Model, x: str, *scales: float, op: str = "Mul") -> str:
    """A map per channel with these values."""
    shape = (len(scales), *(1,) * (m.at(x).ndim - 2))
    return m.op(op, x, m.constant(np.reshape(scales, shape)), name=SITE)


def scalar(m: Model, op: str, x: str, value: float) -> str:
    return m.op(op, x, m.constant(np.array(value)), name=SITE)


def clip(m: Model, x: str, low: float | None = None, high: float | None = None) -> str:
    bounds = ["" if value is None else m.constant(np.array(value)) for value in (low, high)]
    return m.op("Clip", x, *(bounds if high is not None else bounds[:1]))


def bounded(m: Model, op: str, x: str, *shape: int) -> str:
    """Max or Min with a constant."""
    return m.op(op, x, m.constant(shape))


ROWS: list[Row] = [
    ("scale behind relu", lambda m: out(m, scaled(m, m.op("Relu", m.conv(start(m), 3)), 1.5, 0.5, 0.0)), into("Conv", direction="backward")),
    ("negative scale behind relu", lambda m: out(m, scaled(m, m.op("Relu", m.conv(start(m), 3)), 1.5, -0.5, 2.0)), Kept("clamp", "barrier")),
    ("shift behind relu", lambda m: out(m, scaled(m, m.op("Relu", m.conv(start(m), 3)), 1.5, 0.5, 0.0, op="Add")), Kept("clamp", "barrier")),
    ("scalar shift behind relu", lambda m: out(m, scalar(m, "Add", m.op("Relu", m.conv(start(m), 3)), -0.25)), into("Conv", "Clip")),
    ("negative scalar behind relu", lambda m: out(m, scalar(m, "Mul", m.op("Relu", m.conv(start(m), 3)), -0.25)), into("Conv", "Clip")),
    ("scale before relu", lambda m: out(m, m.conv(m.op("Relu", scaled(m, start(m), 1.5, 0.5, 2.0, 1.0)), 6, pads=[1] * 4)), into("Conv", direction="forward")),
    ("negative scale before relu", lambda m: out(m, m.conv(m.op("Relu", scaled(m, start(m), 1.5, -0.5, 2.0, 1.0)), 6)), Kept("barrier", "clamp")),
    ("bn before relu and conv", lambda m: out(m, m.conv(m.op("Relu", m.bn(start(m))), 6)), Kept("barrier", "clamp")),
    ("bn of positive scale before relu and conv", lambda m: out(m, m.conv(m.op("Relu", m.bn(start(m), gamma=1.0)), 6, pads=[1] * 4)), into("Conv", status="split", direction="forward", left=5)),
    ("relu between two convs", lambda m: out(m, m.bn(m.op("Relu", m.conv(start(m), 3)))), Kept("clamp", "barrier")),
    ("scalar through clip", lambda m: out(m, scalar(m, "Mul", clip(m, m.conv(start(m), 3), -1.0, 0.75), 2.5)), into("Conv", "Clip")),
    ("scalar through clip without a floor", lambda m: out(m, scalar(m, "Mul", clip(m, m.conv(start(m), 3), None, 0.75), -2.5)), into("Conv", "Clip")),
    ("scalar through clip without bounds", lambda m: out(m, scalar(m, "Sub", m.op("Clip", m.conv(start(m), 3)), -2.5)), into("Conv")),
    ("scalar before clip", lambda m: out(m, m.conv(clip(m, scalar(m, "Mul", start(m), -0.5), 0.0, 6.0), 3)), into("Conv", "Clip", direction="forward")),
    ("scalar zero before clip", lambda m: out(m, m.conv(clip(m, scalar(m, "Mul", start(m), 0.0), 0.25, 6.0), 3)), into("Conv", direction="forward")),
    ("map per channel through clip", lambda m: out(m, m.bn(clip(m, m.conv(start(m), 3), -1.0, 0.75))), Kept("clamp", "barrier")),
    ("clip with exchanged bounds", lambda m: out(m, scalar(m, "Mul", clip(m, m.conv(start(m), 3), 1.0, -0.75), 2.5)), Kept("parameters", "barrier")),
    ("clip with a computed bound", lambda m: out(m, scalar(m, "Mul", m.op("Clip", m.conv(start(m), 3), m.x()), 2.5)), Kept("weight-not-constant", "barrier")),
    ("as a bound", lambda m: out(m, gemm(m, m.op("Clip", start(m, 3, 4), scalar(m, "Mul", barrier(m, m.x()), 2.0)))), Kept("barrier", "weight-not-constant")),
    ("maximum per channel", lambda m: out(m, m.bn(bounded(m, "Max", m.conv(start(m), 3), 3, 1, 1), gamma=1.0)), into("Conv", "Max")),
    ("minimum, constant first", lambda m: (lambda x: out(m, m.bn(m.op("Min", m.constant((3, 1, 1)), x), gamma=0.5)))(m.conv(start(m), 3)), into("Conv", "Min")),
    ("mixed signs through a maximum", lambda m: out(m, scaled(m, bounded(m, "Max", m.conv(start(m), 3), 3, 1, 1), 1.0, -1.0, 2.0)), Kept("clamp", "barrier")),
    ("through a minimum into a conv", lambda m: out(m, m.conv(bounded(m, "Min", m.bn(start(m), gamma=0.5), 4, 1, 1), 6)), into("Conv", "Min")),
    ("all turned around", lambda m: out(m, scaled(m, bounded(m, "Max", m.conv(start(m), 3), 3, 1, 1), -1.0, -0.5, -2.0)), Kept("clamp", "barrier")),
    ("maximum of activations", lambda m: (lambda x: out(m, m.bn(m.op("Max", m.conv(x, 4), m.conv(x, 4)))))(start(m)), Kept("barrier", "barrier")),
    ("maximum of three", lambda m: out(m, m.bn(m.op("Max", m.conv(start(m), 3), m.constant((3, 1, 1)), m.constant((1,))))), Kept("barrier", "barrier")),
    ("maximum that broadcasts", lambda m: out(m, m.bn(bounded(m, "Max", m.conv(start(m), 1), 3, 1, 1))), Kept("broadcast", "barrier")),
    ("maximum of higher rank", lambda m: out(m, m.op("Mul", bounded(m, "Max", m.conv(start(m), 3), 1, 1, 1, 1, 1), m.constant((1,)), name=SITE)), Kept("broadcast", "barrier")),
    ("maximum with nothing", lambda m: out(m, (lambda x: scalar(m, "Mul", m.op("Max", x, m.constant(np.full((3, 1, 1), np.nan)), like=x), 2.0))(m.conv(start(m), 3))), Kept("non-finite", "barrier")),
]  # fmt: skip
