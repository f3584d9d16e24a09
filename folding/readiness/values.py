"""The element types of values, by ONNX's names; a value whose type nobody knows has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.graph.node import SHAPE_READERS
from folding.targets.model import DOMAIN_MARK

if TYPE_CHECKING:
    from folding.graph.index import Scope
    from folding.graph.node import Node

# By the number that ONNX's TensorProto.DataType gives them; 0 is undefined
NAMES = (
    "", "float", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16", "double", "uint32",
    "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz",
    "uint4", "int4", "float4e2m1", "float8e8m0", "uint2", "int2",
)  # fmt: skip
SPELLED = {"float32": "float", "float64": "double", "float8_e4m3fn": "float8e4m3fn", "float8_e5m2": "float8e5m2"}


def type_of(scope: Scope, name: str) -> str:
    """The element type of a value; "" if it is unknown."""
    owner = scope.owner(name)
    if owner is None:
        return ""
    if name in owner.weights:  # a constant that a fold made
        dtype = owner.weights[name].dtype.name
        return SPELLED.get(dtype, dtype)
    code = owner.initializers[name].data_type if name in owner.initializers else owner.types.get(name, 0)
    return NAMES[code] if code < len(NAMES) else ""


def constrained(node: Node) -> list[tuple[str, str]]:
    """The values of an operator, inputs first: the type constraint of each, as its schema names it, and its name."""
    if DOMAIN_MARK in node.op:
        return [("", name) for name in (*node.inputs, *node.outputs) if name]
    schema = node.scope.graph.schema(node.op)
    found = []
    for formal, names in ((schema.inputs, node.inputs), (schema.outputs, node.outputs)):
        for index, name in enumerate(names):
            if name and formal:
                found.append((formal[min(index, len(formal) - 1)].type_str, name))  # the last may be repeated
    return found


def known_ahead(scope: Scope) -> set[str]:
    """The values that follow from constants and sizes alone.

    ONNX Runtime computes them on the CPU on purpose: those of constants when it loads a model, sizes at run time.
    """
    found: set[str] = set()
    for node in scope.nodes:
        given = [name for name in node.inputs if name]
        others = (name for name in given if name not in found)
        if node.op in SHAPE_READERS or (given and all(scope.values.is_constant(scope, name) for name in others)):
            found.update(node.outputs)
    return found
