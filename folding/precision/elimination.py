"""A minimum cut by eliminating one vertex after another, exact and linear where few vertices are next to each other.

What a vertex adds to the total, at its better side, depends on its neighbours alone: a table over their sides replaces
it. Networks are chains with short-cuts, so tables stay small ("nonserial dynamic programming", Bertele and Brioschi
1972, always the vertex with the fewest neighbours first).
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from operator import add, le
from typing import NamedTuple

WIDEST = 10  # neighbours of a vertex; a table has 2 ** 10 entries then
UNIT = 1 << 24  # of costs; less than a unit settles ties


class _Table(NamedTuple):
    """Costs by the sides of vertices: entry number i is for the sides that are the bits of i, the first one lowest."""

    vertices: tuple[int, ...]
    costs: list[int]


class _Choice(NamedTuple):
    """The better side of a vertex, by the sides of those that were its neighbours."""

    vertex: int
    neighbours: tuple[int, ...]
    ones: list[bool]


def zeros(part: list[int], edges: list[tuple[int, int, int]], zero: list[int], one: list[int]) -> set[int] | None:
    """The vertices of a part on side 0 at the least cost, as few as possible; None if a table would be too large.

    `zero` is what a vertex costs on side 1, `one` on side 0, an edge (u, v, cost) where u is on side 0 and v on side 1.
    """
    tables: dict[int, list[_Table]] = {v: [_Table((v,), [one[v] * UNIT + 1, zero[v] * UNIT])] for v in part}
    near: dict[int, set[int]] = {v: set() for v in part}
    for (u, v), (there, back) in _together(edges).items():
        table = _Table((u, v), [0, back * UNIT, there * UNIT, 0])
        for one_end, other in ((u, v), (v, u)):
            tables[one_end].append(table)
            near[one_end].add(other)
    waiting = [(len(near[v]), v) for v in part]
    heapify(waiting)
    choices: list[_Choice] = []
    while waiting:
        degree, v = heappop(waiting)
        if v not in near or degree != len(near[v]):
            continue
        if degree > WIDEST:
            return None
        neighbours = tuple(sorted(near.pop(v)))
        choice, table = _eliminated(v, neighbours, tables.pop(v))
        choices.append(choice)
        for u in neighbours:
            tables[u] = [t for t in tables[u] if v not in t.vertices] + [table]
            near[u].discard(v)
            near[u].update(neighbours)
            near[u].discard(u)
            heappush(waiting, (len(near[u]), u))
    return _traced(choices)


def _together(edges: list[tuple[int, int, int]]) -> dict[tuple[int, int], list[int]]:
    """The costs of all edges between two vertices, there and back."""
    found: dict[tuple[int, int], list[int]] = {}
    for u, v, cost in edges:
        pair = (u, v) if u < v else (v, u)
        found.setdefault(pair, [0, 0])[pair != (u, v)] += cost
    return found


def _eliminated(v: int, neighbours: tuple[int, ...], tables: list[_Table]) -> tuple[_Choice, _Table]:
    """The better side of a vertex, and the table that takes its place."""
    every = (*neighbours, v)
    total = [0] * (1 << len(every))
    for table in tables:
        total = list(map(add, total, map(table.costs.__getitem__, _places(table.vertices, every))))
    half = len(total) // 2
    low, high = total[:half], total[half:]  # v is the last one, so the highest bit
    return _Choice(v, neighbours, list(map(le, high, low))), _Table(neighbours, list(map(min, low, high)))


def _places(some: tuple[int, ...], every: tuple[int, ...]) -> list[int]:
    """For each combination of sides of `every`, the number of that of `some`."""
    places = [0]
    for v in every:
        bit = 1 << some.index(v) if v in some else 0
        places += [place | bit for place in places]
    return places


def _traced(choices: list[_Choice]) -> set[int]:
    """The vertices on side 0, the last one that was eliminated first."""
    found: set[int] = set()
    for choice in reversed(choices):
        place = sum(1 << bit for bit, v in enumerate(choice.neighbours) if v not in found)
        if not choice.ones[place]:
            found.add(choice.vertex)
    return found
