"""Minimum cut: two sides for many vertices at the least cost, exact, one small part of the graph after another.

Most vertices are fixed to a side. Those that are free form parts between fixed ones; a part that only one side pulls
at goes there. For the others the cut is found by elimination, in linear time; and in parts that are too entangled for
that, by blocking flows (Dinic 1970) on arrays, without recursion.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from folding.precision import elimination

NEVER = 1 << 60  # a capacity that no cut pays
FREE = -1


@dataclass
class Network:
    """Vertices with a side to choose: 0 or 1. `fixed` has the side of those that have no choice.

    `zero` and `one` are what a vertex costs on the other side; an edge (u, v, cost) costs where u is on side 0 and v on
    side 1.
    """

    fixed: list[int] = field(default_factory=list)
    zero: list[int] = field(default_factory=list)
    one: list[int] = field(default_factory=list)
    edges: list[tuple[int, int, int]] = field(default_factory=list)

    def vertex(self, fixed: int = FREE, zero: int = 0, one: int = 0) -> int:
        """Add a vertex: `zero` is its cost on side 1, `one` that on side 0."""
        self.fixed.append(fixed)
        self.zero.append(zero)
        self.one.append(one)
        return len(self.fixed) - 1

    def edge(self, first: int, second: int, cost: int) -> None:
        """Add a cost for `first` on side 0 and `second` on side 1."""
        self.edges.append((first, second, cost))

    def sides(self) -> list[int]:
        """The side of every vertex at the least total cost; among several such choices that with the fewest zeros.

        A part at which neither side pulls is on side 0.
        """
        settled = _Settled(self)
        settled.run()
        sides, zero, one = settled.sides, settled.zero, settled.one
        inner = [edge for edge in self.edges if sides[edge[0]] == FREE and sides[edge[1]] == FREE]
        for part, edges in _parts(sides, inner):
            pulled = any(zero[v] for v in part), any(one[v] for v in part)
            zeros = _zeros(part, edges, zero, one) if all(pulled) else set() if pulled[1] else set(part)
            for v in part:
                sides[v] = 0 if v in zeros else 1
        return sides


class _Settled:
    """The vertices whose side follows from what is next to them, found one from another.

    A vertex belongs on side 1 if its cost on side 0 is at least all that it could cost on side 1, wherever its
    neighbours are; on side 0 if that holds the other way round, and strictly. What was found pulls at its neighbours.
    """

    def __init__(self, network: Network) -> None:
        count = len(network.fixed)
        self.sides, self.zero, self.one = list(network.fixed), list(network.zero), list(network.one)
        self._before: list[list[tuple[int, int]]] = [[] for _ in range(count)]  # (u, cost) of edges (u, v)
        self._behind: list[list[tuple[int, int]]] = [[] for _ in range(count)]
        self._arriving, self._leaving = [0] * count, [0] * count  # costs of edges to and from free vertices
        for u, v, cost in network.edges:
            self._before[v].append((u, cost))
            self._behind[u].append((v, cost))
            self._arriving[v] += cost
            self._leaving[u] += cost

    def run(self) -> None:
        """Settle all that can be; the costs of the others then hold what is settled next to them."""
        waiting = [v for v, side in enumerate(self.sides) if side != FREE]
        for v in waiting:
            self._propagate(v)
        waiting = [v for v, side in enumerate(self.sides) if side == FREE and self._settle(v)]
        while waiting:
            v = waiting.pop()
            self._propagate(v)
            near = dict.fromkeys([u for u, _ in self._before[v]] + [w for w, _ in self._behind[v]])
            waiting += [u for u in near if self.sides[u] == FREE and self._settle(u)]

    def _settle(self, v: int) -> bool:
        if self.one[v] and self.one[v] >= self.zero[v] + self._arriving[v]:
            self.sides[v] = 1
        elif self.zero[v] > self.one[v] + self._leaving[v]:
            self.sides[v] = 0
        return self.sides[v] != FREE

    def _propagate(self, v: int) -> None:
        """Replace the edges of a settled vertex by costs of its neighbours."""
        side = self.sides[v]
        for u, cost in self._before[v]:
            self._leaving[u] -= cost
            if side == 1:
                self.one[u] += cost
        for w, cost in self._behind[v]:
            self._arriving[w] -= cost
            if side == 0:
                self.zero[w] += cost


def _parts(fixed: list[int], edges: list[tuple[int, int, int]]) -> list[tuple[list[int], list[tuple[int, int, int]]]]:
    """The connected parts of the free vertices, with their edges."""
    root = list(range(len(fixed)))

    def find(v: int) -> int:
        while root[v] != v:
            root[v] = root[root[v]]
            v = root[v]
        return v

    for u, v, _ in edges:
        a, b = find(u), find(v)
        if a != b:
            root[max(a, b)] = min(a, b)
    parts: dict[int, tuple[list[int], list[tuple[int, int, int]]]] = {}
    for v, side in enumerate(fixed):
        if side == FREE:
            parts.setdefault(find(v), ([], []))[0].append(v)
    for edge in edges:
        parts[find(edge[0])][1].append(edge)
    return list(parts.values())


class _Flow:
    """Arcs in arrays: the arc ``i ^ 1`` is the reverse of arc i."""

    def __init__(self, vertices: int) -> None:
        self.out: list[list[int]] = [[] for _ in range(vertices)]
        self.head: list[int] = []
        self.left: list[int] = []

    def arc(self, u: int, v: int, capacity: int, back: int = 0) -> None:
        self.out[u].append(len(self.head))
        self.out[v].append(len(self.head) + 1)
        self.head += (v, u)
        self.left += (capacity, back)

    def levels(self, source: int, sink: int) -> list[int]:
        """The distance of each vertex from the source in arcs with room; -1 where there is no way, or it is too far."""
        found, reached = [-1] * len(self.out), [source]
        found[source] = 0
        head, left = self.head, self.left
        for u in reached:  # the list grows during the loop
            if u == sink:
                break
            for arc in self.out[u]:
                if left[arc] and found[head[arc]] < 0:
                    found[head[arc]] = found[u] + 1
                    reached.append(head[arc])
        return found

    def block(self, level: list[int], source: int, sink: int) -> None:
        """Send a blocking flow along the levels: depth first, with the arcs of the way in a list."""
        head, left, out = self.head, self.left, self.out
        next_arc = [0] * len(out)
        way: list[int] = []
        u = source
        while True:
            if u == sink:
                amount = min(left[arc] for arc in way)
                full = 0
                for place in range(len(way) - 1, -1, -1):
                    left[way[place]] -= amount
                    left[way[place] ^ 1] += amount
                    if not left[way[place]]:
                        full = place
                u = head[way[full] ^ 1]
                del way[full:]
            arcs = out[u]
            while next_arc[u] < len(arcs):
                arc = arcs[next_arc[u]]
                if left[arc] and level[head[arc]] == level[u] + 1:
                    break
                next_arc[u] += 1
            else:
                if not way:
                    return
                u = head[way.pop() ^ 1]
                next_arc[u] += 1
                continue
            way.append(arc)
            u = head[arc]


def _zeros(part: list[int], edges: list[tuple[int, int, int]], zero: list[int], one: list[int]) -> set[int]:
    """The vertices of one part on side 0."""
    found = elimination.zeros(part, edges, zero, one)
    return _cut(part, edges, zero, one) if found is None else found


def _cut(part: list[int], edges: list[tuple[int, int, int]], zero: list[int], one: list[int]) -> set[int]:
    """The vertices on side 0 of the minimum cut of one part: those that the source still reaches."""
    place = {v: number for number, v in enumerate(part, start=2)}
    flow = _Flow(len(part) + 2)
    for v in part:
        both = min(zero[v], one[v])  # paid on either side
        if zero[v] > both:
            flow.arc(0, place[v], zero[v] - both)
        if one[v] > both:
            flow.arc(place[v], 1, one[v] - both)
    together: dict[tuple[int, int], list[int]] = {}
    for u, v, cost in edges:
        pair = (u, v) if u < v else (v, u)
        together.setdefault(pair, [0, 0])[pair != (u, v)] += cost
    for (u, v), (there, back) in together.items():
        flow.arc(place[u], place[v], there, back)
    while (level := flow.levels(0, 1))[1] >= 0:
        flow.block(level, 0, 1)
    return {v for v in part if level[place[v]] >= 0}
