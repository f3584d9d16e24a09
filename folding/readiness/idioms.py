"""What a target has one operator for, and a model writes out in a form that the target does not recognize."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.graph import idioms
from folding.graph.matching import matches, parse
from folding.readiness.values import type_of
from folding.report.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from folding.graph.idioms import Occurrence
    from folding.graph.index import Graph
    from folding.targets.model import Target


def of_idioms(graph: Graph, target: Target) -> Iterator[Finding]:
    """One finding for each occurrence of an idiom that runs as several operators, and need not."""
    for occurrence in dict.fromkeys(idioms.find(graph).values()):
        name = occurrence.idiom.name
        advice = _advice(occurrence, graph, target)
        if advice and not _is_recognized(occurrence, target):
            sentence = (
                f"{name} is written with {len(occurrence.nodes)} operators, in no form that {target.title} is known "
                f"to recognize; it has {occurrence.idiom.operator} for it"
            )
            last = occurrence.last
            yield Finding(last.label, last.op, "unfused", "idiom", sentence, target.source, advice)


def first_opsets(graph: Graph, target: Target, keeps: Callable[[str], bool]) -> list[int]:
    """For each occurrence of an idiom that may be one operator of the target, the first operator set in which it is.

    Also of those that the target recognizes: its other optimizations may tear such a form apart first, as ONNX
    Runtime's does that moves a Transpose into a LayerNormalization written out. Not of those with an operator whose
    label `keeps` accepts: they stay as they are.
    """
    every = dict.fromkeys(idioms.find(graph).values())
    found = [one for one in every if not any(keeps(node.label) for node in one.nodes)]
    opsets = (_opset(occurrence, graph, target, expanded=True) for occurrence in found)
    return [opset for opset in opsets if opset]


def _advice(occurrence: Occurrence, graph: Graph, target: Target) -> str:
    """How the occurrence becomes the operator that the target has; "" if it has none."""
    opset = _opset(occurrence, graph, target)
    if not opset:
        return ""
    return "give fuse=True" if opset == graph.opset else f"give fuse=True and opset={opset}"


def _opset(occurrence: Occurrence, graph: Graph, target: Target, *, expanded: bool = False) -> int:
    """The first operator set, from the model's on, in which the occurrence is an operator of the target; 0: none.

    `expanded`: also one that the runtime expands again. The table of idioms has those of which it then makes less than
    of the parts: HardSwish becomes part of the convolution before it in ONNX Runtime.
    """
    operator = occurrence.idiom.operator
    known = target.operators.get(operator)
    if occurrence.is_bias or known is None or target.idioms.get(occurrence.idiom.name) != "operator":
        return 0
    opset = max(graph.opset, known.opsets[0])
    span = known.span(opset)
    dtype = type_of(occurrence.last.scope, occurrence.last.output) or None
    if (
        span is None
        or (span.is_expanded and not expanded)
        or opset > target.opset[1]
        or not target.takes(operator, opset, dtype)
    ):
        return 0
    return opset


def _is_recognized(occurrence: Occurrence, target: Target) -> bool:
    """Whether the target fuses the form in which it is written."""
    last = occurrence.last
    forms = target.recognized.get(occurrence.idiom.name, ())
    return any(matches(last.scope, parse(form), last.output) is not None for form in forms)
