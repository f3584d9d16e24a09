"""Facts that verification needs about a model before it runs: how it rounds, and how many bytes it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx import GraphProto, TensorProto, numpy_helper

from folding.errors import ModelError
from folding.execution import probes
from folding.execution.halves import HALVES, STANDARD, TYPED
from folding.onnxfile import read

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from onnx import AttributeProto, FunctionProto, ModelProto

    from folding.execution.probes import Tap
    from folding.onnxfile import OnnxFile

# The distance from 1 to the next larger number of a type: 2 ** -(bits of its fraction).
EPSILON: dict[int, float] = {
    TensorProto.FLOAT: 2.0**-23,
    TensorProto.FLOAT16: 2.0**-10,
    TensorProto.DOUBLE: 2.0**-52,
    TensorProto.BFLOAT16: 2.0**-7,
}


FIRST_IR_WITH_DEFAULTS = 4  # before it an initializer had to be a graph input, and no caller could override it
PLAIN = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64})  # of `defaults`


STEPS = frozenset({"Ceil", "Floor", "Mod", "Round", "Sign"})  # one rounding more or less may be one step
LENGTHS = frozenset({"Shape", "Size"})


@dataclass(frozen=True)
class Facts:
    """Facts about one model, including nested graphs and functions.

    `epsilon` is the relative spacing of the narrowest floating type in the model, or of float32 if there is none;
    `half` is the name of that type if it has 16 bits.
    `quantizes`: activations, not only weights, are rounded to a few bits or to whole numbers. `nbytes` includes
    external data. `defaults` are the small initializers that a caller may override, because they are graph inputs too
    (IR version 4 on). `channels` are the lengths of axis 1 of the graph inputs that a convolution or a normalization
    reads, `lengths` those that graph inputs declare, by name and axis. `taps` are the values before a last saturating
    operator, by output; `traps` what ONNX Runtime is known to compute wrongly; `folded` some constants that a fold
    changed, `behind` the outputs that depend on each.
    """

    epsilon: float
    half: str
    quantizes: bool
    nbytes: int
    defaults: Mapping[str, NDArray[Any]]
    channels: Mapping[str, int]
    lengths: Mapping[tuple[str, int], int]
    taps: Mapping[str, Tap]
    traps: tuple[str, ...]
    folded: Mapping[str, NDArray[Any]]
    behind: Mapping[str, tuple[str, ...]]


def read_facts(path: str | os.PathLike[str]) -> Facts:
    """The facts of a model file, found without reading its weights.

    Raises:
        ModelError: it is missing, corrupt or unsafe; the message begins with its path.
    """
    try:
        with read(path) as file:
            bodies = list(_bodies(file.model))
            named = {kind for body in bodies for kind in _types(body)}
            narrowest = max(named & EPSILON.keys(), key=EPSILON.__getitem__, default=TensorProto.FLOAT)
            quantizes = any(_quantizes(node.op_type) for body in bodies for node in body.node) or _steps(file.model)
            folded = probes.folded_constants(file)
            return Facts(
                EPSILON[narrowest],
                HALVES.get(narrowest, ""),
                quantizes,
                file.nbytes,
                dict(_defaults(file)),
                dict(_channels(file.model)),
                dict(_lengths(file.model)),
                probes.taps(file.model),
                tuple(f"{trap.what} ({trap.reference})" for trap in probes.traps(file.model)),
                folded,
                probes.outputs_behind(file.model, folded),
            )
    except ModelError as error:
        text = str(error)
        raise type(error)(text if text.startswith(str(path)) else f"{path}: {text}") from error


def _defaults(file: OnnxFile) -> Iterator[tuple[str, NDArray[Any]]]:
    graph = file.model.graph
    inputs = {value.name for value in graph.input} if file.model.ir_version >= FIRST_IR_WITH_DEFAULTS else set()
    for tensor in graph.initializer:
        if tensor.name in inputs and tensor.data_type in PLAIN and file.payload(tensor) is None:
            yield tensor.name, numpy_helper.to_array(tensor)


def _lengths(model: ModelProto) -> Iterator[tuple[tuple[str, int], int]]:
    for value in model.graph.input:
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.HasField("dim_value") and dimension.dim_value >= 0:
                yield (value.name, axis), dimension.dim_value


def _channels(model: ModelProto) -> Iterator[tuple[str, int]]:
    """The channels of graph inputs.

    Weights of Conv are (M, C/group, ...), of ConvTranspose (C, M/group, ...); the scale of a normalization is (C,).
    """
    dims = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    inputs = {value.name for value in model.graph.input} - dims.keys()
    for node in model.graph.node:
        weight = dims.get(node.input[1], ()) if len(node.input) > 1 else ()
        if node.domain in STANDARD and node.input and node.input[0] in inputs and weight:
            group = next((a.i for a in node.attribute if a.name == "group"), 1)
            if node.op_type == "Conv" and len(weight) > 1:
                yield node.input[0], weight[1] * group
            elif node.op_type in {"ConvTranspose", "BatchNormalization"}:
                yield node.input[0], weight[0]


def _bodies(model: ModelProto) -> Iterator[GraphProto | FunctionProto]:
    """Every graph and function; an attribute without a graph adds an empty one, which changes nothing."""
    waiting: list[GraphProto | FunctionProto] = [model.graph, *model.functions]
    while waiting:
        body = waiting.pop()
        yield body
        waiting += [graph for attribute in _attributes(body) for graph in (attribute.g, *attribute.graphs)]


def _attributes(body: GraphProto | FunctionProto) -> Iterator[AttributeProto]:
    return (attribute for node in body.node for attribute in node.attribute)


def _types(body: GraphProto | FunctionProto) -> Iterator[int]:
    """The TensorProto.DataType of every constant, input, output and cast of one body; 0 if it has none."""
    for attribute in _attributes(body):
        if attribute.name in TYPED:
            yield attribute.i
        yield from (tensor.data_type for tensor in (attribute.t, *attribute.tensors))
        yield from (sparse.values.data_type for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors))
    if isinstance(body, GraphProto):
        yield from (tensor.data_type for tensor in body.initializer)
        yield from (sparse.values.data_type for sparse in body.sparse_initializer)
        yield from (value.type.tensor_type.elem_type for value in (*body.input, *body.output))


def _steps(model: ModelProto) -> bool:
    """Whether an operator of the main graph rounds data to whole numbers or to signs; lengths are no data."""
    data = {value.name for value in model.graph.input} - {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if not data.isdisjoint(node.input):
            if node.op_type in STEPS and node.domain in STANDARD:
                return True
            if node.op_type not in LENGTHS:
                data.update(node.output)
    return False


def _quantizes(operator: str) -> bool:
    return operator.startswith("QLinear") or operator.endswith(("Integer", "QuantizeLinear"))
