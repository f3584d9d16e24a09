"""Random stacks of idioms, convolutions, products and normalizations in float32, as networks are built of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from tests.support.models import Model
from tests.support.ready import idioms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx

    from tests.support.models import Array

    _Step = Callable[[Model, str, st.DrawFn], str]

STEPS: dict[str, Callable[..., None]] = {}  # a stack is a graph of its own, and no step of the others

ACTIVATIONS = [writer for _, writer in idioms.ACTIVATIONS.values()]
LAYERS = [writer for name, (_, writer) in idioms.NORMALIZATIONS.items() if name != "group_norm"]
PRODUCTS = [writer for _, writer in idioms.PRODUCTS.values()]
WRITTEN_OUT = [writer for _, writer in idioms.WRITTEN_OUT.values()]
IMAGE = 4  # axes
NEW_OPSETS = (13, 17, 20, 21, 23, 24)  # from which on idioms become operators


def _convolution(m: Model, x: str, draw: st.DrawFn) -> str:
    channels = m.at(x).shape[1]
    kernel, group = draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, channels]))
    return m.conv(x, channels, kernel, draw(st.booleans()), group=group, pads=[kernel // 2] * 4)


def _affine(m: Model, x: str, draw: st.DrawFn, axis: int) -> str:
    op = draw(st.sampled_from(["Add", "Mul", "Sub", "Div"]))
    if draw(st.booleans()):
        return m.op(op, x, m.constant(np.array(draw(st.sampled_from([0.5, 2.0, 0.7])))))
    return m.per_channel(op, x, name="", axis=axis)


def _image_step(m: Model, x: str, draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(["conv", "conv", "bn", "bn", "activation", "activation", "relu", "norm", "affine"]))
    if kind == "conv":
        return _convolution(m, x, draw)
    if kind == "bn":
        return m.bn(x, name="")
    if kind == "activation":
        return draw(st.sampled_from(ACTIVATIONS))(m, x)
    if kind == "relu":
        return m.op("Relu", x)
    return idioms.group_norm(m, x) if kind == "norm" else _affine(m, x, draw, 1)


def _rows_step(m: Model, x: str, draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(["product", "product", "activation", "norm", "norm", "bn", "affine", "plain"]))
    if kind == "product":
        return draw(st.sampled_from(PRODUCTS))(m, x)
    if kind == "plain":
        return m.op("MatMul", x, m.constant((m.at(x).shape[-1],) * 2))
    if kind == "activation":
        return draw(st.sampled_from(ACTIVATIONS))(m, x)
    if kind == "norm":
        return draw(st.sampled_from(LAYERS))(m, x)
    if kind == "bn":
        return m.op("Transpose", m.bn(m.op("Transpose", x, perm=[0, 2, 1]), name=""), perm=[0, 2, 1])
    return _affine(m, x, draw, 2)


def _written_out(step: Callable[..., str]) -> Callable[..., str]:
    """The same steps, and now and then an operator written out."""

    def mixed(m: Model, x: str, draw: st.DrawFn) -> str:
        fits = [writer for writer in WRITTEN_OUT if m.at(x).ndim == IMAGE or "attention" not in writer.__name__]
        return draw(st.sampled_from(fits))(m, x) if draw(st.integers(0, 2)) == 0 else step(m, x, draw)

    return mixed


@st.composite
def fusible_stacks(draw: st.DrawFn) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The same for newer operator sets, with more to fuse."""
    return draw(stacks(NEW_OPSETS, _written_out))


@st.composite
def stacks(
    draw: st.DrawFn, opsets: Sequence[int] = (13, 17, 20), more: Callable[[_Step], _Step] = lambda step: step
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model and feeds for it; some steps are bridged by a residual sum. `more` changes how a step is drawn."""
    m = Model(opset=draw(st.sampled_from(opsets)), dtype=np.float32, seed=draw(st.integers(0, 2**16)), ir=10)
    images = draw(st.booleans())
    x = m.x(1, 4, 6, 6) if images else m.x(2, 6, 4)
    step = more(_image_step if images else _rows_step)
    for _ in range(draw(st.integers(2, 8))):
        y = step(m, x, draw)
        x = m.op("Add", x, y) if draw(st.integers(0, 3)) == 0 else y
    m.op("Identity", x)
    return m.build(), m.feeds
