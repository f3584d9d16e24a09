"""The type of every value: what has no choice, then a minimum cut between float32 and 16 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from folding.graph import idioms
from folding.graph.node import Edge
from folding.precision.angles import fix_angles
from folding.precision.classes import Classes, cast_cost
from folding.precision.constants import Constants
from folding.precision.cut import NEVER, Network
from folding.precision.groups import CONSTANT, FREE, LOW, Groups
from folding.precision.limits import apply

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from folding.graph.index import Graph
    from folding.graph.node import Node
    from folding.precision.constants import Fit
    from folding.precision.groups import Value
    from folding.precision.kinds import Kind
    from folding.verification.ranges import Range

# A Cast inside an idiom hides it from runtimes, which would compute it as one operator: worth so many Casts.
TOGETHER = 64
ATTENTION = "attention"  # among the idioms
NEIGHBOURS = "between operators in float32: lowering it would cost more Casts than it saves"


@dataclass(frozen=True)
class Decision:
    """The sides of all groups (0 float32, 1 the 16-bit type), and how the constants fit."""

    groups: Groups
    sides: list[int]
    fits: Mapping[tuple[int, str], Fit]

    def is_low(self, value: Value) -> bool:
        """Whether a value that is no constant is stored in 16 bits."""
        return self.sides[value.maker] == LOW

    def reason(self, number: int) -> str:
        """Why a group stays in float32; "" if it does not."""
        group = self.groups.all[number]
        return "" if self.sides[number] == LOW else group.reason or NEIGHBOURS


def decide(
    graph: Graph,
    kind: Kind,
    *,
    everything: bool,
    takes: Callable[[str], bool],
    keep: Callable[[str], bool],
    ranges: Mapping[str, Range],
    lower_io: bool,
    caution: float = 1.0,
    guesses: bool = False,
) -> Decision:
    """Decide the type of every value of a graph.

    `everything`: lower all that fits, wherever that costs no more Casts than it saves bytes; else what is delicate
    stays in float32 where it is worth a Cast. `caution` multiplies what accuracy is worth. `guesses`: see `lower`.
    """
    groups = Groups(graph, kind, lower_io=lower_io)
    constants = Constants(groups, guesses=guesses)
    constants.assess()
    apply(groups, ranges, constants.masked, everything=everything)
    fix_angles(groups, ranges)
    Classes(groups, everything=everything, takes=takes, keep=keep, caution=caution).assign()
    return Decision(groups, _sides(groups, constants.masked), constants.fits)


def _sides(groups: Groups, masked: Collection[tuple[int, str]]) -> list[int]:
    network = Network()
    for group in groups.all:
        network.vertex(group.fixed, group.high, group.low)
    for key, value in groups.values.items():
        if value.maker != CONSTANT:
            _connect(network, value)
            for number, _ in value.readers if key in masked else ():
                network.edge(value.maker, number, NEVER)  # a Cast would make it infinite, and rows of it NaN
    for node in groups.of:
        if node.op == "Cast":
            _connect_cast(network, groups, node)
    _connect_idioms(network, groups)
    sides = network.sides()
    return sides[: len(groups.all)]


def _connect(network: Network, value: Value) -> None:
    """One Cast serves all readers of the other type: each direction is paid at a vertex of its own."""
    maker, readers = value.maker, sorted({number for number, _ in value.readers} - {value.maker})
    if network.fixed[maker] != FREE and all(network.fixed[r] != FREE for r in readers):
        return
    cost = cast_cost(value)
    if len(readers) == 1:
        network.edge(maker, readers[0], cost)
        network.edge(readers[0], maker, cost)
        return
    up, down = network.vertex(), network.vertex()
    network.edge(maker, down, cost)  # float32 made, 16 bits read
    network.edge(up, maker, cost)  # 16 bits made, float32 read
    for reader in readers:  # a Cast costs no more than all readers together, so each may cost as much as it
        network.edge(down, reader, cost)
        network.edge(reader, up, cost)


def _connect_idioms(network: Network, groups: Groups) -> None:
    """The operators of a normalization or activation that is written out have one type; products keep their own."""
    occurrences = idioms.find(groups.graph)
    for value in groups.values.values():
        if value.maker <= LOW or (maker := groups.all[value.maker].node) is None or maker not in occurrences:
            continue
        found = occurrences[maker]
        for number, reader in value.readers:
            if number <= LOW or number == value.maker or found.is_bias or found.idiom.name == ATTENTION:
                continue
            if isinstance(reader, Edge) and occurrences.get(reader.node) is found:
                network.edge(value.maker, number, TOGETHER * cast_cost(value))
                network.edge(number, value.maker, TOGETHER * cast_cost(value))


def _connect_cast(network: Network, groups: Groups, node: Node) -> None:
    """A Cast that the model has is between two types anyway; it costs a little less than a new one."""
    own = groups.of[node]
    sides = []
    for index, name in ((0, node.inputs[0]), (1, node.output)):
        dtype = node.scope.dtype(name)
        if dtype == groups.kind.dtype:
            sides.append(LOW)
        elif groups.value(node.scope, name) is not None:
            sides.append(own[f"T{index + 1}"])
        else:
            return
    given = groups.value(node.scope, node.output) or groups.value(node.scope, node.inputs[0])
    if given is None:
        return
    cost = cast_cost(given) - 1
    network.edge(sides[0], sides[1], cost)
    network.edge(sides[1], sides[0], cost)
