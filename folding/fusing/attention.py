"""Scaled dot-product attention: two products with a softmax between them as Attention.

``Attention(q, k, v) = softmax(scale * q @ k^T + mask) @ v`` for values of four axes: batch, heads, positions, channels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from folding.editing.composing import Made
from folding.fusing.activations import ANY_AXIS
from folding.fusing.operator import Operator, attribute, dtype_of, letter, numbers
from folding.graph.matching import scalar
from folding.refusal import Refused, require

if TYPE_CHECKING:
    from folding.algebra.shape import Shape
    from folding.graph.idioms import Occurrence
    from folding.graph.index import Scope
    from folding.graph.node import Node

RANK = 4  # with three axes the heads are in attributes
MATRICES = (0, 2, 1)  # the permutation that turns the matrices of a value of three axes
IN_ORDER = (0, 1, 2, 3)


class _Keys(NamedTuple):
    """The keys as the operator reads them, and their shape."""

    value: str | Made
    shape: Shape


def attention(found: Occurrence) -> Operator:
    """The operator in the place of both products, of what scales and masks the scores, and of the softmax."""
    softmax, scope = found.last, found.last.scope
    scores = softmax.output_shape
    on_last = softmax.version >= ANY_AXIS and softmax.attribute("axis") in {-1, RANK - 1}
    require(len(scores) == RANK and on_last, "axis", "it is no softmax over the last of four axes", softmax.label)
    masks = _masks(found, scores)
    product, between = _tail(softmax, masks)
    query, keys, values = letter(found, "q"), _keys(found), product.inputs[1]
    shapes = [scope.known_shape(query), keys.shape, scope.known_shape(values)]
    alike = all(len(shape) == RANK and shape[:2] == scores[:2] for shape in shapes) and None not in scores[:2]
    require(alike, "broadcast", "batch and heads of queries, keys and values may differ", product.label)
    scale = attribute(math.prod(numbers(found, "c")), dtype_of(found))
    require(scale > 0, "parameters", f"its scale is {scale}, of which the operator takes the root", softmax.label)
    made = Made("Attention", (query, keys.value, values, *masks), {"scale": scale})
    return Operator(made, (*found.match.nodes[::-1], *between, product), product)


def _masks(found: Occurrence, scores: Shape) -> tuple[str, ...]:
    """The mask, if there is one: added to the scores, or boolean, where what it hides becomes -inf.

    It has the scores' own last two lengths: opset 24 fills a shorter last axis with -inf, and runtimes want the other.
    """
    mask, hidden = found.match.value("m"), found.match.value("n")
    if mask is None:
        return ()
    scope, label = found.last.scope, found.last.label
    if hidden is not None:
        require(scalar(scope, hidden) == -np.inf, "parameters", "what its mask hides is not -inf", label)
    shape = scope.known_shape(mask)
    pairs = list(zip(shape[::-1], scores[::-1], strict=False))
    fits = 1 < len(shape) <= RANK and None not in shape and shape[-2:] == scores[-2:]
    fits = fits and all(length in (1, own) for length, own in pairs)
    require(fits, "broadcast", "its mask may have another shape than the scores", label)
    return (mask,)


def _tail(softmax: Node, masks: tuple[str, ...]) -> tuple[Node, tuple[Node, ...]]:
    """The second product, and what is between the softmax and it: ``Where(IsNaN(p), 0, p)``, as PyTorch writes it.

    A softmax is NaN where a mask hides all; of a constant mask it is known that it hides no row.
    """
    product = _reader(softmax, "MatMul")
    if product is not None:
        return product, ()
    scope, name = softmax.scope, softmax.output
    readers = [edge.node for edge in scope.uses[name]]
    tests, choices = ([node for node in readers if node.op == op] for op in ("IsNaN", "Where"))
    choice = _reader(tests[0], "Where") if len(tests) == 1 and len(readers) == 2 else None
    safe = choice is not None and choices == [choice] and choice.inputs[2] == name and not _is_seen(softmax)
    require(safe, "other-consumer", "something else reads its softmax", softmax.label)
    assert choice is not None  # noqa: S101  narrowed for the type checker
    product = _reader(choice, "MatMul")
    zero = scalar(scope, choice.inputs[1]) == 0
    require(zero and product is not None and _hides_no_row(scope, masks), "other-consumer", "it is no attention")
    assert product is not None  # noqa: S101  narrowed for the type checker
    return product, (tests[0], choice)


def _reader(node: Node, op: str) -> Node | None:
    """The only reader of a value, if it is this operator and reads it first."""
    edges = list(node.scope.uses[node.output])
    if len(edges) != 1 or _is_seen(node) or edges[0].node.op != op or edges[0].index != 0:
        return None
    return edges[0].node


def _is_seen(node: Node) -> bool:
    return node.scope.is_seen(node.output) or node.output in node.scope.annotated


def _hides_no_row(scope: Scope, masks: tuple[str, ...]) -> bool:
    """Whether every row of the scores has a number that a constant mask does not hide."""
    if not masks:
        return True
    if not scope.values.is_constant(scope, masks[0]):
        return False
    values = scope.values.array(scope, masks[0])
    return bool(np.all(np.any(values if values.dtype == np.bool_ else values > -np.inf, axis=-1)))


def _keys(found: Occurrence) -> _Keys:
    """The keys before they were transposed for the product: the operator does that by itself."""
    scope, name = found.last.scope, letter(found, "k")
    inside = [node for node in found.match.nodes if node.op == "Transpose"]
    turn = inside[0] if inside else scope.producers.get(name)
    if turn is not None and turn.op == "Transpose":
        return _turned(turn, name if inside else turn.inputs[0])
    found_keys = _reshaped(scope, turn) if turn is not None and turn.op == "Reshape" else None
    if found_keys is None:
        raise Refused("barrier", "its keys are not transposed for the product", found.last.label)
    return found_keys


def _turned(turn: Node, name: str) -> _Keys:
    """The value before a Transpose that ends with a swap of the last two axes, by what it did besides."""
    perm = tuple(turn.attribute("perm") or IN_ORDER[::-1])
    require(len(perm) == RANK, "axis", "its keys have no four axes", turn.label)
    before = (*perm[:2], perm[3], perm[2])
    shape = turn.scope.known_shape(name)
    require(len(shape) == RANK, "axis", "its keys have no four axes", turn.label)
    value = name if before == IN_ORDER else Made("Transpose", (name,), {"perm": before})
    return _Keys(value, tuple(shape[axis] for axis in before))


def _reshaped(scope: Scope, last: Node) -> _Keys | None:
    """The same for ``Reshape(Transpose(Reshape(k)))``: PyTorch's newer exporter turns matrices in three axes."""
    turn = scope.producers.get(last.inputs[0])
    first = scope.producers.get(turn.inputs[0]) if turn is not None and turn.op == "Transpose" else None
    if turn is None or first is None or first.op != "Reshape" or tuple(turn.attribute("perm") or ()) != MATRICES:
        return None
    shape, joined, made = first.shape(0), first.output_shape, last.output_shape
    known = None not in shape and len(shape) == RANK and len(joined) == RANK - 1
    swapped = (*shape[:2], *shape[:1:-1])
    return _Keys(first.inputs[0], shape) if known and joined[1:] == shape[2:] and made == swapped else None
