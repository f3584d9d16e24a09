"""Clean a graph: look at every operator, and again at what a change is near, until nothing changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.analysis import shapes
from folding.cleaning.kinds import KINDS, PASSES, Tally
from folding.cleaning.work import Work, settled
from folding.editing.writeback import write_back
from folding.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from folding.graph.index import Graph
    from folding.graph.node import Node
    from folding.report.changes import Change

LIMIT = 1 << 20  # bytes by which computed constants may make a file larger: positions and masks have some 100 KiB
ROUNDS = 16  # of everything; each starts with shapes that the one before settled, and two or three are usual
LOOKS = 64  # at an operator, on average, in one round; a look in vain takes microseconds


def clean(
    graph: Graph, blocked: Collection[str] = (), limit: int = LIMIT, keeps: Callable[[str], bool] = lambda _: False
) -> list[Change]:
    """Remove what computes nothing or the same thing twice; return what was done, one change for each kind.

    The graph needs its shapes (`shapes.infer`). Kinds whose key is in `blocked` are left out. `limit` is the number of
    bytes by which constants that are computed ahead may make the file larger. Operators whose label `keeps` accepts
    stay as they are.
    """
    tally = Tally(graph)
    for _ in range(ROUNDS):
        before = tally.total
        _round(graph, tally, blocked, limit, keeps)
        if tally.total == before or not _is_open(graph):
            break
        write_back(graph)
        shapes.infer(graph)
    return tally.changes()


def _is_open(graph: Graph) -> bool:
    """Whether inference may find more than before: some value has an unknown length."""
    return any(settled(scope.shapes.get(name)) is None for scope in graph.scopes for name in scope.producers if name)


def _round(graph: Graph, tally: Tally, blocked: Collection[str], limit: int, keeps: Callable[[str], bool]) -> None:
    """Clean with the shapes as they are until nothing changes."""
    work = Work(graph, keeps, limit - tally.growth)
    changed = True
    for _ in range(ROUNDS):
        _look(work, tally, blocked)
        changed = False
        for kind, clear in PASSES:
            if kind.key not in blocked:
                done = clear(work)
                tally.count(kind, done, work)
                changed |= bool(done)
        if not changed:
            break
        work.find_idioms()


def _look(work: Work, tally: Tally, blocked: Collection[str]) -> None:
    """Try the rules of every waiting operator."""
    left = LOOKS * (1 + sum(1 for _ in work.graph.nodes()))
    while left and (node := work.next()) is not None:
        left -= 1
        if not work.stays(node):
            _try(node, work, tally, blocked)
            work.graph.release()


def _try(node: Node, work: Work, tally: Tally, blocked: Collection[str]) -> None:
    label = node.label
    for kind, rule in KINDS.get(node.op, ()):
        if kind.key in blocked:
            continue
        try:
            done = rule(node, work)
        except Refused:  # a malformed operator, or a constant that cannot be computed
            continue
        if done:
            tally.count(kind, [label], work)
            work.look_at([node])
            return
