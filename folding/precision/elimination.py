"""A minimum cut by eliminating one vertex after another, exact and linear where few vertices are next to each other.

What a vertex adds to the total, at its better side, depends on its neighbours alone: a table over their sides replaces
it. Networks are chains with short-cuts, so tables stay small ("nonserial dynamic programming", Bertele and Brioschi
1972, always the vertex with the fewest neighbours first); most are of two vertices, which need no tables at all.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from operator import add, le
from typing import NamedTuple

WIDEST = 10  # neighbours of a vertex; a table has 2 ** 10 entries then
UNIT = 1 << 24  # of costs; less than a unit settles ties
PAIR = 2  # neighbours of a vertex that needs no table
FREE_PAIR = (0, 0, 0, 0)
_Pairs = dict[int, dict[int, tuple[int, int, int, int]]]


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
    own = {v: (one[v] * UNIT + 1, zero[v] * UNIT) for v in part}
    near = _pairs(part, edges)
    choices = _reduced(own, near)
    if near:  # every vertex that is left has three neighbours or more
        found = _eliminated_all(own, near)
        if found is None:
            return None
        choices += found
    return _traced(choices)


def _pairs(part: list[int], edges: list[tuple[int, int, int]]) -> _Pairs:
    """The costs between neighbours by the side of both, at each of the two: entry 2 * its own side + the other's."""
    near: _Pairs = {v: {} for v in part}
    for u, v, cost in edges:
        if u == v:
            continue
        there, back = near[u].get(v, FREE_PAIR), cost * UNIT
        near[u][v] = (there[0], there[1] + back, there[2], there[3])
        near[v][u] = (there[0], there[2], there[1] + back, there[3])
    return near


def _reduced(own: dict[int, tuple[int, int]], near: _Pairs) -> list[_Choice]:
    """Eliminate vertices with at most two neighbours, until none is left: almost all of a chain with short-cuts."""
    choices: list[_Choice] = []
    waiting = [v for v, beside in near.items() if len(beside) <= PAIR]
    while waiting:
        v = waiting.pop()
        if v not in near or len(near[v]) > PAIR:
            continue
        beside, (low, high) = near.pop(v), own.pop(v)
        if not beside:
            choices.append(_Choice(v, (), [high <= low]))
            continue
        u, (a, b, c, d) = beside.popitem()
        zero, one, higher, highest = low + a, low + b, high + c, high + d  # by the side of v, then of u
        del near[u][v]
        waiting.append(u)
        if not beside:
            first, second = own[u]
            own[u] = first + min(zero, higher), second + min(one, highest)
            choices.append(_Choice(v, (u,), [higher <= zero, highest <= one]))
            continue
        w, (a, b, c, d) = beside.popitem()
        del near[w][v]
        waiting.append(w)
        lows, highs = (zero + a, one + a, zero + b, one + b), (higher + c, highest + c, higher + d, highest + d)
        choices.append(_Choice(v, (u, w), list(map(le, highs, lows))))
        neither, of_u, of_w, both = map(min, lows, highs)
        before = near[u].get(w, FREE_PAIR)
        near[u][w] = (before[0] + neither, before[1] + of_w, before[2] + of_u, before[3] + both)
        near[w][u] = (before[0] + neither, before[2] + of_u, before[1] + of_w, before[3] + both)
    return choices


def _eliminated_all(own: dict[int, tuple[int, int]], pairs: _Pairs) -> list[_Choice] | None:
    """Eliminate the vertices that are left, with tables; None if one would be too large."""
    tables = {v: [_Table((v,), list(costs))] for v, costs in own.items()}
    near = {v: set(beside) for v, beside in pairs.items()}
    for u, beside in pairs.items():
        for v, (zero, of_v, of_u, both) in beside.items():
            if u < v:
                table = _Table((u, v), [zero, of_u, of_v, both])
                tables[u].append(table)
                tables[v].append(table)
    waiting = [(len(beside), v) for v, beside in near.items()]
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
    return choices


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
