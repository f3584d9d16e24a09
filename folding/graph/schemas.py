"""What onnx's schemas say of operators in other operator sets than the model's."""

from __future__ import annotations

from functools import cache

from onnx import defs

BRAIN = "tensor(bfloat16)"
# Operators that a runtime refuses in a type before these operator sets, although their data may have it: ONNX defines
# them by others that have it from then on (Where, Pow), or the exponent has it from then on.
DEFINED = {("Clip", BRAIN): 16, ("MeanVarianceNormalization", BRAIN): 15, ("Pow", BRAIN): 15}


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
        data = (*schema.inputs, *schema.outputs)[0].type_str
        allowed = {one.type_param_str: one.allowed_type_strs for one in schema.type_constraints}
        if opset >= DEFINED.get((op, kind), 0) and kind in allowed.get(data, ()):
            return opset
    return lowest


def newest_opset() -> int:
    """The newest operator set that the installed onnx knows."""
    return int(defs.onnx_opset_version())
