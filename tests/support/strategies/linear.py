"""Steps of the random graphs for products, normalizations and activations that scale with their input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.strategies.graphs import Growing

# Equations of Einsum by the data's rank; the data is the first operand.
EQUATIONS = {
    1: ["i,ij->j", "i,ij->ji", "i,i", "i,j->ji"],
    2: ["ij,jk->ik", "ij,jk", "ij,kj->ki", "ij,ij->ij", "ij,jk->k", "ij,j->i", "ij,k->kij", "...j,jk->k...", "ij,i->j"],
    3: ["bij,jk->bik", "bij,bjk->bik", "bij,jk->bk", "bij,bj", "b i j, j k -> k b i", "...ij,kj->...ki", "bij,i->jb"],
    4: ["nchw,oc->nohw", "bhid,bhdj->bhij", "nchw,c->nchw", "nchw,wc->nh", "bhi...,hk->bik..."],
}  # fmt: skip
LEAST_DIVISOR = 0.1  # dividing by less makes values that drown all others


def einsum(g: Growing) -> None:
    x = g.pick(1, 2, 3, 4)
    if x is None:
        return
    shape = g.shape(x)
    equation = g.one_of(*EQUATIONS[len(shape)])
    terms, arrow, result = equation.replace(" ", "").partition("->")
    data, other = terms.split(",")
    before, _, after = data.partition("...")
    sizes = dict(zip(before, shape, strict=False)) | dict(zip(after[::-1], shape[::-1], strict=False))
    wanted = tuple(sizes.get(label) or g.one_of(2, 3) for label in other)
    fitting = [y for y in g.live if g.shape(y) == wanted]
    y = g.draw(st.sampled_from(fitting)) if fitting and g.one_of(True, False) else g.m.constant(wanted)
    if g.one_of(True, False):
        g.add(g.m.op("Einsum", x, y, equation=equation))
    else:
        g.add(g.m.op("Einsum", y, x, equation=f"{other},{data}{arrow}{result}"))


def matmul(g: Growing) -> None:
    """Vectors, batched constants and products of two values."""
    x = g.pick(1, 2, 3, 4)
    if x is None:
        return
    shape, n = g.shape(x), g.one_of(2, 3)
    sides = [(x, y) for y in g.live if _multiplies(shape, g.shape(y))]
    sides += [(y, x) for y in g.live if _multiplies(g.shape(y), shape)]
    if sides and g.one_of(True, False):
        g.add(g.m.op("MatMul", *g.draw(st.sampled_from(sides))))
    elif len(shape) == 1 or g.one_of(True, False):
        batch = g.one_of((), (2,) if len(shape) < 3 else shape[:-2], (1,) * (len(shape) - 2))
        g.add(g.m.op("MatMul", x, g.m.constant(g.one_of((shape[-1],), (*batch, shape[-1], n)))))
    else:
        g.add(g.m.op("MatMul", g.m.constant(g.one_of((shape[-2],), (*shape[:-2], n, shape[-2]))), x))


def _multiplies(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    if not one or not other or one[-1] != other[max(-2, -len(other))]:
        return False
    return all(m == n or 1 in (m, n) for m, n in zip(one[-3::-1], other[-3::-1], strict=False))


def gemm(g: Growing) -> None:
    """Of two values, either of which may be transposed."""
    x = g.pick(2)
    if x is None:
        return
    rows, inner = g.shape(x)[:: 1 if (first := g.one_of(0, 1)) == 0 else -1]
    fitting = [(y, trans) for y in g.live for trans in (0, 1) if len(g.shape(y)) == 2 and g.shape(y)[trans] == inner]
    if not fitting:
        return
    y, second = g.draw(st.sampled_from(fitting))
    columns = g.shape(y)[1 - second]
    bias = g.one_of(None, (1,), (columns,), (rows, 1), (rows, columns))
    c = [] if bias is None else [g.m.constant(bias)]
    same = [z for z in g.live if g.shape(z) == (columns,)]
    c = [g.draw(st.sampled_from(same))] if same and g.one_of(True, False) else c
    g.add(g.m.op("Gemm", x, y, *c, transA=first, transB=second, alpha=0.5, beta=g.one_of(1.0, -2.0, 0.0)))


def product(g: Growing) -> None:
    """Mul or Div of two values, or of one and a constant that broadcasts it."""
    x = g.pick()
    if x is None:
        return
    fitting = [y for y in g.live if y != x and _multiplied(g.shape(x), g.shape(y))]
    y = g.draw(st.sampled_from([*fitting, *fitting[-2:], g.m.constant((2, *g.shape(x)))]))
    one, other = (x, y) if g.one_of(True, False) else (y, x)
    divides = g.one_of(True, False) and np.abs(g.m.at(other)).min(initial=1) >= LEAST_DIVISOR
    g.add(g.m.op("Div" if divides else "Mul", one, other))


def _multiplied(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(one[::-1], other[::-1], strict=False))


def mean(g: Growing) -> None:
    x = g.pick()
    if x is not None:
        fitting = [y for y in g.live if g.shape(y) == g.shape(x) or not g.shape(y)]
        others = g.draw(st.lists(st.sampled_from(fitting), max_size=2, unique=True))
        g.add(g.m.op("Mean", x, *(y for y in others if y != x)))


def instance_normalization(g: Growing) -> None:
    x = g.pick(3, 4)
    if x is not None:
        c = (g.shape(x)[1],)
        g.add(g.m.op("InstanceNormalization", x, g.m.constant(c), g.m.constant(c), epsilon=0.1))


def training(g: Growing) -> None:
    """A BatchNormalization that normalizes by the statistics of its own input."""
    x = g.pick(2, 3, 4)
    if x is not None and g.m.opset >= 14:
        g.add(g.m.bn(x, name=f"bn{len(g.m.nodes)}", outputs=3, training_mode=1, epsilon=0.1))


def normalized_constant(g: Growing) -> None:
    """A sum or product with a constant that a normalization makes, as of standardized weights."""
    x = g.pick(2, 3, 4)
    if x is not None:
        mode = {"outputs": 3, "training_mode": 1} if g.m.opset >= 14 and g.one_of(True, False) else {}
        made = g.m.bn(g.m.constant(g.shape(x)), name=f"constant_bn{len(g.m.nodes)}", epsilon=0.1, **mode)
        g.add(g.m.op(g.one_of("Add", "Mul", "Sub"), x, made))


def group_normalization(g: Growing) -> None:
    x = g.pick(3, 4)
    if x is not None and g.m.opset >= 21:
        c = g.shape(x)[1]
        groups = g.one_of(*(n for n in (1, 2, c) if c % n == 0))
        scale, bias = g.m.constant((c,)), g.m.constant((c,))
        g.add(g.m.op("GroupNormalization", x, scale, bias, num_groups=groups, epsilon=0.1))


def over_last_axes(op: str, since: int) -> Callable[[Growing], None]:
    def step(g: Growing) -> None:
        x = g.pick(1, 2, 3, 4)
        if x is None or g.m.opset < since:
            return
        shape = g.shape(x)
        axis = g.draw(st.integers(-len(shape), -1))
        scales = g.one_of(0, 0, 1) if op == "LayerNormalization" else 0  # how many biases
        parameters = [_part(g, shape[axis:]) for _ in range(1 + scales)]
        g.add(g.m.op(op, x, *map(g.m.constant, parameters), axis=axis + g.one_of(0, len(shape)), epsilon=0.1))

    return step


def _part(g: Growing, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts to this one; mostly itself."""
    return g.one_of(shape, shape, shape[1:], (1, *shape[1:]))


def deform_conv(g: Growing) -> None:
    x = g.pick(4)
    if x is None or g.m.opset < 19 or min(g.shape(x)[2:]) < 2:
        return
    n, c, *size = g.shape(x)
    group = g.one_of(*(n for n in (1, c) if c % n == 0))
    w, outputs = g.m.constant((2 * group, c // group, 2, 2)), [size[0] - 1, size[1] - 1]
    offset = g.m.constant((n, 8, *outputs))
    bias = [g.m.constant((2 * group,))] if g.one_of(True, False) else []
    g.add(g.m.op("DeformConv", x, w, offset, *bias, group=group))


def scaling(op: str) -> Callable[[Growing], None]:
    """An activation, often with a positive factor on one side: what folds."""

    def step(g: Growing) -> None:
        x = g.pick()
        if x is None:
            return
        shape, n = g.shape(x), g.m.at(x).ndim
        factor = g.m.constant(g.m.random.uniform(0.5, 2, (shape[1], *(1,) * (n - 2)) if n > 1 else ()))
        slope = [g.m.constant(shape[1:] if n > 1 else (1,))] if op == "PRelu" else []
        side = g.one_of("none", "before", "after")
        x = g.m.op("Mul", x, factor) if side == "before" else x
        x = g.m.op(op, x, *slope)
        g.add(g.m.op("Mul", x, factor) if side == "after" else x)

    return step


STEPS: dict[str, Callable[[Growing], None]] = {
    "Einsum": einsum,
    "MatMul of values": matmul,
    "Gemm of values": gemm,
    "Mul of values": product,
    "Mean": mean,
    "BatchNormalization in training mode": training,
    "BatchNormalization of a constant": normalized_constant,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "LayerNormalization": over_last_axes("LayerNormalization", 17),
    "RMSNormalization": over_last_axes("RMSNormalization", 23),
    "DeformConv": deform_conv,
    "LeakyRelu": scaling("LeakyRelu"),
    "PRelu": scaling("PRelu"),
    "Abs": scaling("Abs"),
}
