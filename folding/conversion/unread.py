"""Remove constants that nothing reads any more, and the operators that only made them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import onnx

from folding.conversion.dimensions import all_graphs
from folding.editing.surgery import replace
from folding.graph.index import FIRST_IR_WITH_DEFAULTS
from folding.graph.node import STANDARD_DOMAINS, bodies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from folding.conversion.here import Body


def remove_unread(model: onnx.ModelProto, names: Iterable[str]) -> None:
    """Remove those of these constants that nothing in the model refers to any more."""
    waiting = sorted({name for name in names if name})
    if not waiting:
        return
    uses = Counter(references(model))
    every = [*all_graphs(model.graph)]
    for function in model.functions:
        every += [function, *(g for node in function.node for one in bodies(node) for g in all_graphs(one))]
    makers = {name: node for body in every for node in body.node for name in node.output if _is_pure(node)}
    gone: set[str] = set()
    nodes: set[str] = set()  # first outputs
    while waiting:
        name = waiting.pop()
        if uses[name] or name in gone:
            continue
        gone.add(name)
        maker = makers.get(name)
        if maker is not None and maker.output[0] not in nodes and not any(uses[output] for output in maker.output):
            nodes.add(maker.output[0])
            for source in maker.input:
                uses[source] -= 1
                waiting.append(source)
    for body in reversed(every):
        _drop(body, gone, nodes, with_inputs=body is model.graph and model.ir_version < FIRST_IR_WITH_DEFAULTS)


def _is_pure(node: onnx.NodeProto) -> bool:
    """Whether it is a standard operator without bodies, all of which compute from their inputs only."""
    return bool(node.output) and node.domain in STANDARD_DOMAINS and not any(True for _ in bodies(node))


def _drop(body: Body, gone: set[str], nodes: set[str], *, with_inputs: bool) -> None:
    if any(node.output and node.output[0] in nodes for node in body.node):
        replace(body.node, [node for node in body.node if not (node.output and node.output[0] in nodes)])
    fields = ["value_info"]
    if isinstance(body, onnx.GraphProto):
        constants = gone & {tensor.name for tensor in body.initializer}
        if with_inputs and constants:
            replace(body.input, [value for value in body.input if value.name not in constants])
        fields.append("initializer")
    for field in fields:
        kept = [one for one in getattr(body, field) if one.name not in gone]
        if len(kept) < len(getattr(body, field)):
            replace(getattr(body, field), kept)


def references(model: onnx.ModelProto) -> Iterator[str]:
    """Every name that something refers to, as often as it does; also what a training or quantization refers to."""
    graphs = [*all_graphs(model.graph)]
    for info in model.training_info:
        graphs += [*all_graphs(info.initialization), *all_graphs(info.algorithm)]
        for entry in (*info.initialization_binding, *info.update_binding):
            yield from (entry.key, entry.value)
    for function in model.functions:
        yield from function.output
        yield from (name for node in function.node for name in node.input)
        graphs += [g for node in function.node for one in bodies(node) for g in all_graphs(one)]
    for graph in graphs:
        yield from (name for node in graph.node for name in node.input)
        yield from (value.name for value in graph.output)
        for note in graph.quantization_annotation:
            yield note.tensor_name
            yield from (entry.value for entry in note.quant_parameter_tensor_names)
