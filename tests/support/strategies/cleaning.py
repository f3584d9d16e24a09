"""Random graphs full of what cleaning removes: no-ops, shape arithmetic, repeated parts, known branches, dead ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

OPSETS = (11, 13, 17, 21)
LARGEST = 512  # elements of a value
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
STEPS: dict[str, Callable[..., None]] = {}  # a graph of its own, and no step of the others


class Messy:
    """A graph that grows by drawn steps; the shape of each float32 value for the sample is known."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.opset = draw(st.sampled_from(OPSETS))
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.number = 0

    def name(self) -> str:
        self.number += 1
        return f"v{self.number}"

    def const(self, values: object, dtype: object = np.int64) -> str:
        """An initializer, or a Constant node."""
        name, array = self.name(), np.array(values, dtype)
        if self.draw(st.booleans()):
            self.tensors.append(numpy_helper.from_array(array, name))
        else:
            self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        return name

    def op(self, op: str, *inputs: str, shape: tuple[int, ...] | None = None, **attributes: object) -> str:
        output = self.name()
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        if shape is not None:
            self.shapes[output] = shape
        return output

    def pick(self, rank: int | None = None) -> str | None:
        live = [name for name, shape in self.shapes.items() if rank is None or len(shape) == rank]
        if not live:
            return None
        return live[-1] if self.draw(st.integers(0, 3)) else self.draw(st.sampled_from(live))

    def one_of(self, *choices: object) -> object:
        return self.draw(st.sampled_from(choices))

    def axes(self, op: str, x: str, axes: list[int], shape: tuple[int, ...]) -> str:
        if self.opset >= 13:
            return self.op(op, x, self.const(axes), shape=shape)
        return self.op(op, x, axes=axes, shape=shape)

    def sizes(self, x: str, target: list[int]) -> str:
        """A target as exporters compute it: lengths of `x` by Shape and Gather, numbers, joined."""
        shape, parts = self.shapes[x], []
        for place, size in enumerate(target):
            if place < len(shape) and shape[place] == size and self.draw(st.booleans()):
                gathered = self.op("Gather", self.op("Shape", x), self.const(place))
                parts.append(self.axes("Unsqueeze", gathered, [0], ()))
                del self.shapes[parts[-1]]
            else:
                parts.append(self.const([size]))
        return self.op("Concat", *parts, axis=0) if parts else self.const(target)


def step(function: Callable[[Messy, str, tuple[int, ...]], None]) -> Callable[[Messy, str, tuple[int, ...]], None]:
    CHOICES.append(function)
    return function


CHOICES: list[Callable[[Messy, str, tuple[int, ...]], None]] = []


@step
def unary(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    m.op(m.one_of("Identity", "Relu", "Neg", "Dropout", "Sigmoid", "Identity", "Abs"), x, shape=shape)


@step
def neutral(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    op, value = m.one_of(("Mul", 1.0), ("Div", 1.0), ("Add", -0.0), ("Add", 0.0), ("Sub", 0.0), ("Mul", 2.0))
    ones = [1] * m.one_of(0, 1, len(shape), len(shape) + 1)
    rank = max(len(ones), len(shape))
    m.op(op, x, m.const(np.full(ones, value), np.float32), shape=(1,) * (rank - len(shape)) + shape)


@step
def cast(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    middle = m.one_of(TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.FLOAT16)
    y = m.op("Cast", x, to=middle)
    m.op("Cast", y, to=FLOAT, shape=shape)


@step
def reshape(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    size = int(np.prod(shape))
    divisors = [n for n in range(1, size + 1) if size % n == 0]
    first = m.one_of(*divisors)
    target = m.one_of(
        [size], [first, size // first], [1, first, size // first], list(shape), [*shape[::-1]], [*shape, 1]
    )
    written = [-1 if i == m.one_of(0, 1, 2, 9) else n for i, n in enumerate(target)]
    written = target if written.count(-1) > 1 else written
    places = m.const(written) if m.draw(st.booleans()) else m.sizes(x, target)
    m.op("Reshape", x, places, shape=tuple(target))


@step
def flatten(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    axis = m.one_of(*range(len(shape) + 1))
    m.op("Flatten", x, axis=axis, shape=(int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))))


@step
def squeeze(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    ones = [axis for axis, n in enumerate(shape) if n == 1]
    if ones and m.draw(st.booleans()):
        m.axes("Squeeze", x, ones[:1], shape[: ones[0]] + shape[ones[0] + 1 :])
    elif len(shape) < 5:
        axis = m.one_of(*range(len(shape) + 1))
        m.axes("Unsqueeze", x, [axis], (*shape[:axis], 1, *shape[axis:]))


@step
def transpose(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    perm = m.draw(st.permutations(range(len(shape))))
    y = m.op("Transpose", x, perm=perm, shape=tuple(shape[axis] for axis in perm))
    if m.draw(st.booleans()):
        z = m.op(m.one_of("Relu", "Neg", "Exp"), y, shape=m.shapes[y])
        back = [perm.index(axis) for axis in range(len(perm))]
        m.op("Transpose", z, perm=back, shape=shape)


@step
def pad(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    pads = [m.one_of(0, 0, 0, 1) for _ in range(2 * len(shape))]
    padded = tuple(n + pads[i] + pads[i + len(shape)] for i, n in enumerate(shape))
    m.op("Pad", x, m.const(pads), m.const(m.one_of(0.0, 0.0, 1.0), np.float32), shape=padded)


@step
def cut(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    if not shape:
        return
    axis = m.one_of(*range(len(shape)))
    start, end = m.one_of((0, shape[axis]), (0, 2**31 - 1), (-shape[axis], 2**63 - 1), (0, 1), (-1, shape[axis]))
    length = len(range(*slice(start, end).indices(shape[axis])))
    taken = (*shape[:axis], length, *shape[axis + 1 :])
    m.op("Slice", x, m.const([start]), m.const([end]), m.const([axis]), shape=taken)


@step
def join(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    if shape:
        axis, count = m.one_of(*range(len(shape))), m.one_of(1, 1, 2, 3)
        joined = (*shape[:axis], count * shape[axis], *shape[axis + 1 :])
        m.op("Concat", *[x] * count, axis=axis, shape=joined)


@step
def twice(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    op = m.one_of("Sigmoid", "Exp", "Tanh")
    m.op("Add", m.op(op, x, shape=shape), m.op(op, x, shape=shape), shape=shape)


@step
def clamp(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    low, high = m.one_of((0.0, 6.0), (-1.0, 1.0), (0.5, 0.75))
    m.op("Clip", x, m.const(low, np.float32), m.const(high, np.float32), shape=shape)


@step
def expand(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    target = m.one_of([1] * len(shape), list(shape), [2, *shape])
    m.op("Expand", x, m.const(target), shape=np.broadcast_shapes(shape, tuple(target)))


@step
def where(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    condition = m.const(np.full([1] * len(shape), m.one_of(True, False)), np.bool_)
    m.op("Where", condition, x, m.op("Neg", x, shape=shape), shape=shape)


@step
def reduce(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    ones = [axis for axis, n in enumerate(shape) if n == 1]
    if m.opset < 18 and ones:
        m.op(m.one_of("ReduceMean", "ReduceMax", "ReduceL1"), x, axes=ones, keepdims=1, shape=shape)


@step
def convolve(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    if len(shape) == 4 and min(shape) > 1:
        pads = [0, 0, *(m.one_of(0, 1) for _ in range(2)), 0, 0, *(m.one_of(0, 1) for _ in range(2))]
        padded = tuple(n + pads[i] + pads[i + 4] for i, n in enumerate(shape))
        y = m.op("Pad", x, m.const(pads), shape=padded)
        small = (*padded[:2], padded[2] - 1, padded[3] - 1)
        if m.draw(st.booleans()):
            m.op("AveragePool", y, kernel_shape=[2, 2], count_include_pad=m.one_of(0, 1), shape=small)
        else:
            weight = np.random.default_rng(m.number).standard_normal((2, shape[1], 2, 2))
            m.op("Conv", y, m.const(weight, np.float32), shape=(shape[0], 2, *small[2:]))


@step
def constant_arithmetic(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    y = m.op("Sqrt", m.op("Add", m.const([0.5], np.float32), m.const(m.one_of(0.25, np.inf), np.float32)))
    if shape:
        m.op("Min", x, y, shape=shape)


@step
def branch(m: Messy, x: str, shape: tuple[int, ...]) -> None:
    bodies = []
    for op in ("Relu", "Neg"):
        inner, result = m.name(), m.name()
        nodes = [helper.make_node("Identity", [x], [inner]), helper.make_node(op, [inner], [result])]
        value = helper.make_tensor_value_info(result, FLOAT, [None] * len(shape))
        bodies.append(helper.make_graph(nodes, op, [], [value]))
    if m.draw(st.booleans()):
        condition = m.const(m.one_of(True, False), np.bool_)
    else:
        flat = m.op("ReduceMax", x, keepdims=0)
        condition = m.op("Greater", flat, m.const(0.5, np.float32))
    m.op("If", condition, then_branch=bodies[0], else_branch=bodies[1], shape=shape)


@st.composite
def messes(draw: st.DrawFn) -> onnx.ModelProto:
    """A model, with an open first length of 2 or without; some values besides the last are outputs."""
    m = Messy(draw)
    shape = draw(st.sampled_from([(2, 3), (2, 1, 4), (2, 3, 4, 4), (2, 1, 1, 3)]))
    m.shapes["x"] = shape
    declared = [draw(st.sampled_from(["N", 2])), *shape[1:]]
    for _ in range(draw(st.integers(2, 10))):
        x = m.pick()
        if x is not None:
            draw(st.sampled_from(CHOICES))(m, x, m.shapes[x])
        m.shapes = {name: s for name, s in m.shapes.items() if 0 < np.prod(s) <= LARGEST and len(s) < 6}
    live = [name for name in m.shapes if name != "x"]
    outputs = dict.fromkeys([*live[-1:], *draw(st.lists(st.sampled_from(live), max_size=2))]) if live else {}
    if not outputs:
        outputs = {m.op("Relu", "x", shape=shape): None}
    values = [helper.make_tensor_value_info(o, FLOAT, [None] * len(m.shapes[o])) for o in outputs]
    given = [helper.make_tensor_value_info("x", FLOAT, declared)]
    graph = helper.make_graph(m.nodes, "messy", given, values, m.tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", m.opset)], ir_version=8)
