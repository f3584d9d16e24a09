"""Idioms: small graphs that runtimes recognize by their exact form and compute as one operator.

An exporter writes GELU as five operators, LayerNormalization as nine. ONNX Runtime, TensorRT and OpenVINO look for
that form. So an affine operator inside one is no site: it is neither moved nor changed. The constants that an idiom
multiplies and adds at its end (gamma and beta) are free, however: the idiom may take a following map into them.

Fusing looks for more, `WRITTEN_OUT`: operators that no runtime recognizes when they are written out. Folding may take
those apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from folding.graph.dtypes import FLOAT_TYPES
from folding.graph.matching import Match, matches, parse
from folding.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from folding.graph.index import Graph, Scope
    from folding.graph.node import Node


class Idiom(NamedTuple):
    """One idiom: its name for people, the operator that it equals ("" if there is none), and how it is written.

    `anchor` is an operator in every form, without which a graph has none of them. `axes` are the axes along which gamma
    and beta may follow: "" none, "normalized" those of its ReduceMean, which are the last ones, "channels" axis 1, and
    "spatial" axis 1 too, where ReduceMean takes all axes after it.
    """

    name: str
    operator: str
    anchor: str
    forms: tuple[str, ...]
    axes: str = ""


_CENTER = "Sub(x, ReduceMean(x))"
_VARIANCE = f"Add(ReduceMean(Square({_CENTER})), c)"
_MEAN_SQUARE = "Add(ReduceMean(Square(x)), c)"
_NORMALIZED = (f"Div({_CENTER}, Root({_VARIANCE}))", f"Mul({_CENTER}, Rsqrt({_VARIANCE}))")
_SUM_SQUARE = "ReduceSum(Square(x))"
_BELOW = "Sub(x, ReduceMax(x))"

# Where an idiom is part of another, the larger one comes first.
IDIOMS = (
    Idiom(
        "LayerNormalization",
        "LayerNormalization",
        "ReduceMean",
        _NORMALIZED,
        axes="normalized",
    ),
    Idiom(
        "RMSNormalization",
        "RMSNormalization",
        "ReduceMean",
        (f"Div(x, Root({_MEAN_SQUARE}))", f"Mul(x, Rsqrt({_MEAN_SQUARE}))"),
        axes="normalized",
    ),
    Idiom(
        "GroupNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        ("Reshape(InstanceNormalization(Reshape(x)))",),
        axes="channels",
    ),
    Idiom(
        "L2 normalization",
        "LpNormalization",
        "Div",
        (f"Div(x, Root(Add({_SUM_SQUARE}, c)))", "Div(x, Add(ReduceL2(x), c))"),
    ),
    Idiom(
        "L2 normalization",
        "LpNormalization",
        "ReduceSum",
        (f"Mul(x, Rsqrt(Add({_SUM_SQUARE}, c)))", f"Mul(x, Rsqrt(Max({_SUM_SQUARE}, c)))"),
    ),
    Idiom("GELU", "Gelu", "Erf", ("Product(x, Add(Erf(Times(x, 0.7071067811865476)), 1), 0.5)",)),
    Idiom(
        "GELU (tanh)",
        "Gelu",
        "Tanh",
        tuple(
            f"Product(x, Add(Tanh({inner}), 1), 0.5)"
            for inner in (
                "Times(Add(x, Times(Cube(x), 0.044715)), 0.7978845608028654)",
                "Times(Add(x, Product(x, Mul(x, x), 0.044715)), 0.7978845608028654)",
                "Times(Mul(x, Add(Times(Square(x), 0.044715), 1)), 0.7978845608028654)",
                "Mul(Times(x, 0.7978845608028654), Add(Product(x, x, 0.044715), 1))",
            )
        ),
    ),
    Idiom("GELU (sigmoid)", "Swish", "Sigmoid", ("Mul(x, Sigmoid(Times(x, c)))",)),
    Idiom("SiLU", "Swish", "Sigmoid", ("Mul(x, Sigmoid(x))",)),
    Idiom("Mish", "Mish", "Tanh", ("Mul(x, Tanh(Softplus(x)))", "Mul(x, Tanh(Log(Add(Exp(x), 1))))")),
    Idiom("HardSwish", "HardSwish", "HardSigmoid", ("Mul(x, HardSigmoid(x))",)),
    Idiom(
        "HardSwish",
        "HardSwish",
        "Clip",
        (
            "Product(x, Clip(Add(x, 3), 0, 6), 0.16666666666666666)",
            "Mul(x, Clip(Add(Times(x, 0.16666666666666666), 0.5), 0, 1))",
        ),
    ),
    Idiom("HardSwish", "HardSwish", "Min", ("Product(x, Min(Relu(Add(x, 3)), 6), 0.16666666666666666)",)),
    Idiom(
        "attention",
        "Attention",
        "Softmax",
        tuple(
            form.replace("SCORES", scores)
            for scores in (
                "Times(MatMul(q, k), c)",
                "MatMul(Times(q, c), Times(k, c))",
                "MatMul(Times(q, c), Transpose(Times(k, c)))",
                "MatMul(Times(q, c), k)",
                "MatMul(q, Times(k, c))",
                "MatMul(q, Transpose(Times(k, c)))",
            )
            for form in ("Softmax(SCORES)", "Softmax(Add(SCORES, m))", "Softmax(Where(m, SCORES, n))")
        ),
    ),
)
WRITTEN_OUT = (
    Idiom("InstanceNormalization", "InstanceNormalization", "ReduceMean", _NORMALIZED, axes="spatial"),
    *IDIOMS,
    Idiom(
        "HardSigmoid",
        "HardSigmoid",
        "Clip",
        ("Clip(Add(Times(x, c), b), 0, 1)", "Times(Clip(Add(x, 3), 0, 6), 0.16666666666666666)"),
    ),
    Idiom("HardSigmoid", "HardSigmoid", "Min", ("Times(Min(Relu(Add(x, 3)), 6), 0.16666666666666666)",)),
    Idiom(
        "Softmax",
        "Softmax",
        "ReduceMax",
        (
            f"Div(Exp({_BELOW}), ReduceSum(Exp({_BELOW})))",
            f"Mul(Exp({_BELOW}), Reciprocal(ReduceSum(Exp({_BELOW}))))",
        ),
    ),
    Idiom("attention", "Attention", "Softmax", ("Softmax(MatMul(q, k))", "Softmax(Add(MatMul(q, k), m))")),
    Idiom("LogSoftmax", "LogSoftmax", "Softmax", ("Log(Softmax(x))",)),
    Idiom("LogSoftmax", "LogSoftmax", "ReduceLogSumExp", ("Sub(x, ReduceLogSumExp(x))",)),
    Idiom("LogSoftmax", "LogSoftmax", "ReduceMax", (f"Sub({_BELOW}, Log(ReduceSum(Exp({_BELOW}))))",)),
)
BIAS = Idiom("a product with its bias", "Gemm", "MatMul", ())  # MatMul(x, W) + b: a runtime computes it as Gemm
NO_MATCH = Match()
_ROOTS = {"Times": ("Mul", "Div"), "Product": ("Mul", "Div")}  # the operators at the end of a form
WIDE, NARROW = np.dtype(np.float32), FLOAT_TYPES - {np.dtype(np.float32), np.dtype(np.float64)}
IMAGES = 4  # the rank from which a normalization of all axes after the channels is not one of the last axis of rows


@dataclass(frozen=True, eq=False)
class Occurrence:
    """An idiom in a graph: its operators, the last of them, and those that multiply gamma and add beta.

    `free` are the axes of the result along which gamma and beta may vary, `match` what the letters of its form stand
    for.
    """

    idiom: Idiom
    nodes: tuple[Node, ...]
    last: Node
    gamma: Node | None = None
    beta: Node | None = None
    free: frozenset[int] = frozenset()
    match: Match = NO_MATCH

    @property
    def is_bias(self) -> bool:
        """Whether it is a lone bias, which may go into the bias that replaces it."""
        return self.idiom is BIAS


def find(graph: Graph, table: Sequence[Idiom] = IDIOMS) -> dict[Node, Occurrence]:
    """The idioms of a graph that a table lists, by each of their operators. Linear in the operators."""
    found: dict[Node, Occurrence] = {}
    for scope in graph.scopes:
        _find_forms(scope, table, found)
        _find_biases(scope, found)
    return found


def _find_forms(scope: Scope, table: Sequence[Idiom], found: dict[Node, Occurrence]) -> None:
    present: dict[str, list[Node]] = {}
    for node in scope.nodes:
        if not node.removed:
            present.setdefault(node.op, []).append(node)
    for idiom in table:
        for form in map(parse, idiom.forms if idiom.anchor in present else ()):
            for node in chain.from_iterable(present.get(op, ()) for op in _ROOTS.get(form.name, (form.name,))):
                if node not in found:
                    try:
                        occurrence = _occurrence(idiom, matches(scope, form, node.output), found)
                    except Refused:  # a malformed operator, or one of an operator set whose meaning is unknown
                        continue
                    if occurrence is not None:
                        found.update(dict.fromkeys(occurrence.nodes, occurrence))


def _find_biases(scope: Scope, found: dict[Node, Occurrence]) -> None:
    for node in scope.nodes:
        if node.op == "MatMul" and not node.removed and node not in found and node.is_constant(1):
            shape = scope.values.shape(scope, node.output)
            rank = None if shape is None else len(shape)
            add = _parameter(node, "Add", rank, frozenset({-1 if rank is None else rank - 1}), found)
            if add is not None:
                found[add] = Occurrence(BIAS, (add,), add, beta=add)


def _occurrence(idiom: Idiom, match: Match | None, found: Mapping[Node, Occurrence]) -> Occurrence | None:
    """The idiom of a match; None if another operator reads a value inside, or if the axes are others."""
    if match is None or any(node in found for node in match.nodes):
        return None
    last = match.nodes[0]
    if any(not _is_inner(node, match.nodes) for node in match.nodes[1:]):
        return None
    if not idiom.axes:
        return Occurrence(idiom, match.nodes, last, match=match)
    free = _free_axes(idiom, match)
    if free is None:
        return None
    rank = len(last.output_shape)
    cast, narrow = _narrowed(match)
    if idiom.axes == "spatial":  # InstanceNormalization has no first stage of another type
        if not _is_of_channels(cast or last, rank, _parameter(last, "Mul", rank, free, found), found):
            return None
        cast, narrow = None, match
    gamma = _parameter(cast or last, "Mul", rank, free, found)
    beta = _parameter(gamma, "Add", rank, free, found) if gamma is not None else None
    tail = tuple(node for node in (cast, gamma, beta) if node is not None)
    return Occurrence(idiom, match.nodes + tail, (last, *tail)[-1], gamma, beta, free, narrow)


def _narrowed(match: Match) -> tuple[Node | None, Match]:
    """The Cast behind a normalization in float32 of 16-bit values, back to their type, and the match with those.

    So models of 16 bits normalize: the operators call it their first stage, in the type `stash_type`, and multiply and
    add in the type of the value.
    """
    last = match.nodes[0]
    scope, name = last.scope, match.value("x")
    before, edge = scope.producers.get(name or ""), next(iter(scope.uses.get(last.output, ())), None)
    if before is None or edge is None or {before.op, edge.node.op} != {"Cast"}:
        return None, match
    if not _is_inner(last, (edge.node,)):
        return None, match
    narrow = before.dtype(0)
    if narrow not in NARROW or scope.dtype(last.output) != WIDE or scope.dtype(edge.node.output) != narrow:
        return None, match
    values = tuple((letter, before.inputs[0] if letter == "x" else value) for letter, value in match.values)
    return edge.node, replace(match, values=values)


def _is_of_channels(last: Node, rank: int, gamma: Node | None, found: Mapping[Node, Occurrence]) -> bool:
    """Whether a normalization of all axes after the channels is one of images, and not LayerNormalization of rows.

    Its gamma says so, and of images, which have at least 4 axes, one that fits both, or none.
    """
    rows = _parameter(last, "Mul", rank, frozenset(range(2, rank)), found)
    return (gamma is not None and rows is None) or (rank >= IMAGES and rows is gamma)


def _is_inner(node: Node, nodes: tuple[Node, ...]) -> bool:
    """Whether only these operators read a value."""
    scope, name = node.scope, node.output
    seen = scope.is_seen(name) or name in scope.annotated
    return not seen and all(edge.node in nodes for edge in scope.readers(name))


def _free_axes(idiom: Idiom, match: Match) -> frozenset[int] | None:
    """The axes along which gamma and beta may vary; None if they are unknown, or not what the operator normalizes."""
    last = match.nodes[0]
    shape = last.scope.values.shape(last.scope, last.output)
    if shape is None:
        return None
    if idiom.axes == "channels":
        return frozenset({1}) if len(shape) > 1 else None
    axes = {reduced(node, len(shape)) for node in match.nodes if node.op == "ReduceMean"}
    normalized = axes.pop()
    is_trailing = not axes and normalized and set(normalized) == set(range(len(shape) - len(normalized), len(shape)))
    if not is_trailing:
        return None
    if idiom.axes == "spatial":
        return frozenset({1}) if len(normalized) == len(shape) - 2 else None
    return normalized


def reduced(node: Node, rank: int) -> frozenset[int]:
    """The axes of a reduction that keeps them: an attribute, or in newer opsets an input; empty if they are unknown."""
    _ = node.schema  # raises for an operator set whose meaning is unknown
    axes = node.integers(1) if node.has(1) else node.attribute("axes")
    keeps = node.attribute("keepdims") == 1
    return frozenset(axis % rank for axis in axes) if axes and keeps else frozenset()


def _parameter(
    node: Node, op: str, rank: int | None, free: frozenset[int], found: Mapping[Node, Occurrence]
) -> Node | None:
    """The only reader of a value, if it is this operator with a constant that varies along the free axes only.

    If the rank of the value is unknown, axes count from the end, and the constant has one axis. A constant that
    repeats the value along an axis of length 1 is no parameter: the result is larger.
    """
    scope, name = node.scope, node.output
    readers = scope.uses.get(name, ())
    edge = next(iter(readers), None)
    if edge is None or scope.is_seen(name) or name in scope.annotated or len(readers) != 1 or edge.node.op != op:
        return None
    reader, other = edge.node, 1 - edge.index
    if reader in found or not reader.is_constant(other) or reader.dtype(other) not in FLOAT_TYPES:
        return None
    shape = scope.values.shape(scope, reader.inputs[other])
    if not shape or len(shape) > (1 if rank is None else rank):
        return None
    first = (0 if rank is None else rank) - len(shape)
    varying = {first + axis for axis, length in enumerate(shape) if length != 1}
    own = scope.values.shape(scope, name)
    repeats = own is not None and any(own[axis] == 1 for axis in varying)
    return reader if varying <= free and not repeats else None
