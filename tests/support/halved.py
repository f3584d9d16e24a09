"""Models with everything in 16 bits: what a plain converter makes, for tests of what judges such models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterable

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
DTYPES = {
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    FLOAT: np.dtype(np.float32),
}
FLOATS_ONLY = {("Resize", 1), ("Resize", 2), ("Upsample", 1), ("NonMaxSuppression", 0), ("NonMaxSuppression", 1)}


def lowered(model: onnx.ModelProto, code: int = TensorProto.FLOAT16, *, inputs: bool = False) -> onnx.ModelProto:
    """The model with every float32 value in a 16-bit type; its inputs and outputs stay as they are unless `inputs`.

    Each constant is rounded once, and nothing is done about what the type cannot hold.
    """
    return _Lowering(FLOAT, code, inputs=inputs).model(model)


def single(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of float64 in float32."""
    return _Lowering(DOUBLE, FLOAT, inputs=True).model(model)


class _Lowering:
    def __init__(self, source: int, code: int, *, inputs: bool) -> None:
        self._source, self._code, self._inputs = source, code, inputs
        self._renamed: dict[str, str] = {}

    def model(self, model: onnx.ModelProto) -> onnx.ModelProto:
        result = onnx.ModelProto()
        result.CopyFrom(model)
        graph = result.graph
        held = {tensor.name for tensor in graph.initializer}
        before = [self._cast(value, self._code) for value in self._declared(graph.input) if value.name not in held]
        after = [self._cast(value, self._source) for value in self._declared(graph.output)]
        self._graph(graph)
        for attribute in [a for function in result.functions for node in function.node for a in node.attribute]:
            self._held(attribute)
        nodes = [*before, *graph.node, *after] if not self._inputs else list(graph.node)
        del graph.node[:]
        graph.node.extend(nodes)
        return result

    def _declared(self, values: Iterable[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
        """The values to cast; where inputs change, they change here."""
        chosen = [value for value in values if value.type.tensor_type.elem_type == self._source]
        for value in chosen if self._inputs else []:
            value.type.tensor_type.elem_type = self._code
        return [] if self._inputs else chosen

    def _cast(self, value: onnx.ValueInfoProto, code: int) -> onnx.NodeProto:
        name = self._renamed[value.name] = f"{value.name}_lowered"
        ends = (value.name, name) if code == self._code else (name, value.name)
        return helper.make_node("Cast", ends[:1], ends[1:], to=code)

    def _graph(self, graph: onnx.GraphProto) -> None:
        kept = {n for node in graph.node for place, n in enumerate(node.input) if (node.op_type, place) in FLOATS_ONLY}
        for tensor in graph.initializer:
            if tensor.name not in kept:
                self._tensor(tensor)
        del graph.value_info[:]
        for node in graph.node:
            node.input[:] = [self._renamed.get(name, name) for name in node.input]
            node.output[:] = [self._renamed.get(name, name) for name in node.output]
            if node.op_type == "ConstantOfShape" and not node.attribute:
                zero = numpy_helper.from_array(np.zeros(1, np.float32))
                node.attribute.append(helper.make_attribute("value", zero))
            for attribute in [] if kept & set(node.output) else node.attribute:
                self._attribute(node, attribute)

    def _attribute(self, node: onnx.NodeProto, attribute: onnx.AttributeProto) -> None:
        self._held(attribute)
        if node.op_type == "Constant" and attribute.name in {"value_float", "value_floats"} and self._source == FLOAT:
            values: Any = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            attribute.CopyFrom(helper.make_attribute("value", self._rounded(np.asarray(values, np.float32), "")))
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for value in (*graph.input, *graph.output):
                if value.type.tensor_type.elem_type == self._source:
                    value.type.tensor_type.elem_type = self._code
            self._graph(graph)

    def _held(self, attribute: onnx.AttributeProto) -> None:
        """Round the constant in an attribute, or let the attribute name the other type."""
        if attribute.name in {"to", "dtype"} and attribute.i == self._source:
            attribute.i = self._code
        if attribute.HasField("t"):
            self._tensor(attribute.t)
        if attribute.HasField("sparse_tensor"):
            self._tensor(attribute.sparse_tensor.values)

    def _tensor(self, tensor: TensorProto) -> None:
        if tensor.data_type == self._source:
            tensor.CopyFrom(self._rounded(numpy_helper.to_array(tensor), tensor.name))

    def _rounded(self, values: Any, name: str) -> TensorProto:
        with np.errstate(over="ignore"):
            rounded = np.asarray(values).astype(DTYPES[self._code])
        return helper.make_tensor(name, self._code, rounded.shape, rounded.tobytes(), raw=True)
