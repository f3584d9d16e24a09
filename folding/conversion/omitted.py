"""Inputs of model-local functions that some call leaves out: an operator that reads one may have no such input.

In ``Clip(x, low, high)`` a function hands that on. In ``Min(Max(x, low), high)`` it cannot: Max and Min need theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.conversion.adapters.node import NoFormError
from folding.graph.node import bodies
from folding.onnxfile import function_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import onnx

    from folding.conversion.here import Here


def require_given(names: Iterable[str], here: Here) -> None:
    """Raise NoFormError if one of these is an input of this function that a call leaves out."""
    absent = next((name for name in names if name in here.omitted), None)
    if absent is not None:
        raise NoFormError(f"its input {absent!r} is one of a function, and a call leaves it out")


def omitted(model: onnx.ModelProto) -> list[set[str]]:
    """For each function, the names of the inputs that a call leaves out, or hands on from one that is left out."""
    numbers = {function_key(f.domain, f.name, f.overload): n for n, f in enumerate(model.functions)}
    found: list[set[str]] = [set() for _ in model.functions]
    outer = [model.graph.node, *(g.node for t in model.training_info for g in (t.initialization, t.algorithm))]
    callers = [*((nodes, set[str]()) for nodes in outer), *zip((f.node for f in model.functions), found, strict=True)]
    before = -1
    while before < (before := sum(map(len, found))):
        for nodes, absent in callers:
            for node in _nested(nodes):
                number = numbers.get(function_key(node.domain, node.op_type, node.overload))
                if number is not None:
                    given = [*node.input, *[""] * len(model.functions[number].input)]
                    names = zip(model.functions[number].input, given, strict=False)
                    found[number].update(name for name, source in names if not source or source in absent)
    return found


def _nested(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for inner in bodies(node):
            yield from _nested(inner.node)
