"""The values of small external constants in the message, where shape inference reads them: sizes, axes, scales."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import onnx

from folding.graph.node import bodies
from folding.graph.weights import UnrepresentableError, Weight
from folding.onnxfile import INLINE_BYTES, Span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from folding.onnxfile import OnnxFile


def with_small_values(file: OnnxFile, model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model in which inference finds values instead of markers, also of constants in external data.

    What is larger than a page stays a marker; inference reads no such constant, since no shape has so many lengths.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in _tensors(copy) if file.external_locations else ():
        payload = file.payload(tensor)
        if isinstance(payload, Span) and payload.length <= INLINE_BYTES:
            tensor.raw_data = payload.read()
        elif isinstance(payload, Weight) and payload.nbytes <= INLINE_BYTES:  # of a graph that was written back
            with suppress(UnrepresentableError):
                tensor.raw_data = b"".join([payload.evaluate(start, stop) for start, stop in payload.blocks()])
    return copy


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graphs = [*_graphs(model.graph)]
    graphs += [g for f in model.functions for node in f.node for one in bodies(node) for g in _graphs(one)]
    for body in (*graphs, *model.functions):
        yield from (attribute.t for node in body.node for attribute in node.attribute if attribute.HasField("t"))
    for graph in graphs:
        yield from graph.initializer


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from _graphs(body)
