"""Several operators as one, and one as several: an operator to be, as data, and what takes the place of others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper

from folding.analysis import constants
from folding.editing.surgery import (
    Attribute,
    connect,
    disconnect,
    drop_if_unread,
    home,
    is_needed,
    remove,
    retype,
    set_attributes,
)
from folding.graph.node import Node, bodies

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np

    from folding.graph.index import Scope
    from folding.graph.weights import Weight


@dataclass(frozen=True, eq=False)
class Made:
    """An operator to be: its inputs are names, "" where one is absent, new constants, and other operators to be."""

    op: str
    inputs: tuple[str | Weight | Made, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


def cast(value: str | Made, dtype: np.dtype[Any]) -> Made:
    """A Cast to a type."""
    return Made("Cast", (value,), {"to": helper.np_dtype_to_tensor_dtype(dtype)})


def become(node: Node, made: Made, others: Iterable[Node], site: str) -> None:
    """Turn the last of several operators into one that computes what all of them did, and remove the others.

    `site` is the key of new constants. What nothing reads any more, such as a Shape of a value, goes too.
    """
    placed: dict[Made, str] = {}
    names = [_placed(node, given, f"{node.label}.{index}", site, placed) for index, given in enumerate(made.inputs)]
    former = [name for other in (node, *others) for name in other.inputs]
    for index in range(len(node.inputs)):
        disconnect(node, index)
    del node.inputs[:], node.proto.input[:]
    retype(node, made.op, made.attributes)
    for index, name in enumerate(names):
        connect(node, index, name)
    for other in others:
        if other is not node:
            remove(other)
    for name in former:
        if name not in names:
            remove_unread(node.scope, name)


def _placed(node: Node, given: str | Weight | Made, wish: str, site: str, placed: dict[Made, str]) -> str:
    """The name of an input; an operator to be is inserted ahead of the one that reads it, once."""
    if isinstance(given, str):
        return given
    if not isinstance(given, Made):
        return new_constant(node, given, wish, site)
    if given not in placed:
        scope, name = node.scope, node.scope.graph.fresh_name(f"{node.label}.{given.op.lower()}")
        inputs = [_placed(node, one, f"{name}.{index}", site, placed) for index, one in enumerate(given.inputs)]
        new = Node(onnx.NodeProto(op_type=given.op, output=[name], name=name), scope)
        set_attributes(new, given.attributes)
        scope.nodes.insert_ahead(node, new)
        scope.producers[name], placed[given] = new, name
        scope.restructured = True
        for index, source in enumerate(inputs):
            connect(new, index, source)
        if (code := _type_of(scope, given, inputs)) is not None:
            scope.types[name] = code
    return placed[given]


def _type_of(scope: Scope, made: Made, inputs: Sequence[str]) -> int | None:
    """The element type of a result, None if it is unknown."""
    if made.op == "Cast":
        return int(made.attributes["to"])  # type: ignore[arg-type]  # a number
    if made.op == "Shape":
        return onnx.TensorProto.INT64
    dtype = scope.dtype(inputs[0])
    return None if dtype is None else helper.np_dtype_to_tensor_dtype(dtype)


def new_constant(node: Node, weight: Weight, wish: str, site: str) -> str:
    """The name of a new constant for an operator, as close to `wish` as possible; equal constants are shared."""
    scope = home(node.scope)
    digest = weight.digest()
    name = scope.made.get(digest, "")
    if name not in scope.weights or scope.weights[name].digest() != digest:
        name = scope.graph.fresh_name(wish)
        scope.made[digest], scope.weights[name] = name, weight.absorbing(site, None)
    if scope is not node.scope:
        scope.captured.add(name)
    return name


def remove_unread(scope: Scope, name: str) -> None:
    """Remove what made a value, if nothing reads any of its results, and what only that read."""
    waiting = [name]
    while waiting:
        name = waiting.pop()
        node = scope.producers.get(name)
        if constants.is_constant(scope, name):
            drop_if_unread(scope, name)
        elif node is not None and _is_dead(node):
            remove(node)
            waiting += [source for source in node.inputs if source]


def _is_dead(node: Node) -> bool:
    """Whether nothing reads what an operator without nested graphs makes."""
    read = (is_needed(node.scope, output) for output in node.outputs if output)
    return not any(bodies(node.proto)) and not any(read)
