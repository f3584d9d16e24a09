"""Models of one operator each, of every version and for every type: what a runtime makes of them is what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, defs, helper

from tests.support.targets.rows import NEWEST, Row, Rows, main_constraint, meanings, merged, ordered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TYPES = {f"tensor({name.lower()})": code for name, code in TensorProto.DataType.items()}
PREFERRED = ("tensor(float)", "tensor(int64)", "tensor(bool)", "tensor(uint8)", "tensor(int8)", "tensor(int32)")
# What an operator must be given and ONNX has no default for.
REQUIRED: dict[str, dict[str, Any]] = {
    "AveragePool": {"kernel_shape": [1, 1]}, "BitCast": {"to": TensorProto.FLOAT}, "BitShift": {"direction": "LEFT"},
    "Cast": {"to": TensorProto.FLOAT}, "Concat": {"axis": 0}, "DepthToSpace": {"blocksize": 1},
    "Einsum": {"equation": "ij->ij"}, "GroupNormalization": {"num_groups": 1}, "LpPool": {"kernel_shape": [1, 1]},
    "LRN": {"size": 1}, "MaxPool": {"kernel_shape": [1, 1]}, "MaxRoiPool": {"pooled_shape": [1, 1]},
    "MaxUnpool": {"kernel_shape": [1, 1]}, "Pad": {"pads": [0, 0, 0, 0]}, "RandomNormal": {"shape": [1]},
    "RandomUniform": {"shape": [1]}, "Slice": {"starts": [0], "ends": [1]}, "SpaceToDepth": {"blocksize": 1},
    "Squeeze": {"axes": [0]}, "TopK": {"k": 1}, "Unsqueeze": {"axes": [0]}, "Upsample": {"scales": [1.0, 1.0]},
    "Split": {"num_outputs": 1}, "Tile": {}, "RNN": {"hidden_size": 1}, "GRU": {"hidden_size": 1},
    "LSTM": {"hidden_size": 1}, "Attention": {"q_num_heads": 1, "kv_num_heads": 1},
}  # fmt: skip
BY_ATTRIBUTE = frozenset({"BitCast", "Cast", "ConstantOfShape", "EyeLike"})  # an attribute says the type of the result
ONE_OF = {"Resize": ("scales",)}
SKIPPED = frozenset({"Constant", "If", "Loop", "Scan", "SequenceMap", "TfIdfVectorizer", "ImageDecoder"})


def one_node(schema: defs.OpSchema, opset: int, types: dict[str, str]) -> onnx.ModelProto:
    """A model of one operator, whose inputs have these types and unknown shapes."""
    inputs = [value if is_given(schema, value) else None for value in schema.inputs]
    while inputs and inputs[-1] is None:
        inputs.pop()
    names = [f"x{index}" if value else "" for index, value in enumerate(inputs)]
    values = [
        helper.make_tensor_value_info(name, TYPES[types.get(value.type_str, value.type_str)], None)
        for name, value in zip(names, inputs, strict=True)
        if value
    ]
    given = {name: value for name, value in REQUIRED.get(schema.name, {}).items() if name in schema.attributes}
    if schema.name in {"Cast", "BitCast"}:
        given["to"] = TYPES[types["T2"]]
    if schema.name in {"ConstantOfShape", "EyeLike"} and "T2" in types:
        code = TYPES[types["T2"]]
        given |= {"dtype": code} if schema.name == "EyeLike" else {"value": helper.make_tensor("v", code, [1], [1])}
    results = [value for value in schema.outputs if value.option != defs.OpSchema.FormalParameterOption.Optional]
    outputs = [f"y{index}" for index in range(max(1, len(results)))]
    node = helper.make_node(schema.name, names, outputs, **given)
    graph = helper.make_graph([node], "probe", values, [onnx.ValueInfoProto(name=name) for name in outputs])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])


def tensor_types(schema: defs.OpSchema) -> dict[str, list[str]]:
    """The types of tensors that each type constraint allows, of those that allow any."""
    listed = {
        constraint.type_param_str: [name for name in constraint.allowed_type_strs if name in TYPES]
        for constraint in schema.type_constraints
    }
    return {name: types for name, types in listed.items() if types}


def usual_types(schema: defs.OpSchema) -> dict[str, str]:
    """The types that models have most often."""
    chosen = tensor_types(schema)
    return {name: next((one for one in PREFERRED if one in types), types[0]) for name, types in chosen.items()}


def is_given(schema: defs.OpSchema, value: defs.OpSchema.FormalParameter) -> bool:
    """Whether a probe has an input: those that must be, and of those of which one must be, one."""
    return value.option != defs.OpSchema.FormalParameterOption.Optional or value.name in ONE_OF.get(schema.name, ())


def rows(takes: Callable[[onnx.ModelProto], bool], *, typed: bool = True) -> Rows:
    """The operators that a runtime takes, by asking it for each version and each type of each type constraint.

    If it chooses the types that it computes in by itself (`typed` is false), it is asked for each version once.
    """
    found: Rows = {}
    for op in sorted({schema.name for schema in defs.get_all_schemas() if not schema.domain} - SKIPPED):
        listed = [row for meaning in meanings(op, 1, NEWEST) for row in _row(takes, *meaning, typed=typed)]
        if listed:
            found[op] = merged(listed)
    return found


def _row(
    takes: Callable[[onnx.ModelProto], bool], first: int, last: int, schema: defs.OpSchema, *, typed: bool
) -> Iterator[Row]:
    limited = tensor_types(schema)
    if any(is_given(schema, value) and value.type_str not in {*TYPES, *limited} for value in schema.inputs):
        return  # sequences
    usual = usual_types(schema)
    if not typed or not limited:
        if takes(one_node(schema, last, usual)):
            yield Row(first, last)
        return
    given = {value.type_str for value in schema.inputs if is_given(schema, value)}
    types = {
        name: frozenset(
            one.removeprefix("tensor(").removesuffix(")")
            for one in listed
            if takes(one_node(schema, last, usual | {name: one}))
        )
        for name, listed in limited.items()
        if name in given or schema.name in BY_ATTRIBUTE
    }
    if all(types.values()):
        yield Row(first, last, ordered(types, main_constraint(schema)))
