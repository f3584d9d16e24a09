"""How many bytes a move adds to the file, and the note that says why a file grew."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from folding.graph.dtypes import dtype_of
from folding.refusal import require
from folding.report.digest import file_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from folding.graph.index import Graph, Scope
    from folding.graph.node import Node
    from folding.planning.plan import Move

GROWTH = 1 << 16  # bytes that a move may add without removing a normalization: biases have some KiB
NOTED = 1 << 10  # bytes by which a file grows without a note
SHOWN = 3  # constants in the note


def require_small(move: Move, *, normalizes: bool) -> None:
    """Require that a move which removes no normalization does not copy or write out a large constant.

    Raises:
        Refused: "no-gain".
    """
    if normalizes:
        return
    for edit in move.edits:
        for index, weight in edit.constants.items():
            added = weight.nbytes - (_freed(edit.node.scope, edit.node.inputs[index]) if edit.node.has(index) else 0)
            reason = f"it would add a constant of {file_size(added)} to the file"
            require(added <= GROWTH, "no-gain", reason, edit.node.label)


def _freed(scope: Scope, name: str) -> int:
    """The bytes that leave the file with the only reader of a constant; 0 if it has others.

    What a fold made is in the file anyway; others read it only because equal constants are made once.
    """
    if name in scope.weights:
        return scope.weights[name].nbytes
    if scope.owner(name) is not scope or len(scope.uses.get(name, ())) > 1:
        return 0
    maker = scope.producers.get(name)
    if maker is None:
        return _nbytes(scope, name) if name in scope.initializers else 0
    if maker.op == "Constant" and scope.values.is_constant(scope, name):
        return int(scope.values.array(scope, name).nbytes)
    return sum(_freed(scope, source) for source in {*maker.inputs} if source)


def _nbytes(scope: Scope, name: str) -> int:
    return _size(scope.initializers[name])


def _payload(constant: Node) -> int:
    """The bytes of a Constant's tensor; the other forms are small."""
    attribute = constant.attribute_proto("value")
    return 0 if attribute is None else _size(attribute.t)


def _size(tensor: onnx.TensorProto) -> int:
    dtype = dtype_of(tensor.data_type)
    return 0 if dtype is None else math.prod(tensor.dims[:]) * dtype.itemsize


def explained(graph: Graph, copied: Mapping[str, str]) -> str:
    """A note on the constants that made the file larger, "" if it did not grow; `copied` are originals by copy."""
    grown: dict[str, int] = {}
    gone = 0
    for scope in graph.scopes:
        for name, weight in scope.weights.items():
            grown[name] = weight.nbytes - (_nbytes(scope, name) if name in scope.initializers else 0)
        gone += sum(_nbytes(scope, name) for name in scope.dropped & scope.initializers.keys() - scope.weights.keys())
        gone += sum(_payload(node) for node in scope.nodes if node.removed and node.op == "Constant")
    added = sum(grown.values()) - gone
    if added < NOTED:
        return ""
    largest = sorted((name for name in grown if grown[name] > 0), key=lambda name: -grown[name])
    shown = [f"{name!r} {file_size(grown[name])}{_why(graph, copied.get(name, ''))}" for name in largest[:SHOWN]]
    more = f" and {len(largest) - SHOWN} smaller ones" if len(largest) > SHOWN else ""
    return f"the constants of the file grow by {file_size(added)}: {', '.join(shown)}{more}"


def _why(graph: Graph, original: str) -> str:
    read = original and any(scope.uses.get(original) or original in scope.outputs for scope in graph.scopes)
    return f" (a copy, because others read {original!r} too)" if read else ""
