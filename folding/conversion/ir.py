"""The IR version: what a model's parts need, and the range that a target takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

from folding.conversion.dimensions import all_graphs, values_of
from folding.editing.surgery import replace
from folding.errors import OptionError
from folding.graph.index import FIRST_IR_WITH_DEFAULTS
from folding.graph.node import bodies
from folding.report.changes import Change

if TYPE_CHECKING:
    from collections.abc import Iterator

    from folding.onnxfile import OnnxFile

# The IR version that brought a type or a part of a model which an older reader would misread (onnx.proto, `Version`).
# What an older reader may pass over (metadata, annotations, training) needs none.
TYPES = {
    4: ("BFLOAT16",),
    9: ("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"),
    10: ("UINT4", "INT4"),
    11: ("FLOAT4E2M1",),
    12: ("FLOAT8E8M0",),
    13: ("UINT2", "INT2"),
    14: ("FLOAT6E2M3", "FLOAT6E3M2"),
}
_KNOWN = dict(TensorProto.DataType.items())  # older packages lack some of them
OF_TYPE = {_KNOWN[name]: ir for ir, names in TYPES.items() for name in names if name in _KNOWN}
SPARSE, FUNCTIONS, OPTIONALS, FUNCTION_DEFAULTS, OVERLOADS = 6, 8, 8, 9, 10
TYPED = frozenset({"to", "dtype", "output_dtype"})  # attributes that name a type


def of_opset(opset: int) -> int:
    """The IR version that was released with an operator set; every runtime that knows this set reads it."""
    return int(helper.OP_SET_ID_VERSION_MAP[("ai.onnx", opset)])


def fit(file: OnnxFile, lowest: int, highest: int) -> list[Change]:
    """Raise or lower the IR version into a range; inside of it, raise it to what the model's parts need.

    Raises:
        OptionError: a part of the model needs a newer one than `highest`; which part.
    """
    model, old = file.model, int(file.model.ir_version)
    needed, why = max(_needs(model), default=(1, ""))
    if needed > highest:
        raise OptionError(
            f"IR version {highest} has no {why} (it came with {needed}); remove it, or choose another target"
        )
    new = min(max(old, lowest, needed), highest)
    if new == old:
        return []
    if old < FIRST_IR_WITH_DEFAULTS <= new:
        _withdraw_defaults(model.graph)
    elif new < FIRST_IR_WITH_DEFAULTS <= old:
        _declare_defaults(model.graph)
    model.ir_version = new
    return [Change("converted", f"IR version {old} to {new}")]


def _withdraw_defaults(graph: onnx.GraphProto) -> None:
    """Before IR 4 every initializer is an input, which no caller overrides; from 4 on it would be a default value."""
    names = {tensor.name for tensor in graph.initializer} | {sparse.values.name for sparse in graph.sparse_initializer}
    kept = [value for value in graph.input if value.name not in names]
    if len(kept) < len(graph.input):
        replace(graph.input, kept)


def _declare_defaults(graph: onnx.GraphProto) -> None:
    known = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if tensor.name not in known:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))


def _needs(model: onnx.ModelProto) -> Iterator[tuple[int, str]]:
    """The IR versions that parts of a model need, and the words for them."""
    if model.functions:
        yield FUNCTIONS, "model-local functions"
    every = [*all_graphs(model.graph)]
    for function in model.functions:
        if function.attribute_proto:
            yield FUNCTION_DEFAULTS, f"default values of attributes, as those of the function {function.name!r}"
        if function.overload:
            yield OVERLOADS, f"overloads, as that of the function {function.name!r}"
        every += [g for node in function.node for one in bodies(node) for g in all_graphs(one)]
        yield from (need for node in function.node for need in _of_attributes(node))
    for graph in every:
        if graph.sparse_initializer:
            yield SPARSE, f"sparse initializers, as {graph.sparse_initializer[0].values.name!r}"
        tensors = [*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)]
        yield from (_of_type(tensor.data_type, tensor.name) for tensor in tensors if tensor.data_type in OF_TYPE)
        yield from (need for value in values_of(graph) for need in _of_value(value))
        yield from (need for node in graph.node for need in _of_attributes(node))


def _of_type(code: int, name: str) -> tuple[int, str]:
    return OF_TYPE[code], f"type {TensorProto.DataType.Name(code).lower()}, which {name!r} has"


def _of_value(value: onnx.ValueInfoProto) -> Iterator[tuple[int, str]]:
    kind = value.type.WhichOneof("value")
    if kind in ("optional_type", "sparse_tensor_type"):
        yield OPTIONALS, f"{kind.removesuffix('_type').replace('_', ' ')}s, as {value.name!r}"
    elif kind == "tensor_type" and value.type.tensor_type.elem_type in OF_TYPE:
        yield _of_type(value.type.tensor_type.elem_type, value.name)


def _of_attributes(node: onnx.NodeProto) -> Iterator[tuple[int, str]]:
    for attribute in node.attribute:
        name = next(iter(node.output), node.name)
        if attribute.HasField("t") and attribute.t.data_type in OF_TYPE:
            yield _of_type(attribute.t.data_type, name)
        elif attribute.name in TYPED and attribute.i in OF_TYPE:
            yield _of_type(attribute.i, name)
