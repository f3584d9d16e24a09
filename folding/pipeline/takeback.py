"""Take folds back until the result is right: which ones, found by halving, and what lies before a wrong value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from folding.analysis.values import indexed
from folding.graph.node import bodies

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Sequence

    from folding.onnxfile import OnnxFile

WRONG_FOLDS = 4  # that are found one by one; with more of them, what lies before the last one found is taken back whole


def halving(groups: Sequence[Sequence[str]]) -> Generator[frozenset[str], bool | None, None]:
    """Yield the folds to leave out of the next attempt, take whether it is right.

    `groups` are the suspects to try in turn, each in the order of the graph: the first group without which the result
    is right is halved, and each wrong fold in it is found with log2(suspects) + 1 attempts. The smallest set that is
    right is the answer; there is none if the result is wrong without each of the groups.
    """
    for group in groups:
        if group and (yield frozenset(group)):
            suspects = list(group)
            break
    else:
        return
    taken: list[str] = []
    for _ in range(WRONG_FOLDS):
        wrong, right = 0, len(suspects)  # without so many of the first suspects the result is wrong, and right
        while right - wrong > 1:
            middle = (wrong + right) // 2
            if (yield frozenset([*taken, *suspects[:middle]])):
                right = middle
            else:
                wrong = middle
        taken.append(suspects[right - 1])
        suspects = suspects[: right - 1]
        if not suspects or (yield frozenset(taken)):
            return


def attempts(groups: Sequence[Sequence[str]]) -> int:
    """How many attempts `halving` makes at most."""
    return len(groups) + WRONG_FOLDS * (1 + math.ceil(math.log2(max(1, *map(len, groups)))))


def before(file: OnnxFile, values: Collection[str]) -> set[str]:
    """The keys of the operators on which these values of the main graph depend.

    All operators of nested graphs and functions are among them, and all operators where a value is unknown.
    """
    graph = indexed(file)
    main = graph.scopes[0]
    found = {node.key for node in graph.nodes() if node.scope is not main or not main.producers.keys() >= set(values)}
    waiting = [main.producers[name] for name in values if name in main.producers]
    while waiting:
        node = waiting.pop()
        if node.key not in found:
            found.add(node.key)
            read = {*node.inputs, *(main.captured if bodies(node.proto) else ())}
            waiting += [main.producers[name] for name in read if name in main.producers]
    return found
