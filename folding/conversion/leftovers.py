"""Remove what only training needs: its information, and outputs that nothing reads."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from folding.conversion.dimensions import all_graphs
from folding.conversion.unread import references
from folding.editing.surgery import replace
from folding.graph.node import STANDARD_DOMAINS, bodies
from folding.report.changes import EXAMPLES, Change

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from folding.conversion.here import Body
    from folding.onnxfile import OnnxFile

# The operators with outputs for training, and the opset from which on fewer of them mean nothing else: before 14 the
# number of a BatchNormalization's outputs said whether it trains.
SINCE = {"Dropout": 1, "BatchNormalization": 14}
WORDS = {"Dropout": "mask of Dropout removed", "BatchNormalization": "statistics of BatchNormalization removed"}


def strip(file: OnnxFile) -> list[Change]:
    """Remove training information, masks and running statistics that nothing reads; a target takes none of them."""
    model, changes = file.model, []
    if model.training_info:
        changes.append(Change("converted", "training information removed", len(model.training_info)))
        del model.training_info[:]
    uses = Counter(references(model))
    found: dict[str, list[str]] = {}
    for body, opset in _bodies(model):
        gone = set()
        for node in body.node:
            extra = [name for name in node.output[1:] if name]
            if _has_leftovers(node, opset) and extra and not any(uses[name] for name in extra):
                del node.output[1:]
                gone |= set(extra)
                found.setdefault(node.op_type, []).append(node.name or node.output[0])
        if any(value.name in gone for value in body.value_info):
            replace(body.value_info, [value for value in body.value_info if value.name not in gone])
    changes += [
        Change("converted", WORDS[op], len(labels), tuple(labels[:EXAMPLES])) for op, labels in sorted(found.items())
    ]
    return changes


def _has_leftovers(node: onnx.NodeProto, opset: int) -> bool:
    trains = any(a.name == "training_mode" and (a.i or a.ref_attr_name) for a in node.attribute)  # it needs its outputs
    return node.domain in STANDARD_DOMAINS and opset >= SINCE.get(node.op_type, opset + 1) and not trains


def _bodies(model: onnx.ModelProto) -> Iterator[tuple[Body, int]]:
    """All graphs and functions, with the version of the standard operator set."""
    yield from ((graph, _version(model)) for graph in all_graphs(model.graph))
    for function in model.functions:
        yield function, _version(function)
        nested = (g for node in function.node for one in bodies(node) for g in all_graphs(one))
        yield from ((graph, _version(function)) for graph in nested)


def _version(body: onnx.ModelProto | onnx.FunctionProto) -> int:
    return next((int(entry.version) for entry in body.opset_import if entry.domain in STANDARD_DOMAINS), 1)
