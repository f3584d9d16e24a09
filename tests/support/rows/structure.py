"""Rows of what surrounds an affine: computed constants, channels last, shapes that are computed, odd names and widths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.support.models import SITE, Model
from tests.support.rows.row import Kept, Row, into, out, start

if TYPE_CHECKING:
    from collections.abc import Callable


def positive(m: Model, *shape: int) -> str:
    return m.constant(m.random.uniform(0.5, 1.5, shape))


def index(m: Model, *values: int) -> str:
    return m.constant(np.array(values, np.int64))


def scaled_by(make: Callable[[Model], str]) -> Callable[[Model], None]:
    """A convolution with 6 outputs, multiplied by a constant that operators make."""

    def build(m: Model) -> None:
        out(m, m.op("Mul", m.conv(start(m), 6), make(m), name=SITE))

    return build


def normalized_by_hand(m: Model) -> None:
    """A BatchNormalization as compilers write it: one scale and one shift, computed."""
    gamma, beta, mean, var = (positive(m, 6, 1, 1) for _ in range(4))
    root = m.op("Pow", m.op("Add", var, m.constant(np.array(1e-5))), m.constant(np.array(-0.5)))
    scale = m.op("Mul", gamma, root)
    y = m.op("Mul", m.conv(start(m), 6), scale, name=SITE)
    out(m, m.op("Add", y, m.op("Sub", beta, m.op("Mul", mean, scale))))


def weight_norm(m: Model) -> None:
    """torch.nn.utils.weight_norm, not removed before the export."""
    v, g = m.constant((6, 4, 3, 3)), positive(m, 6, 1, 1, 1)
    norm = m.op("Sqrt", m.op("ReduceSumSquare", v, **axes(m, 1, 2, 3)))
    out(m, m.bn(m.op("Conv", start(m), m.op("Mul", m.op("Div", v, norm), g))))


def axes(m: Model, *values: int) -> dict[str, list[int]]:
    return {"axes": list(values)} if m.opset < 18 else {}


def standardized(m: Model) -> None:
    """Weight standardization: the mean of every filter is taken away."""
    v = m.constant((6, 4 * 9))
    centred = m.op("Sub", v, m.op("MatMul", v, m.constant(np.full((36, 36), 1 / 36))))
    out(m, m.bn(m.op("Conv", start(m), m.op("Reshape", centred, index(m, 6, 4, 3, 3)))))


def joined_weights(m: Model) -> None:
    w = m.op("Concat", m.constant((2, 4, 3, 3)), m.constant((4, 4, 3, 3)), axis=0)
    b = m.op("Concat", m.constant((2,)), m.constant((4,)), axis=0)
    out(m, m.bn(m.op("Conv", start(m), w, b)))


def one_part_of_a_split(m: Model) -> None:
    m.op("Split", positive(m, 9, 1, 1), index(m, 3, 6), outputs=2, axis=0)
    part = m.nodes[-1].output[1]
    out(m, m.op("Mul", m.conv(start(m), 6), part, name=SITE))


def by_its_own_shape(m: Model) -> None:
    """A scalar expanded to the shape of what it scales."""
    y = m.conv(start(m), 6)
    out(m, m.op("Mul", y, m.op("Expand", m.constant(np.array(1.5)), m.op("Shape", y)), name=SITE))


def channels_last(m: Model) -> None:
    """What TensorFlow's exporters write: the convolution alone has its channels in the middle."""
    x = m.op("Transpose", start(m, 2, 5, 6, 4), perm=[0, 3, 1, 2])
    y = m.op("Transpose", m.conv(x, 6), perm=[0, 2, 3, 1])
    y = m.op("Mul", y, m.constant((6,)), name=SITE)
    out(m, m.op("Add", y, m.constant((6,))))


def channels_last_forward(m: Model) -> None:
    y = m.op("Mul", start(m, 2, 5, 6, 4), m.constant((4,)), name=SITE)
    out(m, m.conv(m.op("Transpose", y, perm=[0, 3, 1, 2]), 6))


def computed_shape(m: Model, declare: list[int | str]) -> str:
    """Conv, then (N, C, H, W) -> (N, C, H*W) with the sizes read from the value itself."""
    x = m.conv(start(m, 2, 4, 5, 6, declare=declare), 6)
    sizes = [m.op("Gather", m.op("Shape", x), m.constant(np.array(i))) for i in range(2)]
    flat = m.constant(np.array([-1]))
    return m.op("Reshape", x, m.op("Concat", *(m.op("Unsqueeze", n, index(m, 0)) for n in sizes), flat, axis=0))


def sliced_shape(m: Model, declare: list[int | str]) -> str:
    x = m.conv(start(m, 2, 4, 5, 6, declare=declare), 6)
    first = m.op("Slice", m.op("Shape", x), index(m, 0), index(m, 2), index(m, 0))
    half = m.op("Div", m.op("Slice", m.op("Shape", x), index(m, 2), index(m, 3)), index(m, 1))
    last = m.op("Cast", m.op("Sub", m.op("Mul", index(m, 3), index(m, 2)), index(m, 2)), to=7)
    return m.op("Reshape", x, m.op("Concat", first, half, last, axis=0))


def no_channels(m: Model) -> None:
    """A normalization of width 0."""
    m.op("Asinh", m.bn(m.x(2, 0, 3)))


ROWS: list[Row] = [
    ("a scale that is a power", normalized_by_hand, into("Conv", left=3)),
    ("weight norm", weight_norm, into("Conv", left=3)),
    (
        "weights that are computed are no constants where a product is large",
        standardized,
        Kept("weight-not-constant", "barrier"),
    ),
    ("joined weights", joined_weights, into("Conv", left=3)),
    ("the second part of a split constant", one_part_of_a_split, into("Conv", left=3)),
    ("a scale of the value's own shape", by_its_own_shape, into("Conv", left=3)),
    ("e to a constant", scaled_by(lambda m: m.op("Exp", m.constant((6, 1, 1)))), into("Conv", left=3)),
    (
        "a larger or a smaller one",
        scaled_by(lambda m: m.op("Max", positive(m, 6, 1, 1), m.constant(np.array(0.7)))),
        into("Conv", left=3),
    ),
    ("sizes without a sign", scaled_by(lambda m: m.op("Abs", m.constant((6, 1, 1)))), into("Conv", left=3)),
    (
        "parts of a table",
        scaled_by(lambda m: m.op("Slice", positive(m, 8, 1, 1), index(m, 1), index(m, 7))),
        into("Conv", left=3),
    ),
    (
        "chosen from a table",
        scaled_by(lambda m: m.op("Gather", positive(m, 3, 1, 1), index(m, 0, 2, 1, 0, 1, 2))),
        into("Conv", left=3),
    ),
    (
        "chosen where",
        scaled_by(lambda m: m.op("Where", m.constant(np.array([[[True]]] * 6)), positive(m, 6, 1, 1), positive(m))),
        into("Conv", left=3),
    ),
    ("written out", scaled_by(lambda m: m.op("Expand", positive(m, 1, 1), index(m, 6, 1, 1))), into("Conv", left=3)),
    ("repeated", scaled_by(lambda m: m.op("Tile", positive(m, 2, 1, 1), index(m, 3, 1, 1))), into("Conv", left=3)),
    ("channels last", channels_last, into("Conv")),
    ("channels last, forward", channels_last_forward, into("Conv", direction="forward")),
    ("a computed shape", lambda m: out(m, m.bn(computed_shape(m, [2, 4, 5, 6]))), into("Conv")),
    ("a computed shape, any batch", lambda m: out(m, m.bn(computed_shape(m, ["N", 4, 5, 6]))), into("Conv")),
    ("a computed shape, any size", lambda m: out(m, m.bn(computed_shape(m, ["N", 4, "H", "W"]))), into("Conv")),
    ("a sliced shape", lambda m: out(m, m.bn(sliced_shape(m, [2, 4, 5, 6]))), into("Conv")),
    ("a sliced shape, any batch", lambda m: out(m, m.bn(sliced_shape(m, ["N", 4, 5, 6]))), into("Conv")),
    ("no channels", no_channels, Kept("parameters", "parameters")),
]
