"""The table of all that cleaning does, in the order in which it is tried, and the tally of what it did."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from folding.cleaning import arithmetic, branches, chains, constant, dead, equal, noops, padding, transposes, zeros
from folding.report.changes import EXAMPLES, Change

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from folding.cleaning.work import Work
    from folding.graph.index import Graph
    from folding.graph.node import Node

    Rule = Callable[[Node, Work], bool]
    Pass = Callable[[Work], Sequence[str]]


class Kind(NamedTuple):
    """A kind of change: the key by which it is left out, and what a report calls it."""

    key: str
    words: str


_RULES: tuple[tuple[Kind, Collection[str], Rule], ...] = (
    (Kind("clean:constant", "computed ahead, from constants"), constant.OPERATORS, constant.evaluate),
    (Kind("clean:initializer", "Constant became an initializer"), ("Constant",), constant.store),
    (Kind("clean:noop", "removed, because the result equals an input"), noops.SAME.keys(), noops.remove),
    (Kind("clean:if", "If with a constant condition became the branch that it takes"), ("If",), branches.take),
    (Kind("clean:shape", "shape arithmetic settled"), arithmetic.OPERATORS, arithmetic.evaluate),
    (Kind("clean:target", "target of a Reshape settled"), ("Reshape",), arithmetic.settle_target),
    (Kind("clean:transpose", "Transpose of Transpose became one or none"), ("Transpose",), chains.transposes),
    (Kind("clean:reshape", "Reshape of Reshape became one or none"), (*chains.RESHAPING, "Transpose"), chains.reshapes),
    (Kind("clean:cast", "Cast of Cast became one or none"), ("Cast",), chains.casts),
    (Kind("clean:clamp", "Clip or Relu within another one became one"), ("Clip", "Relu"), chains.clamps),
    (Kind("clean:twice", "Not of Not or Neg of Neg removed"), chains.INVOLUTIONS, chains.involutions),
    (Kind("clean:pads", "Pad of Pad became one"), ("Pad",), chains.pads),
    (Kind("clean:pad", "Pad absorbed by the convolution or pooling that reads it"), padding.READERS, padding.absorb),
    (Kind("clean:expand", "Unsqueeze of an expanded constant became one Expand"), ("Unsqueeze",), chains.expands),
    (Kind("clean:concat", "Concat of Concat became one"), ("Concat",), chains.concats),
)
PASSES: tuple[tuple[Kind, Pass], ...] = (
    (Kind("clean:equal-constants", "initializer removed, because an equal one is there"), equal.initializers),
    (Kind("clean:equal", "removed, because an equal operator is there"), equal.operators),
    (Kind("clean:transposes", "Transpose moved behind elementwise operators, where it meets another"), transposes.move),
    (Kind("clean:zero", "addition of 0 removed, where nothing distinguishes -0 from 0"), zeros.drop),
    (Kind("clean:dead", "removed, because nothing reads the result"), dead.operators),
    (Kind("clean:function", "function removed, because nothing calls it"), dead.uncalled),
    (Kind("clean:initializer-unread", "initializer removed, because nothing reads it"), dead.initializers),
)


def _by_operator() -> dict[str, list[tuple[Kind, Rule]]]:
    found: dict[str, list[tuple[Kind, Rule]]] = defaultdict(list)
    for kind, operators, rule in _RULES:
        for op in sorted(operators):
            found[op].append((kind, rule))
    return dict(found)


KINDS = _by_operator()


class Tally:
    """What was done so far, by kind."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.total = 0
        self.growth = 0  # bytes by which constants made the file larger
        self._counts: dict[Kind, int] = defaultdict(int)
        self._examples: dict[Kind, list[str]] = defaultdict(list)
        self._bytes: dict[Kind, int] = defaultdict(int)

    def count(self, kind: Kind, labels: Sequence[str], work: Work) -> None:
        """Count the changes of one kind that were made to these operators."""
        self.total += len(labels)
        if labels:
            self._counts[kind] += len(labels)
            self._examples[kind] += labels[: EXAMPLES - len(self._examples[kind])]
            self._bytes[kind] += work.added
            self.growth += max(0, work.added)
        work.added = 0

    def changes(self) -> list[Change]:
        """One change for each kind, in the order of the table."""
        kinds = dict.fromkeys([*(kind for kind, _, _ in _RULES), *(kind for kind, _ in PASSES)])
        return [
            Change("cleaned", kind.words, self._counts[kind], tuple(self._examples[kind]), kind.key, self._bytes[kind])
            for kind in kinds
            if self._counts[kind]
        ]
