"""Parallel branches: replace a sum of convolutions and affine maps of one value by one convolution.

This is the reparameterization of RepVGG (Ding et al. 2021, section 3.3), applied to any tree of Add, Sub, Sum and
affine maps: for ``conv_3(x) + conv_1(x) + (scale * x + shift)`` the kernels are padded to the larger one and summed;
the kernel of the identity is a diagonal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from folding.algebra.affine import Affine
from folding.analysis import constants
from folding.graph.sites import NORMALIZATION, OPERATORS, affine_of
from folding.graph.weights import VALUES_LIMIT, Weight
from folding.planning.makers import require_makers
from folding.planning.plan import Merge
from folding.refusal import Refused, require
from folding.rules import Edit, along

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from folding.algebra.affine import Float64
    from folding.graph.index import Scope
    from folding.graph.node import Node
    from folding.options import Options

SUMS = frozenset({"Add", "Sub", "Sum"})
LEAST_RANK = 3  # minimum rank of a convolution's data
DEPTH_LIMIT = 32  # operators in a row within one tree


class Geometry(NamedTuple):
    """The inputs that a kernel reads along one axis: for output o these are ``o * stride + first + j * step``.

    `slack` determines the output's length: ``floor((length + slack) / stride) + 1``.
    """

    taps: int
    step: int
    first: int
    slack: int


@dataclass(frozen=True)
class _Term:
    """``a(conv(base))``, or ``a(base)`` if there is no convolution."""

    base: str
    conv: Node | None
    a: Affine


@dataclass
class _Tree:
    """The parts of a sum: its terms, the operators between them and the sum, and the affine maps among these."""

    terms: list[_Term] = field(default_factory=list)
    inner: list[Node] = field(default_factory=list)
    sites: list[Node] = field(default_factory=list)


@dataclass
class Branches:
    """Finds sums that can be one convolution; changes nothing.

    `blocked` holds the affine operators that must stay; `normalized` the operators that absorbed a normalization.
    """

    options: Options
    blocked: Collection[str]
    normalized: Collection[Node]

    def plan(self, root: Node) -> Merge | None:
        """The merge of a sum into one convolution, None if that is impossible or no branch had a normalization."""
        if root.op not in SUMS or root.key in self.blocked or self.options.keeps(root.label):
            return None
        try:
            return self._plan(root)
        except Refused:
            return None

    def _plan(self, root: Node) -> Merge:
        tree = _Tree()
        self._sum(root, Affine.identity(len(root.output_shape)), tree, 0)
        convs = [term.conv for term in tree.terms if term.conv is not None]
        require(convs and len(tree.terms) > 1, "barrier", "no convolution is among the branches")
        require(len({term.base for term in tree.terms}) == 1, "barrier", "the branches read different values")
        held = any(site.op == NORMALIZATION for site in tree.sites) or any(conv in self.normalized for conv in convs)
        require(held, "no-gain", "no branch held a normalization")
        stays = max(convs, key=lambda conv: math.prod(conv.weight(1).shape[2:]))
        others = tuple(node for node in (*tree.inner, *convs) if node is not stays)
        edit = _merged(tree.terms, stays)
        require_makers(self.options, stays, edit.constants)
        for node in others:
            require_makers(self.options, node, range(len(node.inputs)))
        return Merge(root, edit, others, tuple(tree.sites))

    def _sum(self, node: Node, a: Affine, tree: _Tree, depth: int) -> None:
        """Apply ``a(x + y) = a(x) + scale * y``: the shift goes to the first branch."""
        require(depth < DEPTH_LIMIT, "too-far", "the sum has too many operators in a row")
        tree.inner.append(node)
        for index, name in enumerate(node.inputs):
            sign = -1.0 if node.op == "Sub" and index == 1 else 1.0
            self._branch(node.scope, name, Affine.of(sign * a.scale, a.shift if index == 0 else 0.0), tree, depth + 1)

    def _branch(self, scope: Scope, name: str, a: Affine, tree: _Tree, depth: int) -> None:
        node = scope.producers.get(name)
        if node is None or not self._is_inner(scope, name, node):
            tree.terms.append(_Term(name, None, a))
        elif node.op in OPERATORS and self._is_affine(node):
            site = affine_of(node)
            tree.inner.append(node)
            tree.sites.append(node)
            self._branch(scope, node.inputs[site.data], a.after(site.affine), tree, depth)
        elif node.op in SUMS:
            self._sum(node, a, tree, depth)
        elif node.op == "Conv":
            tree.terms.append(_Term(node.inputs[0], node, a))
        else:
            tree.terms.append(_Term(name, None, a))

    def _is_affine(self, node: Node) -> bool:
        if node.key in self.blocked or not self.options.selects(node.label):
            return False
        try:
            affine_of(node)
        except Refused:
            return False
        return True

    def _is_inner(self, scope: Scope, name: str, node: Node) -> bool:
        """Whether only the sum reads the value, and the operator may be removed."""
        seen = scope.is_seen(name) or name in scope.shadowing or name in scope.annotated
        alone = len(scope.uses[name]) == 1 and name == node.output and not seen
        return alone and not self.options.keeps(node.label)


def _merged(terms: list[_Term], stays: Node) -> Edit:
    """The edit after which one of the convolutions computes the whole sum."""
    shape, weight = stays.weight(1).shape, stays.weight(1)
    rank, group = len(shape), int(stays.attribute("group"))
    require(rank >= LEAST_RANK, "parameters", f"the weight has rank {rank}")
    outputs, inputs, spatial = shape[0], shape[1], rank - 2
    strides = _per_axis(stays, "strides", spatial)
    geometries = [_geometry(term, outputs, inputs * group, group, strides, rank) for term in terms]
    axes = [_union([geometry[axis] for geometry in geometries], strides[axis]) for axis in range(spatial)]
    kernel = tuple(axis.taps for axis in axes)
    work = sum(math.prod(axis.taps for axis in geometry) for geometry in geometries)
    require(math.prod(kernel) <= work, "no-gain", "one kernel would be more work than all of them")
    require(outputs * inputs * math.prod(kernel) <= VALUES_LIMIT, "too-large", "the kernel is too large to be summed")
    values, bias = np.zeros((outputs, inputs, *kernel)), np.zeros(outputs)
    for term, geometry in zip(terms, geometries, strict=True):
        scale, shift = along(term.a, 1, outputs, "the convolution's outputs")
        place = tuple(_taps(own, whole) for own, whole in zip(geometry, axes, strict=True))
        values[(slice(None), slice(None), *place)] += _kernel(term, outputs, inputs, rank) * _column(scale, rank)
        bias += shift + scale * _bias(term, outputs)
    pads = [-axis.first for axis in axes] + [axis.slack + axis.first + (axis.taps - 1) * axis.step for axis in axes]
    require(min(pads) >= 0, "parameters", "the kernels reach too far apart")
    attributes: dict[str, str | Sequence[int]] = {
        "auto_pad": "NOTSET", "pads": pads, "kernel_shape": kernel, "dilations": [axis.step for axis in axes]
    }  # fmt: skip
    return Edit(stays, {1: Weight.of(values, weight.dtype), 2: Weight.of(bias, _bias_type(terms, weight))}, attributes)


def _bias_type(terms: list[_Term], weight: Weight) -> np.dtype[np.generic]:
    return next((t.conv.weight(2).dtype for t in terms if t.conv is not None and t.conv.has(2)), weight.dtype)


def _geometry(
    term: _Term, outputs: int, channels: int, group: int, strides: list[int], rank: int
) -> tuple[Geometry, ...]:
    """The inputs that the term reads, axis by axis; refused unless it has the sum's channels, groups and strides."""
    spatial = rank - 2
    if term.conv is None:
        require(outputs == channels and all(s == 1 for s in strides), "broadcast", "the identity has another shape")
        return (Geometry(1, 1, 0, 0),) * spatial
    conv, shape = term.conv, term.conv.weight(1).shape
    same = len(shape) == rank and shape[0] == outputs and shape[1] * group == channels
    require(same and int(conv.attribute("group")) == group, "parameters", "the convolutions differ in their channels")
    require(_per_axis(conv, "strides", spatial) == strides, "parameters", "the convolutions differ in their strides")
    steps = [
        step if taps > 1 else 1 for step, taps in zip(_per_axis(conv, "dilations", spatial), shape[2:], strict=True)
    ]
    pads = _pads(conv, shape[2:], steps, strides)
    return tuple(
        Geometry(taps, step, -before, before + after - (taps - 1) * step)
        for taps, step, (before, after) in zip(shape[2:], steps, pads, strict=True)
    )


def _per_axis(conv: Node, name: str, spatial: int) -> list[int]:
    found = [int(n) for n in conv.attribute(name) or [1] * spatial]
    require(len(found) == spatial and min(found) > 0, "parameters", f"{name} has the wrong length")
    return found


def _pads(conv: Node, kernel: tuple[int, ...], steps: list[int], strides: list[int]) -> list[tuple[int, int]]:
    """The padding before and after each axis; with auto_pad SAME it depends on the length unless the stride is 1."""
    auto, spatial = conv.attribute("auto_pad") or b"NOTSET", len(kernel)
    if auto == b"NOTSET":
        pads = list(conv.attribute("pads") or [0] * 2 * spatial)
        require(len(pads) == 2 * spatial, "parameters", "pads has the wrong length")
        return list(zip(pads[:spatial], pads[spatial:], strict=True))
    if auto == b"VALID":
        return [(0, 0)] * spatial
    require(all(s == 1 for s in strides), "parameters", "its padding depends on the size")
    totals = [(taps - 1) * step for taps, step in zip(kernel, steps, strict=True)]
    halves = [(total // 2, total - total // 2) for total in totals]
    return halves if auto == b"SAME_UPPER" else [(after, before) for before, after in halves]


def _union(parts: list[Geometry], stride: int) -> Geometry:
    """The smallest kernel that reads every input that one of these reads."""
    slacks = {part.slack for part in parts}
    require(len(slacks) == 1, "broadcast", f"the branches differ in length (stride {stride})")
    seen = {part.first + j * part.step for part in parts for j in range(part.taps)} | {0}
    first, last = min(seen), max(seen)
    step = math.gcd(*(place - first for place in seen)) or 1
    return Geometry((last - first) // step + 1, step, first, slacks.pop())


def _taps(own: Geometry, whole: Geometry) -> slice:
    """The taps of the whole kernel that correspond to the taps of a part."""
    start, step = (own.first - whole.first) // whole.step, max(1, own.step // whole.step)
    return slice(start, start + (own.taps - 1) * step + 1, step)


def _kernel(term: _Term, outputs: int, inputs: int, rank: int) -> Float64:
    """The term's kernel; that of the identity is 1 where an output reads its own input, counted within the group."""
    if term.conv is not None:
        quantized = constants.origin(term.conv.scope, term.conv.inputs[1]) is not None
        require(not quantized, "quantized", "the integers of a weight would be lost in the sum")
        return term.conv.weight(1).values()
    identity = np.zeros((outputs, inputs, *(1,) * (rank - 2)))
    rows = np.arange(outputs)
    identity[rows, rows % inputs] = 1.0
    return identity


def _bias(term: _Term, outputs: int) -> Float64:
    if term.conv is None or not term.conv.has(2):
        return np.zeros(outputs)
    bias = term.conv.weight(2)
    require(bias.shape == (outputs,), "parameters", f"the bias has the shape {list(bias.shape)}")
    return bias.values()


def _column(values: Float64, rank: int) -> Float64:
    return values.reshape(-1, *(1,) * (rank - 1))
