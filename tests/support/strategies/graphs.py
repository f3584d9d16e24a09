"""Random graphs: every operator of RULES, barriers between them, residuals, branches and joins, several affines."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from tests.support import structures
from tests.support.models import Model
from tests.support.rows import row as rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from tests.support.models import Array

LARGEST = 4096  # elements of a value: a graph is evaluated in milliseconds


class Growing:
    """A graph that grows by drawn steps; `live` are the values a step may read."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.m = Model(opset=draw(st.sampled_from([13, 17, 23])), seed=draw(st.integers(0, 2**16)))
        self.live: list[str] = []

    def shape(self, x: str) -> tuple[int, ...]:
        return self.m.at(x).shape

    def one_of(self, *choices: object) -> object:
        return self.draw(st.sampled_from(choices))

    def pick(self, *ranks: int) -> str | None:
        """A live value of one of these ranks, the newest far more often than all others together."""
        fitting = [x for x in self.live if not ranks or self.m.at(x).ndim in ranks]
        if not fitting:
            return None
        return fitting[-1] if self.draw(st.integers(0, 5)) else self.draw(st.sampled_from(fitting))

    def add(self, x: str) -> None:
        if 0 < self.m.at(x).size <= LARGEST:
            self.live.append(x)

    def index(self, values: list[int]) -> str:
        return self.m.constant(np.array(values, np.int64))


def conv(g: Growing) -> None:
    x = g.pick(3, 4)
    if x is None:
        return
    channels, spatial = g.shape(x)[1], g.shape(x)[2:]
    group = g.one_of(*(n for n in (1, 2, channels) if channels % n == 0))
    kernel = [g.one_of(*(k for k in (1, 2, 3) if k <= n)) for n in spatial]
    padded = g.one_of(*("no", "no", "some", "SAME_UPPER", "SAME_LOWER", "VALID"))
    extra = {"pads": [g.one_of(0, 1) for _ in range(2 * len(spatial))]} if padded == "some" else {}
    extra |= {"auto_pad": padded} if padded.isupper() else {}
    strides = [g.one_of(1, 1, 2) for _ in spatial]
    outputs = group * g.one_of(1, 2, 3)
    g.add(g.m.conv(x, outputs, kernel, bias=g.one_of(True, False), group=group, strides=strides, **extra))


def conv_transpose(g: Growing) -> None:
    x = g.pick(3, 4)
    if x is None:
        return
    channels, spatial = g.shape(x)[1], g.shape(x)[2:]
    group = g.one_of(*(n for n in (1, 2, channels) if channels % n == 0))
    kernel = g.one_of(1, 1, 2, 3)
    strides = [g.one_of(1, 1, 2) for _ in spatial]
    pads = [g.one_of(0, 0, 1) if kernel > 2 else 0 for _ in range(2 * len(spatial))]
    if any(n == 1 for n in spatial):
        pads = [0] * len(pads)
    outputs = group * g.one_of(1, 2)
    g.add(g.m.conv_t(x, outputs, kernel, bias=g.one_of(True, False), group=group, strides=strides, pads=pads))


def batch_normalization(g: Growing) -> None:
    x = g.pick(2, 3, 4, 5)
    if x is not None:
        g.add(g.m.bn(x, name=f"bn{len(g.m.nodes)}"))


def elementwise(g: Growing) -> None:
    x = g.pick()
    if x is None:
        return
    op, shape = g.one_of("Add", "Mul", "Sub", "Div"), g.shape(x)
    varying = g.draw(st.lists(st.integers(0, len(shape) - 1), unique=True, max_size=1)) if shape else []
    varying = [1] if len(shape) > 1 and g.one_of(True, False) else varying
    constant = g.m.constant(tuple(n if axis in varying else 1 for axis, n in enumerate(shape)) or ())
    first = op != "Div" and g.one_of(True, False, False)
    g.add(g.m.op(op, *((constant, x) if first else (x, constant))))


def unary(op: str) -> Callable[[Growing], None]:
    def step(g: Growing) -> None:
        x = g.pick()
        if x is not None:
            g.add(g.m.op(op, x))

    return step


def join(g: Growing) -> None:
    """Add, Sub or Sum of two values of one shape, or of one that broadcasts."""
    x = g.pick()
    if x is None:
        return
    same = [y for y in g.live if y != x and _broadcasts(g.shape(y), g.shape(x))]
    if same:
        y = g.draw(st.sampled_from(same))
        g.add(g.m.op(g.one_of("Add", "Sub", "Sum"), *((x, y) if g.one_of(True, False) else (y, x))))


def _broadcasts(small: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a value of the shape `small` broadcasts to `shape`."""
    return len(small) <= len(shape) and all(m in (1, n) for m, n in zip(small[::-1], shape[::-1], strict=False))


def concat(g: Growing) -> None:
    x = g.pick(2, 3, 4)
    if x is None:
        return
    shape = g.shape(x)
    axis = g.one_of(1, *range(len(shape)))
    fits = [y for y in g.live if len(g.shape(y)) == len(shape)]
    fits = [y for y in fits if all(a == b or i == axis for i, (a, b) in enumerate(zip(shape, g.shape(y), strict=True)))]
    parts = [x, *g.draw(st.lists(st.sampled_from(fits), max_size=2))]
    g.add(g.m.op("Concat", *parts, axis=axis - g.one_of(0, len(shape))))


def transpose(g: Growing) -> None:
    x = g.pick()
    if x is not None and g.shape(x):
        order = g.draw(st.permutations(range(len(g.shape(x)))))
        g.add(g.m.op("Transpose", x, perm=list(order)))


def reshape(g: Growing) -> None:
    """Merge two neighbouring axes or split one."""
    x = g.pick()
    if x is None or not g.shape(x):
        return
    shape = list(g.shape(x))
    axis = g.draw(st.integers(0, len(shape) - 1))
    factors = [n for n in (2, 3) if shape[axis] % n == 0]
    if factors and len(shape) < 5 and g.one_of(True, False):
        n = g.one_of(*factors)
        target = [*shape[:axis], *g.one_of((n, shape[axis] // n), (shape[axis] // n, n)), *shape[axis + 1 :]]
    elif axis + 1 < len(shape):
        target = [*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]]
    else:
        return
    g.add(g.m.op("Reshape", x, g.index(target)))


def flatten(g: Growing) -> None:
    x = g.pick()
    if x is not None:
        g.add(g.m.op("Flatten", x, axis=g.draw(st.integers(-len(g.shape(x)), len(g.shape(x))))))


def unsqueeze(g: Growing) -> None:
    x = g.pick(1, 2, 3)
    if x is not None:
        rank = len(g.shape(x)) + 1
        g.add(g.m.op("Unsqueeze", x, g.index([g.draw(st.integers(-rank, rank - 1))])))


def squeeze(g: Growing) -> None:
    x = g.pick(2, 3, 4, 5)
    axes = [] if x is None else [axis for axis, n in enumerate(g.shape(x)) if n == 1]
    if axes:
        g.add(g.m.op("Squeeze", x, *([g.index([g.one_of(*axes)])] if g.one_of(True, False) else [])))


def matmul(g: Growing) -> None:
    x = g.pick(2, 3, 4)
    if x is None:
        return
    n = g.one_of(2, 3, 4)
    if g.one_of(True, True, False):
        g.add(g.m.op("MatMul", x, g.m.constant((g.shape(x)[-1], n))))
    else:
        g.add(g.m.op("MatMul", g.m.constant((n, g.shape(x)[-2])), x))


def gemm(g: Growing) -> None:
    x = g.pick(2)
    if x is None:
        return
    left = g.one_of(False, False, True)  # the constant on the left
    trans, n = [g.one_of(0, 1), g.one_of(0, 1)], g.one_of(2, 3, 4)
    rows, columns = g.shape(x)[:: -1 if trans[1 if left else 0] else 1]
    side = (n, rows) if left else (columns, n)
    w = g.m.constant(side[:: -1 if trans[0 if left else 1] else 1])
    result = (n, columns) if left else (rows, n)
    c = g.one_of(None, (), (1,), (result[1],), (1, result[1]), (result[0], 1), result)
    inputs = [*((w, x) if left else (x, w)), *([] if c is None else [g.m.constant(c)])]
    factors = {"alpha": g.one_of(1.0, 0.5), "beta": g.one_of(1.0, 1.0, -2.0, 0.0)}
    g.add(g.m.op("Gemm", *inputs, transA=trans[0], transB=trans[1], **factors))


# Every operator of RULES has a strategy (a test holds this); barriers keep moves from always reaching the ends.
STEPS: dict[str, Callable[[Growing], None]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "BatchNormalization": batch_normalization,
    "Add": elementwise,
    "Mul": elementwise,
    "Div": elementwise,
    "Neg": unary("Neg"),
    "Sub": join,
    "Sum": join,
    "Concat": concat,
    "Transpose": transpose,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Identity": unary("Identity"),
    "Dropout": unary("Dropout"),
    "Cast": lambda g: (x := g.pick()) and g.add(g.m.op("Cast", x, to=11)),
    "MatMul": matmul,
    "Gemm": gemm,
}
ABSORBERS = [conv, conv_transpose, gemm, matmul]
AFFINES = [batch_normalization, batch_normalization, elementwise]


def barrier(g: Growing) -> None:
    """An operator that nothing passes."""
    x = g.pick()
    if x is not None:
        g.add(rows.barrier(g.m, x))


def pair(g: Growing) -> None:
    """What folds are made of: an absorber and an affine, either first, perhaps with something in between."""
    steps = [g.one_of(*ABSORBERS), g.one_of(*AFFINES)]
    between = g.one_of(*([None] * (len(STEPS) // 2)), *STEPS.values())
    for step in [steps[0], between, steps[1]] if g.one_of(True, False) else [steps[1], between, steps[0]]:
        if step is not None:
            step(g)


# The families need what is above; they come before what chooses among all steps.
for _family in sorted(Path(__file__).parent.glob("[!_]*.py")):
    if _family.stem != "graphs":
        STEPS |= import_module(f"{__package__}.{_family.stem}").STEPS

# Pairs are drawn more often than anything else, and barriers between them keep one fold from swallowing the next.
WEIGHTED = [*STEPS.values(), *[pair] * 12, *[barrier] * 5]


@st.composite
def graphs(draw: st.DrawFn, steps: int = 12) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model in float64 and feeds for it."""
    g = Growing(draw)
    first = draw(st.sampled_from([(2, 4, 5, 6), (1, 6, 4), (3, 4), (2, 3, 4), (4, 4), (2, 2, 3, 3)]))
    g.add(rows.barrier(g.m, g.m.x(*first)))
    for step in draw(st.lists(st.sampled_from(WEIGHTED), min_size=4, max_size=steps)):
        step(g)
    if not g.m.nodes:
        g.add(g.m.op("Identity", g.live[0]))
    made = [x for x in g.live if any(x in node.output for node in g.m.nodes)]
    ends = draw(st.lists(st.sampled_from(made), max_size=1)) if made else []
    last = g.m.nodes[-1].output[0]
    outputs = list(dict.fromkeys([last, *ends]))
    assert all(math.isfinite(float(np.abs(g.m.at(o)).max(initial=0))) for o in outputs)
    return g.m.build(*outputs), g.m.feeds


@st.composite
def wrapped(draw: st.DrawFn) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A random graph in other clothes: in a body or a function, with Constant nodes, with open shapes."""
    model, feeds = draw(graphs(steps=8))
    names = [tensor.name for tensor in model.graph.initializer]
    some = [name for name in names if draw(st.booleans())] if draw(st.booleans()) else names
    clothes = draw(st.sampled_from(["branch", "loop", "function", "function", "constants", "sparse", "open"]))
    if draw(st.booleans()) and clothes != "branch":
        model = structures.with_open_shapes(model, {0} if draw(st.booleans()) else {0, 2, 3})
    if clothes == "branch":
        model = structures.in_branch(model, some)
    elif clothes == "loop":
        model = structures.in_loop(model, some)
    elif clothes == "function":
        resized = any(node.op_type == "Resize" for node in model.graph.node)  # the second call doubles its scales
        model = structures.in_function(model, some, calls=1 if resized else draw(st.integers(1, 2)))
    elif clothes in {"constants", "sparse"}:
        model = structures.with_constant_nodes(model, some, sparse=clothes == "sparse")
    return model, feeds
