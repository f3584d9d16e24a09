"""Rows of clamps with ``--clamp always``: Relu and Clip may become Max and Min with a bound per channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding import Options
from tests.support.rows.clamps import clip, scaled
from tests.support.rows.row import Kept, gemm, into, out, start

if TYPE_CHECKING:
    from tests.support.models import Model
    from tests.support.rows.row import Row

OPTIONS = Options(verify=False, clamp="always")


def bn_relu(m: Model, x: str, **kind: float) -> str:
    return m.op("Relu", m.bn(x, **kind))


def two_convs(m: Model) -> None:
    y = bn_relu(m, start(m), gamma=1.0)
    m.op("Concat", out(m, m.conv(y, 6)), out(m, m.conv(y, 3)), axis=1)


ROWS: list[Row] = [
    ("always: conv, relu, bn", lambda m: out(m, m.bn(m.op("Relu", m.conv(start(m), 3)), gamma=1.0)), into("Conv", "Max", direction="backward", left=4)),
    ("always: conv, relu, bn of mixed signs", lambda m: out(m, m.bn(m.op("Relu", m.conv(start(m), 3)), gamma=(-1.0, 2.0, 0.5))), into("Conv", "Max", left=5)),
    ("always: conv, relu, bn with dead channels", lambda m: out(m, m.bn(m.op("Relu", m.conv(start(m), 3)), gamma=(0.0, 2.0, -0.5))), into("Conv", "Max", left=5)),
    ("always: relu, bn, all dead", lambda m: out(m, m.bn(m.op("Relu", m.conv(start(m), 3)), gamma=0.0)), into("Conv", "Max", left=4)),
    ("always: bn, relu, conv", lambda m: out(m, m.conv(bn_relu(m, start(m), gamma=1.0), 6)), into("Conv", "Max", direction="forward", left=4)),
    ("always: bn, relu, conv of mixed signs", lambda m: out(m, m.conv(bn_relu(m, start(m), gamma=(1.0, -2.0, 0.5, -0.5)), 6)), into("Conv", "Max", direction="forward", left=5)),
    ("always: bn, relu, conv with dead channels", lambda m: out(m, m.conv(bn_relu(m, start(m), gamma=(1.0, 0.0, 0.0, 2.0)), 6)), into("Conv", "Max", left=4)),
    ("always: bn, relu, padded conv", lambda m: out(m, m.conv(bn_relu(m, start(m), gamma=1.0), 6, pads=[1] * 4)), into("Conv", status="split", left=5)),
    ("always: bn, relu, two convs", two_convs, into("Conv", "Conv", "Max")),
    ("always: bn, relu, gemm", lambda m: out(m, gemm(m, bn_relu(m, start(m, 3, 4), gamma=0.5))), into("Gemm", "Max")),
    ("always: bn, clip, conv", lambda m: out(m, m.conv(clip(m, m.bn(start(m), gamma=0.5), 0.0, 6.0), 6)), into("Conv", "Max", left=5)),
    ("always: bn, clip from above, conv", lambda m: out(m, m.conv(clip(m, m.bn(start(m), gamma=0.5), None, 0.5), 6)), into("Conv", "Min", left=4)),
    ("always: a scale alone costs two operators", lambda m: out(m, scaled(m, m.op("Relu", m.conv(start(m), 3)), 1.5, -0.5, 2.0)), Kept("no-gain", "barrier")),
    ("always: all turned around", lambda m: out(m, scaled(m, m.op("Relu", m.conv(start(m), 3)), -1.5, -0.5, -2.0)), into("Conv", "Clip", left=4)),
]  # fmt: skip
