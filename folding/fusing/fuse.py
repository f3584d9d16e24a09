"""Write idioms as the standard operators that they are, where the operator set and the target have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from folding.editing.composing import become
from folding.editing.surgery import note
from folding.fusing import activations, attention, normalizations, products
from folding.fusing.operator import ONNX_NAMES, dtype_of, require_exact, require_same_rank
from folding.graph import idioms
from folding.graph.idioms import BIAS, WRITTEN_OUT
from folding.graph.node import Node
from folding.graph.weights import Weight
from folding.refusal import Refused, require
from folding.report.changes import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from folding.fusing.operator import Operator, Target
    from folding.graph.idioms import Idiom, Occurrence
    from folding.graph.index import Graph

FUSED = "bnfold.fused"  # key in the operator's metadata_props; its value names the operators that it was
KEY = "fuse:"  # before the key of the operator that stays, as `blocked` calls it
ROUNDS = 8  # of finding: an operator may be part of a larger idiom, and none is part of so many


class Writer(NamedTuple):
    """What an idiom becomes: the first operator set in which the operator means it, and how it is written."""

    since: int
    write: Callable[[Occurrence], Operator]


# By the idiom's name. An L2 normalization has an epsilon, LpNormalization none: it has no operator.
WRITERS = {
    "GELU": Writer(20, activations.gelu),
    "GELU (tanh)": Writer(20, activations.gelu_tanh),
    "GELU (sigmoid)": Writer(24, activations.quick_gelu),
    "SiLU": Writer(24, activations.silu),
    "Mish": Writer(18, activations.mish),
    "HardSwish": Writer(14, activations.hard_swish),
    "HardSigmoid": Writer(6, activations.hard_sigmoid),
    "Softmax": Writer(1, activations.softmax),
    "LogSoftmax": Writer(1, activations.softmax),
    "LayerNormalization": Writer(17, normalizations.layer),
    "RMSNormalization": Writer(23, normalizations.rms),
    "GroupNormalization": Writer(21, normalizations.group),  # from 18 to 20 it had a scale for each group
    "InstanceNormalization": Writer(6, normalizations.instance),
    "attention": Writer(23, attention.attention),
    BIAS.name: Writer(7, products.gemm),  # C broadcasts since
}


def fuse(
    graph: Graph,
    target: Target | None = None,
    blocked: Collection[str] = (),
    keeps: Callable[[str], bool] = lambda _: False,
) -> list[Change]:
    """Write idioms as operators; return a change for each, whose key `blocked` takes to leave it out.

    Without a target, wherever the operator set has the operator. `keeps` says which operators, by label, must stay.
    Shapes and types must have been inferred.
    """
    made: list[Change] = []
    for _ in range(ROUNDS):
        before, touched = len(made), set[Node]()
        for occurrence in dict.fromkeys(idioms.find(graph, WRITTEN_OUT).values()):
            operator = None if touched.intersection(occurrence.nodes) else _exact(occurrence, target)
            if operator is None or touched.intersection(operator.nodes):
                continue  # what shares an operator with another one is found again in the next round
            key = KEY + operator.last.key
            if key not in blocked and not any(keeps(node.label) for node in operator.nodes):
                touched.update(operator.nodes)
                made.append(_fused(occurrence, operator, key))
        if len(made) == before:
            break
    return made


def left(graph: Graph, target: Target | None = None) -> list[tuple[Occurrence, Refused]]:
    """The idioms that stay written out, and why."""
    found: list[tuple[Occurrence, Refused]] = []
    for occurrence in dict.fromkeys(idioms.find(graph, WRITTEN_OUT).values()):
        try:
            operator_of(occurrence, target)
        except Refused as refusal:
            found.append((occurrence, refusal))
    return found


def kind_of(idiom: Idiom) -> str:
    """What a report calls it when an idiom became its operator."""
    return f"{idiom.name} written as {'one operator' if idiom.name == idiom.operator else idiom.operator}"


def _exact(occurrence: Occurrence, target: Target | None) -> Operator | None:
    try:
        return operator_of(occurrence, target)
    except Refused:
        return None


def _fused(occurrence: Occurrence, operator: Operator, key: str) -> Change:
    """Write one idiom as its operator."""
    last, made = operator.last, operator.made
    names = ", ".join(node.label for node in operator.nodes)
    nbytes = sum(given.nbytes for given in made.inputs if isinstance(given, Weight))
    become(last, made, [node for node in operator.nodes if node is not last], key)
    note(last, FUSED, names)
    return Change("fused", kind_of(occurrence.idiom), 1, (last.label,), key, nbytes)


def operator_of(occurrence: Occurrence, target: Target | None = None) -> Operator:
    """The operator that computes exactly what an idiom does.

    Raises:
        Refused: there is none in the model's operator set or for its type, the idiom's constants or axes are others, or
            the target does not want it.
    """
    graph, op, name = occurrence.last.scope.graph, occurrence.idiom.operator, occurrence.idiom.name
    require(name in WRITERS, "idiom", f"{name} has no operator of its own")
    since, write = WRITERS[name]
    require(graph.opset >= since, "old-opset", f"{op} is {name} from opset {since} on")
    dtype = dtype_of(occurrence)
    require(graph.computes(op, dtype), "not-float", f"{op} of opset {graph.opset} has no type {dtype}")
    if target is not None:
        known = ONNX_NAMES.get(dtype.name, dtype.name)
        wanted = target.idioms.get(name, "operator") == "operator" and target.takes(op, graph.opset, known)
        require(wanted, "idiom", f"the target does not want {op}")
    require_exact(occurrence)
    require_same_rank(occurrence)
    return write(occurrence)
