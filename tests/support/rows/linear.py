"""Rows of the rules for products, normalizations, means, products of activations and activations that scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.support.models import SITE, Model
from tests.support.rows.row import Kept, barrier, gemm, into, out, since, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.rows.row import Row


def affine(m: Model, op: str, x: str, *shape: int) -> str:
    """The site, with a constant of this shape."""
    return m.op(op, x, m.constant(shape), name=SITE)


# --- normalizations --------------------------------------------------------------------------------------


def instance(m: Model, x: str) -> str:
    c = m.at(x).shape[1]
    return m.op("InstanceNormalization", x, m.constant((c,)), m.constant((c,)), epsilon=0.1)


def group(m: Model, x: str, groups: int = 2) -> str:
    c = m.at(x).shape[1]
    return m.op("GroupNormalization", x, m.constant((c,)), m.constant((c,)), num_groups=groups, epsilon=0.1)


def layer(m: Model, x: str, scale: tuple[int, ...], bias: tuple[int, ...] | None = None, axis: int = -1) -> str:
    parameters = [m.constant(shape) for shape in (scale, bias) if shape is not None]
    return m.op("LayerNormalization", x, *parameters, axis=axis, epsilon=0.1)


def rms(m: Model, x: str, scale: tuple[int, ...], axis: int = -1) -> str:
    return m.op("RMSNormalization", x, m.constant(scale), axis=axis, epsilon=0.1)


def by_groups(m: Model, op: str) -> str:
    """An affine of 4 channels in two groups of equal ones."""
    return m.op(op, start(m), m.constant(np.array([2.0, 2, -3, -3]).reshape(4, 1, 1)), name=SITE)


def computed_scale(m: Model, op: str, **attributes: Any) -> None:
    out(m, m.bn(m.op(op, start(m, 2, 4, 5), m.x(4), m.constant((4,)), **attributes)))


INSTANCE: list[Row] = [
    ("instance normalization", lambda m: out(m, m.bn(instance(m, start(m)))), into("InstanceNormalization", direction="backward")),
    ("instance normalization, scalar", lambda m: out(m, affine(m, "Mul", instance(m, start(m)))), into("InstanceNormalization")),
    ("instance normalization, shift", lambda m: out(m, m.per_channel("Sub", instance(m, start(m)))), into("InstanceNormalization")),
    ("instance normalization, rows", lambda m: out(m, m.per_channel("Mul", instance(m, start(m, 2, 4, 4, 6)), axis=2)), Kept("axis", "barrier")),
    ("instance normalization, computed scale", lambda m: computed_scale(m, "InstanceNormalization"), Kept("weight-not-constant", "barrier")),
    ("instance normalization, computed bias", lambda m: out(m, m.bn(m.op("InstanceNormalization", start(m), m.constant((4,)), m.x(4)))), Kept("weight-not-constant", "barrier")),
    ("shift before instance normalization", lambda m: out(m, instance(m, m.per_channel("Add", start(m)))), into("InstanceNormalization", direction="forward")),
    ("shift of each instance", lambda m: out(m, instance(m, affine(m, "Add", start(m), 2, 4, 1, 1))), into("InstanceNormalization")),
    ("shift within an instance", lambda m: out(m, instance(m, m.per_channel("Add", start(m), axis=2))), Kept("barrier", "axis")),
    ("before instance normalization", lambda m: out(m, instance(m, m.bn(start(m)))), into("InstanceNormalization", status="split")),
    ("scale before instance normalization", lambda m: out(m, instance(m, m.per_channel("Mul", start(m)))), Kept("barrier", "epsilon")),
    ("as instance normalization's bias", lambda m: out(m, m.op("InstanceNormalization", start(m), m.constant((4,)), affine(m, "Add", barrier(m, m.x(4)), 4))), Kept("barrier", "not-data-input")),
]  # fmt: skip

GROUP: list[Row] = [
    (name, since(21, build), expected)
    for name, build, expected in [
        ("group normalization", lambda m: out(m, m.bn(group(m, start(m)))), into("GroupNormalization", direction="backward")),
        ("group normalization, rows", lambda m: out(m, m.per_channel("Mul", group(m, start(m, 2, 4, 4, 6)), axis=2)), Kept("axis", "barrier")),
        ("group normalization, computed scale", lambda m: computed_scale(m, "GroupNormalization", num_groups=2), Kept("weight-not-constant", "barrier")),
        ("shift of each group", lambda m: out(m, group(m, by_groups(m, "Add"))), into("GroupNormalization", direction="forward")),
        ("shift of each group and instance", lambda m: out(m, group(m, affine(m, "Add", start(m), 2, 4, 1, 1), 4)), into("GroupNormalization")),
        ("one shift for all groups", lambda m: out(m, group(m, affine(m, "Sub", start(m)))), into("GroupNormalization")),
        ("shift within a group", lambda m: out(m, group(m, m.per_channel("Add", start(m)))), Kept("barrier", "axis")),
        ("shift of the rows of groups", lambda m: out(m, group(m, m.per_channel("Add", start(m), axis=2))), Kept("barrier", "axis")),
        ("scale of each group", lambda m: out(m, group(m, by_groups(m, "Mul"))), Kept("barrier", "epsilon")),
        ("as group normalization's scale", lambda m: out(m, m.op("GroupNormalization", start(m), affine(m, "Add", barrier(m, m.x(4)), 4), m.constant((4,)), num_groups=1)), Kept("barrier", "not-data-input")),
    ]
]  # fmt: skip

LAYER: list[Row] = [
    (name, since(17, build), expected)
    for name, build, expected in [
        ("layer normalization", lambda m: out(m, m.bn(layer(m, start(m, 3, 4), (4,), (4,)))), into("LayerNormalization", direction="backward")),
        ("layer normalization without bias", lambda m: out(m, m.bn(layer(m, start(m, 3, 4), (4,)))), into("LayerNormalization")),
        ("scale after layer normalization without bias", lambda m: out(m, affine(m, "Mul", layer(m, start(m, 3, 4), (4,)), 4)), into("LayerNormalization", left=3)),
        ("shift after layer normalization", lambda m: out(m, affine(m, "Add", layer(m, start(m, 3, 4), (1,), (1,)), 4)), into("LayerNormalization")),
        ("layer normalization, one scale for all", lambda m: out(m, m.bn(layer(m, start(m, 3, 4), (), (1,)))), into("LayerNormalization")),
        ("layer normalization of two axes", lambda m: out(m, m.bn(layer(m, start(m, 2, 3, 4), (3, 4), (4,), axis=1))), into("LayerNormalization")),
        ("layer normalization, parameters grow", lambda m: out(m, m.bn(layer(m, start(m, 2, 3, 4), (4,), axis=-2))), into("LayerNormalization")),
        ("layer normalization, every position", lambda m: out(m, affine(m, "Mul", layer(m, start(m, 2, 3, 4), (1, 4), (3, 1), axis=1), 3, 4)), into("LayerNormalization")),
        ("layer normalization, parameters of full rank", lambda m: out(m, affine(m, "Sub", layer(m, start(m, 2, 3, 4), (1, 1, 4), (1, 3, 1), axis=1), 4)), into("LayerNormalization")),
        ("layer normalization, scale of what is not normalized", lambda m: out(m, m.bn(layer(m, start(m, 2, 3, 4), (3, 1)))), into("LayerNormalization")),
        ("layer normalization, scale of a later axis that is not normalized", lambda m: out(m, affine(m, "Mul", layer(m, start(m, 2, 3, 5, 4), (1, 5, 4)), 5, 1)), into("LayerNormalization")),
        ("layer normalization, map of an axis that no parameter has", lambda m: out(m, m.bn(layer(m, start(m, 2, 3, 4), (1, 4)))), Kept("axis", "barrier")),
        ("layer normalization of three axes", lambda m: out(m, affine(m, "Mul", layer(m, start(m, 2, 5, 3, 4), (5, 3, 4), axis=1), 5, 1, 4)), into("LayerNormalization")),
        ("layer normalization, scalar", lambda m: out(m, affine(m, "Div", layer(m, start(m, 2, 3, 4), (4,), (4,)))), into("LayerNormalization")),
        ("layer normalization, T = C", lambda m: out(m, m.bn(layer(m, start(m, 2, 4, 4), (4,), (4,)))), Kept("axis", "barrier")),
        ("layer normalization, computed scale", lambda m: out(m, m.bn(m.op("LayerNormalization", start(m, 3, 4), m.x(4)))), Kept("weight-not-constant", "barrier")),
        ("layer normalization, computed bias", lambda m: out(m, m.bn(m.op("LayerNormalization", start(m, 3, 4), m.constant((4,)), m.x(4)))), Kept("weight-not-constant", "barrier")),
        ("shift before layer normalization", lambda m: out(m, layer(m, affine(m, "Add", start(m, 2, 3, 4), 2, 3, 1), (4,), (4,))), into("LayerNormalization", direction="forward")),
        ("shift before layer normalization of two axes", lambda m: out(m, layer(m, affine(m, "Add", start(m, 2, 3, 4), 2, 3, 1), (4,), axis=-2)), Kept("barrier", "axis")),
        ("shift of what is normalized", lambda m: out(m, layer(m, affine(m, "Add", start(m, 2, 3, 4), 4), (4,), (4,))), Kept("barrier", "axis")),
        ("scale before layer normalization", lambda m: out(m, layer(m, affine(m, "Mul", start(m, 2, 3, 4)), (4,), (4,))), Kept("barrier", "epsilon")),
        ("as layer normalization's bias", lambda m: out(m, m.op("LayerNormalization", start(m, 3, 4), m.constant((4,)), affine(m, "Add", barrier(m, m.x(4)), 4))), Kept("barrier", "not-data-input")),
    ]
]  # fmt: skip

RMS: list[Row] = [
    (name, since(23, build), expected)
    for name, build, expected in [
        ("rms normalization", lambda m: out(m, m.bn(rms(m, start(m, 3, 4), (4,)))), into("RMSNormalization", status="split", left=4)),
        ("scale after rms normalization", lambda m: out(m, affine(m, "Mul", rms(m, start(m, 2, 3, 4), (4,)), 4)), into("RMSNormalization", left=3)),
        ("rms normalization, scale grows", lambda m: out(m, m.per_channel("Div", rms(m, start(m, 2, 3, 4), (4,), axis=1))), into("RMSNormalization")),
        ("rms normalization, T = C", lambda m: out(m, m.per_channel("Div", rms(m, start(m, 2, 4, 4), (4,)))), Kept("axis", "barrier")),
        ("shift after rms normalization", lambda m: out(m, affine(m, "Add", rms(m, start(m, 3, 4), (4,)), 4)), Kept("no-gain", "barrier")),
        ("rms normalization, bn, add", lambda m: out(m, affine(m, "Add", m.bn(rms(m, start(m, 3, 4), (4,)), name="bn"), 4)), into("Add", status="merged", left=4)),
        ("shift before rms normalization", lambda m: out(m, rms(m, affine(m, "Add", start(m, 3, 4)), (4,))), Kept("barrier", "barrier")),
    ]
]  # fmt: skip


# --- products --------------------------------------------------------------------------------------------


def einsum(m: Model, equation: str, *operands: str) -> str:
    return m.op("Einsum", *operands, equation=equation)


def after_einsum(equation: str, shape: tuple[int, ...], w: tuple[int, ...], op: str, *constant: int, first: bool = False) -> Callable[[Model], Any]:  # fmt: skip
    """An affine of this shape after a product of data and a constant, the constant first where `first` asks for it."""

    def build(m: Model) -> None:
        x, weight = start(m, *shape), m.constant(w)
        out(m, affine(m, op, einsum(m, equation, *((weight, x) if first else (x, weight))), *constant))

    return build


def before_einsum(equation: str, shape: tuple[int, ...], w: tuple[int, ...], op: str, *constant: int, first: bool = False) -> Callable[[Model], Any]:  # fmt: skip
    def build(m: Model) -> None:
        x, weight = affine(m, op, start(m, *shape), *constant), m.constant(w)
        out(m, einsum(m, equation, *((weight, x) if first else (x, weight))))

    return build


def projections(m: Model, *shape: int) -> tuple[str, str]:
    """Two values that absorb a scale along their last axis, and no shift."""
    x, n = start(m, *shape), shape[-1]
    return m.op("MatMul", x, m.constant((n, n))), m.op("MatMul", barrier(m, x), m.constant((n, n)))


def scores(m: Model, op: str, *constant: int) -> None:
    """An affine of the scores of attention, q @ k.T."""
    q, k = projections(m, 2, 3, 4)
    out(m, affine(m, op, m.op("MatMul", q, m.op("Transpose", k, perm=[0, 2, 1])), *constant))


def scale_and_shift(m: Model, x: str, *shape: int) -> str:
    """A Mul and the site, an Add: two operators, of which one may be left."""
    return affine(m, "Add", m.op("Mul", x, m.constant(shape), name="mul"), *shape)


EINSUM: list[Row] = [
    ("einsum", lambda m: out(m, m.bn(einsum(m, "ij,jk->ik", start(m, 3, 4), m.constant((4, 5))))), into("Einsum", status="split", left=4)),
    ("scale after einsum", after_einsum("bij,jk->bik", (2, 3, 4), (4, 5), "Mul", 5), into("Einsum", direction="backward", left=3)),
    ("scale after einsum, output transposed", after_einsum("bij,jk->kib", (2, 3, 4), (4, 5), "Mul", 5, 1, 1), into("Einsum")),
    ("scale after einsum, constant first", after_einsum("jk,bij->bik", (2, 3, 4), (4, 5), "Mul", 5, first=True), into("Einsum")),
    ("scale after einsum with spaces", after_einsum(" b i j , j k -> b k i ", (2, 3, 4), (4, 5), "Div", 5, 1), into("Einsum")),
    ("scale after implicit einsum", after_einsum("bij,jc", (2, 3, 4), (4, 5), "Mul", 5, 1), into("Einsum")),
    ("scale after implicit einsum, capitals", after_einsum("BIJ,JC", (2, 3, 4), (4, 5), "Mul", 5, 1), into("Einsum")),
    ("scale after implicit einsum, both cases", after_einsum("bij,jC", (2, 3, 4), (4, 5), "Mul", 5, 1, 1), Kept("barrier", "barrier")),
    ("scale after einsum with ellipsis", after_einsum("...j,jk->k...", (2, 3, 4), (4, 5), "Mul", 5, 1, 1), into("Einsum")),
    ("scale after implicit einsum with ellipsis", after_einsum("j...,jk", (4, 3, 2), (4, 5), "Mul", 5), into("Einsum")),
    ("scale after einsum of broadcast ellipses", after_einsum("...j,...jk->...k", (2, 3, 4), (1, 3, 4, 5), "Mul", 3, 5), into("Einsum")),
    ("scale after einsum, heads and depth", after_einsum("bi,ihd->bhd", (2, 3), (3, 4, 5), "Mul", 4, 5), into("Einsum")),
    ("scale after einsum, shared axis", after_einsum("bij,bjk->bik", (2, 3, 4), (2, 4, 5), "Mul", 2, 1, 5), into("Einsum")),
    ("scalar after einsum", after_einsum("ij,ij->", (3, 4), (3, 4), "Mul"), into("Einsum")),
    ("einsum, axis of the data", after_einsum("bij,jk->bik", (2, 4, 4), (4, 4), "Mul", 4, 1), Kept("barrier", "barrier")),
    ("einsum, axis of each", after_einsum("bij,jk->bik", (2, 3, 4), (4, 5), "Mul", 3, 5), Kept("axis", "barrier")),
    ("einsum, shift of each", after_einsum("bij,jk->bik", (2, 3, 4), (4, 5), "Add", 3, 5), Kept("no-gain", "barrier")),
    ("einsum, broadcast axis", after_einsum("bi,bi->bi", (3, 4), (1, 4), "Mul", 3, 1), Kept("barrier", "barrier")),
    ("einsum, diagonal", after_einsum("ii,ij->j", (4, 4), (4, 5), "Mul", 5), Kept("barrier", "barrier")),
    ("einsum of three", lambda m: out(m, affine(m, "Mul", einsum(m, "i,ij,j->ij", start(m, 3), m.constant((3, 4)), m.constant((4,))), 4)), Kept("barrier", "barrier")),
    ("einsum, scalar constant", after_einsum("ij,->ij", (3, 4), (), "Add", 4), Kept("parameters", "barrier")),
    ("einsum of activations", lambda m: out(m, affine(m, "Mul", einsum(m, "bij,bkj->bik", *projections(m, 2, 3, 4)))), into("MatMul")),
    ("einsum of activations, computed", lambda m: out(m, m.bn(einsum(m, "ij,kj->ik", *projections(m, 3, 4)))), Kept("weight-not-constant", "barrier")),
    ("scale to the einsum's data", lambda m: out(m, affine(m, "Mul", einsum(m, "bij,ik->bkj", projections(m, 2, 3, 4)[0], m.constant((3, 5))), 4)), into("MatMul")),
    ("scale to the einsum's data, second operand", lambda m: out(m, affine(m, "Mul", einsum(m, "ik,...ij->...kj", m.constant((3, 5)), projections(m, 2, 3, 4)[0]), 4)), into("MatMul")),
    ("before einsum", lambda m: out(m, einsum(m, "ij,jk->ik", m.bn(start(m, 3, 4)), m.constant((4, 5)))), into("Einsum", status="split", left=4)),
    ("scale before einsum", before_einsum("bij,jk->bki", (2, 3, 4), (4, 5), "Mul", 4), into("Einsum", direction="forward")),
    ("scale before einsum, constant first", before_einsum("jk,bij->bki", (2, 3, 4), (4, 5), "Mul", 4, first=True), into("Einsum")),
    ("scale before einsum, axis that stays", before_einsum("bij,jb->bi", (2, 3, 4), (4, 2), "Mul", 2, 1, 4), into("Einsum")),
    ("scale before einsum, axis of the data", lambda m: out(m, m.op("MatMul", einsum(m, "bij,jk->bki", affine(m, "Mul", start(m, 2, 3, 4), 3, 1), m.constant((4, 5))), m.constant((3, 2)))), into("MatMul")),
    ("scale before einsum, summed axis of the data", before_einsum("bij,jk->bk", (2, 3, 4), (4, 5), "Mul", 3, 1), Kept("barrier", "axis")),
    ("shift before einsum", before_einsum("bij,jk->bki", (2, 3, 4), (4, 5), "Add", 4), Kept("barrier", "no-gain")),
    ("shift before einsum, summed axis of the data", lambda m: out(m, einsum(m, "bij,jk->bk", scale_and_shift(m, start(m, 2, 3, 4), 4), m.constant((4, 5)))), into("Einsum", status="split", left=4)),
    ("shift before einsum of a broadcast constant", lambda m: out(m, einsum(m, "ij,jk->ik", m.bn(start(m, 3, 4)), m.constant((1, 5)))), Kept("barrier", "broadcast")),
    ("shift before einsum, summed axis of unknown length", lambda m: out(m, einsum(m, "bij,jk->bk", affine(m, "Add", barrier(m, m.x(2, 3, 4, declare=["N", "T", 4])), 4), m.constant((4, 5)))), Kept("barrier", "unknown-shape")),
    ("shift before einsum, axis that stays", lambda m: out(m, einsum(m, "bij,jb->bi", scale_and_shift(m, start(m, 2, 3, 4), 2, 1, 4), m.constant((4, 2)))), into("Einsum", status="split", left=4)),
    ("one shift before einsum of a broadcast constant", lambda m: out(m, einsum(m, "ij,jk->ik", scale_and_shift(m, start(m, 3, 4)), m.constant((1, 5)))), into("Einsum", status="split", left=4)),
    ("shift before einsum that sums nothing", lambda m: out(m, einsum(m, "ij,jk->kij", scale_and_shift(m, start(m, 3, 4), 4), m.constant((4, 5)))), into("Einsum", status="split", left=4)),
    ("shift before einsum, axis of the data", before_einsum("bij,jk->bki", (2, 3, 4), (4, 5), "Add", 3, 1), Kept("barrier", "axis")),
    ("before einsum of activations", lambda m: out(m, einsum(m, "ij,kj->ik", m.bn(start(m, 3, 4)), m.x(3, 4))), Kept("barrier", "weight-not-constant")),
]  # fmt: skip

MATMUL: list[Row] = [
    ("scores of attention", lambda m: scores(m, "Div"), into("MatMul")),
    ("scores of attention, shift", lambda m: scores(m, "Add"), Kept("weight-not-constant", "barrier")),
    ("scores of attention, rows", lambda m: scores(m, "Mul", 3, 1), Kept("other-consumer", "barrier")),
    ("rows to the left operand", lambda m: out(m, affine(m, "Mul", m.op("MatMul", m.op("Transpose", projections(m, 2, 3, 4)[0], perm=[0, 2, 1]), m.x(3, 5)), 4, 1)), into("MatMul")),
    ("columns to the right operand", lambda m: out(m, affine(m, "Mul", m.op("MatMul", m.x(5, 3), projections(m, 2, 3, 4)[1]), 4)), into("MatMul")),
    ("columns to a broadcast operand", lambda m: out(m, affine(m, "Mul", m.op("MatMul", m.x(2, 5, 3), projections(m, 3, 4)[1]), 4)), into("MatMul")),
    ("batches to the operand that has them", lambda m: out(m, affine(m, "Mul", m.op("MatMul", m.op("Transpose", projections(m, 3, 5, 2)[0], perm=[2, 0, 1]), m.x(1, 5, 4)), 2, 1, 1)), into("MatMul")),
    ("batches to an operand that broadcasts", lambda m: out(m, affine(m, "Mul", m.op("MatMul", m.x(1, 3, 4), m.x(2, 4, 5)), 2, 1, 1)), Kept("graph-input", "barrier")),
    ("batches to a constant that broadcasts", lambda m: out(m, affine(m, "Mul", m.op("MatMul", start(m, 2, 3, 4), m.constant((1, 4, 5))), 2, 1, 5)), Kept("broadcast", "barrier")),
    ("batches of the constant", lambda m: out(m, affine(m, "Mul", m.op("MatMul", start(m, 3, 4), m.constant((2, 4, 5))), 2, 1, 5)), into("MatMul")),
    ("matmul, Transpose, bn", lambda m: out(m, m.bn(m.op("Transpose", m.op("MatMul", start(m, 2, 3, 4), m.constant((2, 4, 5))), perm=[0, 2, 1]))), into("MatMul", status="split", left=5)),
    ("matmul, bn, add", lambda m: out(m, affine(m, "Add", m.bn(m.op("MatMul", start(m, 3, 4), m.constant((4, 5))), name="bn"), 5)), into("Add", status="merged", left=4)),
    ("matmul of vectors, scalar", lambda m: out(m, affine(m, "Mul", m.op("MatMul", start(m, 4), m.constant((4,))))), into("MatMul")),
    ("matmul with a vector, scalar", lambda m: out(m, affine(m, "Mul", m.op("MatMul", start(m, 3, 4), m.constant((4,))))), into("MatMul")),
    ("matmul with a vector, rows", lambda m: out(m, affine(m, "Mul", m.op("MatMul", m.op("Transpose", projections(m, 4, 3)[0]), m.constant((4,))), 3)), into("MatMul")),
    ("vector times a constant", lambda m: out(m, affine(m, "Mul", m.op("MatMul", start(m, 4), m.constant((4, 5))), 5)), into("MatMul")),
    ("vector times constants", lambda m: out(m, affine(m, "Mul", m.op("MatMul", start(m, 4), m.constant((2, 4, 5))), 2, 5)), into("MatMul")),
    ("constants times a vector", lambda m: out(m, affine(m, "Mul", m.op("MatMul", m.constant((2, 5, 4)), start(m, 4)), 2, 5)), into("MatMul")),
    ("before a vector", lambda m: out(m, m.op("MatMul", scale_and_shift(m, start(m, 3, 4), 4), m.constant((4,)))), into("MatMul", status="split", left=4)),
    ("before a vector on the left", lambda m: out(m, m.op("MatMul", m.constant((3,)), scale_and_shift(m, start(m, 2, 3, 4), 3, 1))), into("MatMul", status="split", left=4)),
    ("vector before matmul", lambda m: out(m, m.op("MatMul", scale_and_shift(m, start(m, 4), 4), m.constant((2, 4, 5)))), into("MatMul", status="split", left=4)),
    ("before batched matmul", lambda m: out(m, m.op("MatMul", scale_and_shift(m, start(m, 2, 3, 4), 4), m.constant((2, 4, 5)))), into("MatMul", status="split", left=4)),
    ("batches before batched matmul", lambda m: out(m, m.op("MatMul", scale_and_shift(m, start(m, 2, 3, 4), 2, 1, 4), m.constant((2, 4, 5)))), into("MatMul", status="split", left=4)),
    ("rows before matmul", lambda m: out(m, m.op("MatMul", m.op("Transpose", m.op("MatMul", affine(m, "Mul", start(m, 2, 3, 4), 3, 1), m.constant((4, 5))), perm=[0, 2, 1]), m.constant((3, 6)))), into("MatMul", direction="forward")),
    ("rows before matmul on the right", lambda m: out(m, m.op("MatMul", m.op("MatMul", m.constant((5, 3)), affine(m, "Mul", start(m, 2, 3, 4), 4)), m.constant((4, 6)))), into("MatMul")),
    ("scalar before matmul of activations", lambda m: out(m, m.op("MatMul", m.op("MatMul", affine(m, "Mul", start(m, 3, 4)), m.x(4, 5)), m.constant((5, 2)))), into("MatMul")),
    ("shift before matmul of activations", lambda m: out(m, gemm(m, m.op("MatMul", affine(m, "Add", start(m, 3, 4)), m.x(4, 5)))), Kept("barrier", "weight-not-constant")),
    ("summed axis before matmul of activations", lambda m: out(m, gemm(m, m.op("MatMul", affine(m, "Mul", start(m, 3, 4), 4), m.x(4, 4)))), Kept("barrier", "weight-not-constant")),
    ("shift of the rows before matmul", lambda m: out(m, m.op("MatMul", affine(m, "Add", start(m, 3, 4), 3, 1), m.constant((4, 5)))), Kept("barrier", "axis")),
]  # fmt: skip


def turned_gemm(m: Model, c: tuple[int, ...] | None, **attributes: Any) -> str:
    """A Gemm of activations: the transpose of a value that absorbs along its last axis, and a graph input."""
    return m.op("Gemm", projections(m, 4, 3)[0], m.x(4, 5), *([] if c is None else [m.constant(c)]), transA=1, **attributes)  # fmt: skip


GEMM: list[Row] = [
    ("rows to gemm's A", lambda m: out(m, affine(m, "Mul", turned_gemm(m, None, alpha=0.5), 3, 1)), into("MatMul")),
    ("rows to gemm's A and C", lambda m: out(m, affine(m, "Mul", turned_gemm(m, (3, 1), beta=-2.0), 3, 1)), into("MatMul", "Gemm")),
    ("rows and shift to gemm's A and C", lambda m: out(m, scale_and_shift(m, turned_gemm(m, (3, 5), beta=-2.0), 3, 1)), into("Gemm")),
    ("shift to gemm's C", lambda m: out(m, affine(m, "Add", m.op("Gemm", m.x(3, 4), m.x(4, 5), m.constant((3, 5)), beta=0.5), 5)), into("Gemm")),
    ("rows to gemm's A, C broadcast", lambda m: out(m, affine(m, "Mul", turned_gemm(m, (5,)), 3, 1)), Kept("weight-not-constant", "barrier")),
    ("rows to gemm's A, C without effect", lambda m: out(m, affine(m, "Mul", turned_gemm(m, (5,), beta=0.0), 3, 1)), into("MatMul")),
    ("shift of gemm of activations", lambda m: out(m, affine(m, "Add", turned_gemm(m, None), 5)), Kept("weight-not-constant", "barrier")),
    ("every element of gemm", lambda m: out(m, affine(m, "Mul", turned_gemm(m, None), 3, 5)), Kept("weight-not-constant", "barrier")),
    ("columns of gemm are not A's", lambda m: out(m, affine(m, "Mul", m.op("Gemm", projections(m, 4, 4)[0], m.x(4, 4)), 4)), Kept("graph-input", "barrier")),
    ("columns to gemm's B", lambda m: out(m, affine(m, "Mul", m.op("Gemm", m.x(3, 4), projections(m, 4, 5)[1]), 5)), into("MatMul")),
    ("columns to gemm's B, transposed", lambda m: out(m, affine(m, "Mul", m.op("Gemm", m.x(3, 4), m.op("Transpose", projections(m, 4, 5)[1]), transB=1), 5)), into("MatMul")),
    ("rows before gemm", lambda m: out(m, m.op("MatMul", m.constant((2, 3)), m.op("Gemm", affine(m, "Mul", start(m, 3, 4), 3, 1), m.x(4, 5)))), into("MatMul", direction="forward")),
    ("rows before transposed gemm", lambda m: out(m, m.op("MatMul", m.constant((2, 3)), m.op("Gemm", affine(m, "Mul", start(m, 4, 3), 3), m.constant((4, 5)), transA=1))), into("MatMul")),
    ("columns before gemm", lambda m: out(m, m.op("MatMul", m.op("Gemm", m.x(3, 4), affine(m, "Mul", start(m, 5, 4), 5, 1), m.constant((5,)), transB=1, beta=0.0), m.constant((5, 2)))), into("MatMul")),
    ("summed axis before gemm of activations", lambda m: out(m, m.op("MatMul", m.op("Gemm", affine(m, "Mul", start(m, 3, 4), 4), m.x(4, 4)), m.constant((4, 2)))), Kept("barrier", "weight-not-constant")),
    ("shift before gemm of activations", lambda m: out(m, m.op("MatMul", m.op("Gemm", affine(m, "Add", start(m, 3, 4)), m.x(4, 4)), m.constant((4, 2)))), Kept("barrier", "weight-not-constant")),
    ("scalar before gemm with C", lambda m: out(m, m.op("Gemm", affine(m, "Mul", start(m, 3, 4)), m.x(4, 5), m.x(5))), Kept("barrier", "weight-not-constant")),
    ("shift before gemm's C", lambda m: out(m, gemm(m, m.op("Gemm", m.x(3, 4), m.x(4, 5), affine(m, "Add", start(m, 5), 5), beta=0.5))), into("Gemm")),
]  # fmt: skip

DEFORM: list[Row] = [
    (name, since(19, build), expected)
    for name, build, expected in [
        ("deformable conv", lambda m: out(m, m.bn(deform(m, start(m)))), into("DeformConv", direction="backward")),
        ("deformable conv with a bias", lambda m: out(m, m.bn(deform(m, start(m), m.constant((6,))))), into("DeformConv")),
        ("deformable conv with a mask", lambda m: out(m, m.bn(deform(m, start(m), "", m.x(2, 18, 5, 6), offset_group=2, group=2))), into("DeformConv")),
        ("deformable conv, rows", lambda m: out(m, m.per_channel("Mul", deform(m, start(m, 2, 4, 6, 6)), axis=2)), Kept("axis", "barrier")),
        ("scale before deformable conv", lambda m: out(m, deform(m, m.per_channel("Mul", start(m)), m.constant((6,)), group=2)), into("DeformConv", direction="forward")),
        ("shift before deformable conv", lambda m: out(m, deform(m, m.per_channel("Add", start(m)))), Kept("barrier", "zero-padding")),
        ("as deformable conv's offset", lambda m: out(m, m.op("DeformConv", m.x(2, 4, 5, 6), m.constant((6, 4, 1, 1)), affine(m, "Mul", start(m, 2, 2, 5, 6)), offset_group=1)), Kept("barrier", "not-data-input")),
    ]
]  # fmt: skip


def deform(m: Model, x: str, *bias_and_mask: str, group: int = 1, offset_group: int = 1) -> str:
    """Kernel 3 with padding: samples inside, at the border and outside."""
    n, channels, *size = m.at(x).shape
    w, offset = m.constant((6, channels // group, 3, 3)), m.x(n, 18 * offset_group, *size)
    return m.op("DeformConv", x, w, offset, *bias_and_mask, pads=[1] * 4, group=group, offset_group=offset_group)


# --- elementwise -----------------------------------------------------------------------------------------


def convs(m: Model, *outputs: int) -> list[str]:
    x = start(m)
    return [m.conv(x, n, kernel=1) for n in outputs]


def gate(m: Model, *shape: int) -> str:
    """A positive activation."""
    return m.op("Sigmoid", m.x(*shape))


ELEMENT: list[Row] = [
    ("residual mean", lambda m: out(m, m.bn(m.op("Mean", *convs(m, 6, 6, 6)))), into("Conv", "Conv", "Conv")),
    ("residual mean, one branch absorbs no shift", lambda m: (lambda x: out(m, affine(m, "Add", m.op("Mean", barrier(m, x), gemm(m, x), m.x(3, 5)), 5)))(start(m, 3, 5)), into("Gemm")),
    ("mean of one", lambda m: out(m, m.bn(m.op("Mean", *convs(m, 6)))), into("Conv")),
    ("broadcast mean", lambda m: out(m, m.bn(m.op("Mean", *convs(m, 6, 1)))), into("Conv", status="split")),
("scale of a broadcast mean", lambda m: out(m, m.per_channel("Mul", m.op("Mean", *convs(m, 6, 1)))), Kept("broadcast", "barrier")),
    ("shift through a mean", lambda m: out(m, m.conv(m.op("Mean", gate(m, 2, 4, 5, 6), m.per_channel("Add", start(m)), m.x(6)), 6)), into("Conv")),
    ("scale before a mean", lambda m: out(m, m.conv(m.op("Mean", m.per_channel("Mul", start(m)), m.x(6)), 6)), Kept("barrier", "scale-left")),
    ("product", lambda m: out(m, m.per_channel("Mul", m.op("Mul", *convs(m, 6, 6)))), into("Conv")),
    ("product with a gate", lambda m: out(m, m.per_channel("Mul", m.op("Mul", gate(m, 2, 6, 5, 6), *convs(m, 6)))), into("Conv")),
    ("product with a broadcast gate", lambda m: out(m, m.per_channel("Div", m.op("Mul", *convs(m, 6), gate(m, 5, 1)))), into("Conv")),
    ("product of what is broadcast", lambda m: out(m, affine(m, "Mul", m.op("Mul", *convs(m, 1), gate(m, 6, 1, 1)), 6, 1, 1)), Kept("barrier", "barrier")),
    ("product, both broadcast", lambda m: out(m, affine(m, "Mul", m.op("Mul", gate(m, 6, 1), gate(m, 5)), 6, 5)), Kept("broadcast", "barrier")),
    ("product with a constant that broadcasts", lambda m: out(m, affine(m, "Mul", m.op("Mul", gate(m, 1, 5), m.constant((6, 1))), 6, 1)), into("Mul", status="merged")),
    ("bn of a product", lambda m: out(m, m.bn(m.op("Mul", *convs(m, 6, 6)))), into("Conv", status="split")),
("shift of a product", lambda m: out(m, m.per_channel("Add", m.op("Mul", *convs(m, 6, 6)))), Kept("shift-left", "barrier")),
    ("square", lambda m: (lambda y: out(m, m.per_channel("Mul", m.op("Mul", y, y))))(convs(m, 6)[0]), Kept("other-consumer", "barrier")),
    ("before a square", lambda m: (lambda y: out(m, m.conv(m.op("Mul", y, y), 6)))(m.per_channel("Mul", start(m))), Kept("barrier", "reconvergent")),
    ("scale through a product", lambda m: out(m, m.conv(m.op("Mul", gate(m, 5, 6), m.per_channel("Mul", start(m))), 6)), into("Conv")),
    ("scale through a product of higher rank", lambda m: out(m, m.conv(m.op("Mul", m.x(2, 4, 5, 6), affine(m, "Div", start(m, 4, 1, 1), 4, 1, 1)), 6)), into("Conv")),
    ("shift before a product", lambda m: out(m, m.conv(m.op("Mul", gate(m, 5, 6), m.per_channel("Add", start(m))), 6)), Kept("barrier", "shift-left")),
    ("quotient", lambda m: out(m, m.per_channel("Mul", m.op("Div", *convs(m, 6), gate(m, 5, 6)))), into("Conv")),
    ("quotient by a conv", lambda m: out(m, m.per_channel("Mul", m.op("Div", gate(m, 5, 6), *convs(m, 6)))), into("Conv")),
    ("quotient, dead channel", lambda m: out(m, m.op("Mul", m.op("Div", gate(m, 2, 6, 5, 6), *convs(m, 6)), m.constant(np.arange(6.0).reshape(6, 1, 1)), name=SITE)), Kept("barrier", "barrier")),
    ("quotient of a constant", lambda m: out(m, m.per_channel("Mul", m.op("Div", m.constant((2, 6, 5, 6)), gate(m, 5, 6)))), into("Div", status="merged")),
    ("bn of a quotient", lambda m: out(m, m.bn(m.op("Div", *convs(m, 6), gate(m, 5, 6)))), into("Conv", status="split")),
("shift of a quotient", lambda m: out(m, m.per_channel("Add", m.op("Div", *convs(m, 6), gate(m, 5, 6)))), Kept("shift-left", "barrier")),
    ("scale through a quotient", lambda m: out(m, m.conv(m.op("Div", m.per_channel("Mul", start(m)), gate(m, 5, 6)), 6)), into("Conv")),
    ("scale through the divisor", lambda m: out(m, m.conv(m.op("Div", gate(m, 5, 6), m.per_channel("Mul", start(m))), 6)), into("Conv")),
    ("shift before a quotient", lambda m: out(m, m.conv(m.op("Div", m.per_channel("Add", start(m)), gate(m, 5, 6)), 6)), Kept("barrier", "shift-left")),
]  # fmt: skip


def positive(m: Model, x: str) -> str:
    """The site, a Mul of four channels by factors one of which is zero."""
    return m.op("Mul", x, m.constant(np.array([0.5, 2, 0, 3]).reshape(4, 1, 1)), name=SITE)


def sloped(m: Model, x: str, slope: float) -> str:
    """A PRelu with one slope."""
    return m.op("PRelu", x, m.constant(np.array([slope])))


def bent(m: Model, op: str, x: str) -> str:
    return m.op(op, x, *([m.constant((4, 1, 1))] if op == "PRelu" else []))


BENT: list[Row] = [
    row
    for op in ("LeakyRelu", "PRelu", "Abs")
    for row in [
        (f"scale after {op}", lambda m, op=op: out(m, positive(m, bent(m, op, *convs(m, 4)))), into("Conv", direction="backward")),
        (f"negative scale after {op}", lambda m, op=op: out(m, m.per_channel("Mul", bent(m, op, *convs(m, 4)))), into("Conv", "PRelu") if op == "PRelu" else Kept("sign", "barrier")),
        (f"shift after {op}", lambda m, op=op: out(m, m.per_channel("Add", bent(m, op, *convs(m, 4)))), Kept("shift-left", "barrier")),
        (f"scale before {op}", lambda m, op=op: out(m, m.conv(bent(m, op, positive(m, start(m))), 6)), into("Conv", direction="forward")),
        (f"shift before {op}", lambda m, op=op: out(m, m.conv(bent(m, op, m.per_channel("Add", start(m))), 6)), Kept("barrier", "shift-left")),
    ]
] + [
    ("negative scale before LeakyRelu", lambda m: out(m, m.conv(bent(m, "LeakyRelu", m.per_channel("Mul", start(m))), 6)), Kept("barrier", "sign")),
    ("Neg before Abs", lambda m: out(m, m.op("Abs", m.op("Neg", start(m), name=SITE))), into(status="removed")),
    ("negative scale before PRelu", lambda m: out(m, m.conv(bent(m, "PRelu", m.op("Neg", start(m), name=SITE)), 6)), into("Conv", "PRelu", direction="forward")),
    ("mixed scales before PRelu", lambda m: out(m, m.conv(bent(m, "PRelu", m.per_channel("Mul", start(m))), 6)), into("Conv", "PRelu", direction="forward")),
    ("bn before PRelu and a padded conv", lambda m: out(m, m.conv(bent(m, "PRelu", m.bn(start(m))), 6, pads=[1] * 4)), into("Conv", "PRelu", status="split", left=5)),
    ("mixed scales before PRelu of one slope", lambda m: out(m, m.conv(sloped(m, m.per_channel("Mul", start(m)), -0.25), 6)), into("Conv", "PRelu")),
    ("mixed scales before PRelu of no slope", lambda m: out(m, m.conv(sloped(m, m.per_channel("Mul", start(m)), 0.0), 6)), Kept("barrier", "sign")),
    ("mixed scales before PRelu of a computed slope", lambda m: out(m, m.conv(m.op("PRelu", m.per_channel("Mul", start(m)), m.x(4, 1, 1)), 6)), Kept("barrier", "weight-not-constant")),
    ("mixed scales before PRelu per position", lambda m: out(m, m.conv(m.op("PRelu", m.per_channel("Mul", start(m)), m.constant((4, 5, 6))), 6)), Kept("barrier", "axis")),
    ("mixed scales behind PRelu", lambda m: out(m, m.per_channel("Mul", sloped(m, m.conv(start(m), 6), 0.25))), into("Conv", "PRelu", direction="backward")),
    ("mixed scales behind PRelu of a negative slope", lambda m: out(m, m.per_channel("Mul", sloped(m, m.conv(start(m), 6), -0.25))), Kept("sign", "barrier")),
    ("shift behind PRelu", lambda m: out(m, m.per_channel("Add", sloped(m, m.conv(start(m), 6), 0.25))), Kept("shift-left", "barrier")),
    ("negative scale before Abs", lambda m: out(m, m.conv(m.op("Abs", m.per_channel("Mul", start(m))), 6)), into("Conv")),
    ("PRelu by a computed slope", lambda m: out(m, positive(m, m.op("PRelu", *convs(m, 4), m.x(5, 6)))), into("Conv")),
    ("as PRelu's slope", lambda m: out(m, m.op("PRelu", m.x(2, 4, 5, 6), positive(m, start(m, 4, 1, 1)))), Kept("barrier", "not-data-input")),
]  # fmt: skip

ROWS = INSTANCE + GROUP + LAYER + RMS + EINSUM + MATMUL + GEMM + DEFORM + ELEMENT + BENT
