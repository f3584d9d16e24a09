"""What onnx's schemas say of operators in other operator sets than the model's."""

from __future__ import annotations

from functools import cache

from onnx import defs


@cache
def first_opset_with(op: str, kind: str, lowest: int, highest: int) -> int:
    """The first operator set between these in which the data of an operator may have a type, "tensor(float16)".

    `lowest` if there is none: no other one helps.
    """
    for opset in range(lowest, highest + 1):
        try:
            schema = defs.get_schema(op, opset, "")
        except defs.SchemaError:
            continue
        if any(kind in constraint.allowed_type_strs for constraint in schema.type_constraints):
            return opset
    return lowest


def newest_opset() -> int:
    """The newest operator set that the installed onnx knows."""
    return int(defs.onnx_opset_version())
