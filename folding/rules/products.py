"""MatMul and Einsum of two operands: products, summed over the axes that the result does not have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.affine import Affine
from folding.refusal import require
from folding.rules.edit import Edit
from folding.rules.rule import OperatorRule, fits_input, possible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from folding.graph.node import Node
    from folding.graph.weights import Weight
    from folding.rules.rule import Ways

Labels = tuple[str | int, ...]  # one for every axis: a letter of the equation, a negative number within an ellipsis
DOTS = "..."
MATRIX = 2  # rank


@dataclass(frozen=True)
class Product:
    """``result[output] = sum(one[operands[0]] * other[operands[1]])`` over the labels missing in `output`."""

    operands: tuple[Labels, Labels]
    output: Labels


def absorb_backward(node: Node, a: Affine) -> Edit:
    """``scale * sum(x * W) + shift = sum(x * (scale * W)) + shift``: scale along axes of W; the shift is left over."""
    side = 0 if node.is_constant(0) else 1
    weight = _weight(node, side)
    product = _parsed("k,kj->j", (1, 2)) if _is_open(node) and a.rank == 1 else _product(node)
    scale = _held(weight, _relabelled(a.linear_part(), product.output, product.operands[side])).scale
    return Edit(node, {side: weight.scaled(weight.shape, scale)}, leftover=None if a.is_linear else a.shift_part())


def absorb_forward(node: Node, index: int, a: Affine) -> Edit:
    """``sum((scale * x + shift) * W) = sum(x * (scale * W)) + sum(shift * W)``; the last sum is left over.

    Scale and shift lie along axes of W. If W lacks a summed axis, or has it with length 1, the sum of the shift is
    multiplied by the length of that axis.
    """
    side = 1 - index
    weight, product = _weight(node, side), _product(node)
    data, own = product.operands[index], product.operands[side]
    inner = _held(weight, _relabelled(a, data, own))
    scaled = {side: weight.scaled(weight.shape, inner.scale)}
    if a.is_linear:
        return Edit(node, scaled)
    summed = tuple(axis for axis, label in enumerate(own) if label not in product.output)
    once = {label for label, length in zip(own, weight.shape, strict=True) if length == 1}
    shape = zip(data, node.shape(index), strict=True)
    times = [n for label, n in shape if label not in product.output and (label not in own or label in once)]
    known = [n for n in times if isinstance(n, int)]
    require(known == times, "unknown-shape", f"the length of a summed axis of input {index} is unknown")
    added = weight.contract(weight.shape, inner.shift, summed) * math.prod(known)
    kept = tuple(label for label in own if label in product.output)
    return Edit(node, scaled, leftover=_relabelled(Affine.of(np.ones_like(added), added), kept, product.output))


def pass_backward(node: Node, a: Affine) -> Ways:
    """``scale * sum(x * y) = sum((scale * x) * y)``; the operand must have the axes along which the scale varies."""
    product = _product(node)
    require(a.is_linear, "shift-left", "a shift of a product is none of its operands")
    found = possible(
        lambda index: fits_input(node, index, _relabelled(a, product.output, product.operands[index])),
        [index for index in range(2) if not node.is_constant(index)],
    )
    return [{index: fitted} for index, fitted in found.items()]


def pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """``sum((scale * x) * y) = scale * sum(x * y)`` for a scale that does not vary along a summed axis."""
    product = _product(node)
    require(a.is_linear, "shift-left", "a shift of an operand is multiplied by the other one")
    return _relabelled(a, product.operands[index], product.output)


def _is_open(node: Node) -> bool:
    """Whether a product with a constant matrix reads a value of unknown rank: only its last axis is known then."""
    is_matrix = node.op == "MatMul" and node.is_constant(1) and len(node.weight(1).shape) == MATRIX
    return is_matrix and node.scope.values.shape(node.scope, node.inputs[0]) is None


def _weight(node: Node, side: int) -> Weight:
    weight = node.weight(side)
    require(weight.shape and weight.size, "parameters", f"the constant operand has the shape {list(weight.shape)}")
    return weight


def _held(weight: Weight, a: Affine) -> Affine:
    """The map, if the constant has its length along every axis along which it varies."""
    fits = all(n in (1, length) for n, length in zip(a.shape, weight.shape, strict=True))
    require(fits, "broadcast", f"the map has the shape {list(a.shape)}, the constant operand {list(weight.shape)}")
    return a


def _relabelled(a: Affine, source: Labels, target: Labels) -> Affine:
    """Convert a map on a value with the axes `source` to one on a value with the axes `target`."""
    require(a.rank == len(source), "parameters", f"the map has rank {a.rank}, the equation {len(source)}")
    require(
        all(source[axis] in target for axis in a.axes), "axis", "the map varies along an axis that is another operand's"
    )
    order = [source.index(label) for label in target if label in source]
    order += [axis for axis, label in enumerate(source) if label not in target]
    return a.transpose(order).reshape([a.shape[source.index(label)] if label in source else 1 for label in target])


# --- labels of axes --------------------------------------------------------------------------------------


def _product(node: Node) -> Product:
    ranks = [node.rank(index) for index in range(len(node.inputs))]
    if node.op == "MatMul":
        one, other = ("...ik" if ranks[0] > 1 else "k"), ("...kj" if ranks[1] > 1 else "k")
        return _parsed(f"{one},{other}->...{one[3:-1]}{other[4:]}", ranks)
    return _parsed(node.attribute("equation").decode(), ranks)


def _parsed(equation: str, ranks: Sequence[int]) -> Product:
    """The product that an equation of Einsum describes. Ellipses align at their ends, as in NumPy's broadcasting."""
    given, explicit, result = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    require(len(terms) == len(ranks) == 2, "barrier", f"an Einsum of {len(ranks)} operands")
    hidden = [rank - len(term.replace(DOTS, "")) for term, rank in zip(terms, ranks, strict=True)]
    fits = all(n >= 0 and (n == 0 or DOTS in term) for term, n in zip(terms, hidden, strict=True))
    require(fits, "parameters", f"operands of ranks {list(ranks)} do not fit the equation {equation!r}")
    if not explicit:
        letters = "".join(sorted({*given} - {*".,"}))
        result = DOTS + "".join(letter for letter in letters if given.count(letter) == 1)
        require(letters in (letters.lower(), letters.upper()), "barrier", "runtimes order letters of two cases unlike")
    one, other, output = (_labels(*pair) for pair in zip([*terms, result], [*hidden, max(hidden)], strict=True))
    distinct = all(len({*labels}) == len(labels) for labels in (one, other, output))
    require(distinct, "barrier", "it takes a diagonal of an operand")
    return Product((one, other), output)


def _labels(term: str, hidden: int) -> Labels:
    before, dots, after = term.partition(DOTS)
    return (*before, *(range(-hidden, 0) if dots else ()), *after)


PRODUCT = OperatorRule(
    absorb_backward=absorb_backward,
    absorb_forward=absorb_forward,
    pass_backward=pass_backward,
    pass_forward=pass_forward,
)
RULES = {"MatMul": PRODUCT, "Einsum": PRODUCT}
