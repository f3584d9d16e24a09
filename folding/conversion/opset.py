"""Convert a model to another operator set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import defs

from folding.errors import OptionError
from folding.graph.node import STANDARD_DOMAINS, bodies
from folding.report.changes import Change

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from folding.onnxfile import OnnxFile


def convert(file: OnnxFile, opset: int) -> list[Change]:
    """Convert `file.model` to an operator set; what computes the same in both stays as it is, byte for byte."""
    model = file.model
    entries = [entry for entry in model.opset_import if entry.domain in STANDARD_DOMAINS]
    old = entries[0].version if entries else 1
    if old == opset:
        return []
    for node in _nodes(model):
        if node.domain in STANDARD_DOMAINS and _since(node, old) != _since(node, opset):
            raise OptionError(f"opset: {node.op_type} means something else in opset {opset} than in {old}")
    if entries:
        entries[0].version = opset
    else:
        model.opset_import.add(version=opset)
    return [Change("converted", f"operator set {old} to {opset}")]


def _since(node: onnx.NodeProto, opset: int) -> int:
    try:
        return int(defs.get_schema(node.op_type, opset, "").since_version)
    except defs.SchemaError:
        return 0


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The operators of all graphs and functions."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for body in bodies(node):
            waiting += body.node
