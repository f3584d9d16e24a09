"""Where shape inference ended: the sentence that a refusal for an unknown shape gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.analysis import shapes

if TYPE_CHECKING:
    from folding.algebra.shape import Shape
    from folding.graph.index import Scope
    from folding.graph.node import Node

STEPS = 1 << 16  # operators that are followed back; a chain of more has no one to read of it


def where_inference_ended(node: Node) -> str:
    """The bound or the operator at which the shapes in front of an operator got lost; "" where they are known.

    It follows the first value of unknown rank, or else of unknown lengths, from the inputs back to where it began.
    """
    if failure := node.scope.graph.inference_failure:
        return f"shape inference failed: {failure}"
    for rank in (True, False):
        for name in _unknown(node, rank=rank):
            return _followed(node.scope, name, rank=rank)
    return ""


def _unknown(node: Node, *, rank: bool) -> list[str]:
    """The inputs that are no constants and of which the rank, or the lengths, are unknown."""
    found = []
    for index, name in enumerate(node.inputs):
        if name and not node.is_constant(index) and _is_unknown(shapes.of(node.scope, name), rank=rank):
            found.append(name)
    return found


def _is_unknown(shape: Shape | None, *, rank: bool) -> bool:
    return shape is None or (not rank and not all(isinstance(size, int) for size in shape))


def _followed(scope: Scope, name: str, *, rank: bool) -> str:
    for _ in range(STEPS):
        owner = scope.owner(name)
        producer = None if owner is None else owner.producers.get(name)
        if owner is None or producer is None:
            return _of_input(shapes.of(scope, name), name)
        before = _unknown(producer, rank=rank)
        if not before:
            what = "the rank of its result is" if rank else "lengths of its result are"
            return f"shape inference ended at {producer.label!r} ({producer.op}): {what} unknown"
        scope, name = owner, before[0]
    return ""


def _of_input(shape: Shape | None, name: str) -> str:
    if shape is None:
        return f"the input {name!r} has no declared shape"
    return f"the input {name!r} is {' x '.join('?' if size is None else str(size) for size in shape)}"
