"""Masks: large finite numbers that a Softmax turns into zeros, so that any number as low serves as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from folding.graph.node import Edge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from folding.precision.groups import Groups, Reader, Value

SOFTMAX = frozenset({"LogSoftmax", "Softmax"})
# Operators that move a mask, or choose it: the inputs that may hold it.
MOVING: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Cast", "CastLike", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice"), (0,)),
    **dict.fromkeys(("Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze", "ConstantOfShape"), (0,)),
    "Where": (1, 2),
    "ScatterND": (0, 2),
    "ScatterElements": (0, 2),
}
JOINING = frozenset({"Concat", "Max", "Min"})
ADDING = frozenset({"Add", "Sub", "Sum"})
SCALING = frozenset({"Mul"})  # of zeros and ones by the mask
BINARY = frozenset({"bool"})
STEPS = 256  # operators between a mask and its Softmaxes; a graph has one mask for all of its layers
WAY = 64  # operators that make the zeros and ones that a mask is multiplied by


class Mask(NamedTuple):
    """The values that hold a mask on its way, and whether it is added to others there."""

    values: tuple[Value, ...]
    is_added: bool


def mask_of(groups: Groups, readers: Iterable[tuple[int, Reader]]) -> Mask | None:
    """The way of a large constant from its readers to Softmaxes; None if anything else depends on its size."""
    waiting = [reader for _, reader in readers]
    seen: dict[tuple[int, str], Value] = {}
    added = reached = False
    while waiting:
        reader = waiting.pop()
        if not isinstance(reader, Edge) or len(seen) > STEPS:
            return None
        node = reader.node
        if node.op in SOFTMAX:
            reached = True
            continue
        if not _passes(reader):
            return None
        added |= node.op in ADDING
        for name in node.outputs:
            value = groups.value(node.scope, name) if name else None
            if value is None:
                return None
            if (value.scope.index, value.name) not in seen:
                seen[value.scope.index, value.name] = value
                waiting += [reader for _, reader in value.readers]
    return Mask(tuple(seen.values()), added) if reached else None


def _passes(reader: Edge) -> bool:
    node = reader.node
    if node.op in JOINING | ADDING:
        return True
    if node.op in SCALING:
        return _is_binary(reader, 1 - reader.index)
    return reader.index in MOVING.get(node.op, ())


def _is_binary(reader: Edge, index: int) -> bool:
    """Whether an input holds zeros and ones only: made of booleans, or one minus such."""
    scope, name = reader.node.scope, reader.node.inputs[index]
    for _ in range(WAY):
        owner = scope.owner(name)
        producer = None if owner is None else owner.producers.get(name)
        if owner is None or producer is None:
            return False
        if producer.op == "Cast":
            source = producer.dtype(0)
            if source is not None and source.name in BINARY:
                return True
            if source is not None and source.kind in "iu":  # a mask of whole numbers: what a tokenizer makes
                return True
        if producer.op == "Sub" and producer.is_constant(0):
            scope, name = owner, producer.inputs[1]
        elif producer.op in MOVING and producer.op != "Where":
            scope, name = owner, producer.inputs[0]
        else:
            return False
    return False
