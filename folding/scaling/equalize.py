"""Cross-layer equalization for 8 bits: channels of a value are scaled by powers of two, between the weights around it.

A `Region` says which weights a scale on a value reaches, and where the channels are in them: it is spread once with
another number for each channel. Then numbers alone decide (`algebra.equalization`), over all values until none gains,
and every region is spread again with the powers of two that were found.

Every step makes the noise that 8 bits add smaller by a share, and it has a smallest value: the steps end. What they end
at depends on the weights alone, so a second run has no step left to make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from folding.algebra.affine import Affine
from folding.algebra.equalization import exponents, noise, unevenness
from folding.graph import idioms
from folding.graph.weights import rounded
from folding.planning.commit import apply
from folding.precision.classes import HEAVY
from folding.refusal import Refused, require
from folding.report.changes import Change
from folding.report.equalized import Equalized
from folding.scaling.balance import LAST_AXIS
from folding.scaling.region import Region

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from folding.algebra.affine import Float64
    from folding.graph.index import Graph, Scope
    from folding.graph.node import Node
    from folding.graph.weights import Weight
    from folding.options import Options
    from folding.planning.plan import Move

    Numbers = NDArray[np.int64]

KEY = "equalize:"  # before the name of the value, as `blocked` calls it
SCALED = "values whose channels were scaled by powers of two"
FIRST = 2  # the number that stands for the first channel; 1 is no channel
GAIN = 1 / 64  # of the noise, which a step must take away
NONE = -1  # the channel of what no channel scales
MATRIX = 2  # the least rank of a weight that has channels on two sides


def equalize(
    graph: Graph, options: Options, blocked: Collection[str] = (), *, clamps: bool = False
) -> tuple[list[Change], tuple[Equalized, ...]]:
    """Scale the channels of values so that the weights around them lose least in 8 bits; return what was done.

    `clamps`: Relu and Clip may become Max and Min, with a bound for every channel. Shapes must have been inferred.
    """
    taking = {node for node, found in idioms.find(graph).items() if not found.is_bias}
    changes: list[Change] = []
    reported: list[Equalized] = []
    for scope in graph.scopes:
        found = _Scope(scope, options, taking, blocked, clamps=clamps)
        found.settle()
        changes += found.carry_out()
        reported += found.reported.values()
    return changes, tuple(reported)


@dataclass(frozen=True, eq=False)
class _Side:
    """One axis of a weight that has channels of a value: which one each slice has, and the sign of its exponent.

    `view` is the weight's shape for it, and `axes` what is left out of a slice's range.
    """

    channels: Numbers  # of the rank of the view
    view: tuple[int, ...]
    axes: tuple[int, ...]
    sign: int

    def exponents(self, of_channels: Float64) -> Float64:
        """The exponent of every slice."""
        return np.where(self.channels == NONE, 0.0, self.sign * of_channels[self.channels])


@dataclass(eq=False)
class _Group:
    """The values that share a scale with one of them, and the weights around them; `exponents` is what was found."""

    name: str
    maker: Node
    maps: Mapping[str, Affine]
    shape: tuple[int, ...]  # of a map on the value
    exponents: Float64  # of the scale of each channel
    sides: list[tuple[_Held, _Side]] = field(default_factory=list)
    others: list[_Other] = field(default_factory=list)
    before: float = 1.0  # how uneven its channels were


@dataclass(frozen=True, eq=False)
class _Other:
    """A constant with channels of a value that is no weight: a bias, a factor. Of its elements that are not zero ...

    ... the channels, the sign of their exponents, and their magnitudes; `normal` is the smallest normal number there.
    """

    channels: Numbers
    sign: int
    sizes: Float64
    normal: float


@dataclass(eq=False)
class _Held:
    """A weight with channels of values on its sides."""

    node: Node
    weight: Weight
    sides: list[tuple[_Group, _Side]] = field(default_factory=list)

    def scaled(self) -> Weight:
        """The weight with the exponents of its groups."""
        weight = self.weight
        for group, side in self.sides:
            weight = weight.scaled(side.view, np.exp2(side.exponents(group.exponents)))
        return weight

    def ranges(self) -> list[Float64]:
        """The range of every slice of each side, as it is stored."""
        weight = self.scaled()
        found = [weight.largest(side.view, side.axes) for _, side in self.sides]
        return [rounded(ranges, weight.dtype).astype(np.float64) for ranges in found]


class _Scope:
    """The values of one scope, in the order of their makers."""

    def __init__(
        self, scope: Scope, options: Options, taken: Collection[Node], blocked: Collection[str], *, clamps: bool
    ) -> None:
        self.scope, self.options, self.taken, self.clamps = scope, options, taken, clamps
        self.weights: dict[tuple[Node, int], _Held] = {}
        self.groups: list[_Group] = []
        self.reported: dict[str, Equalized] = {}  # by value, in the order of their makers
        covered: set[str] = set()
        for node in scope.nodes:
            if node.removed or node.op not in HEAVY or not node.output or node.output in covered:
                continue
            try:
                require(KEY + node.output not in blocked, "taken-back", "the result differed with it", node.label)
                group = self._discovered(node)
            except Refused as refusal:
                self._stays(node.output, refusal)
            else:
                self.groups.append(group)
                self.reported[group.name] = Equalized(group.name)
                covered |= group.maps.keys()
            scope.graph.release()

    def _region(self) -> Region:
        return Region(self.options, self.scope, self.taken, self.clamps)

    def _stays(self, name: str, refusal: Refused) -> None:
        self.reported[name] = Equalized(name, code=refusal.code, reason=refusal.reason, at=refusal.at)

    # --- which weights a scale reaches -----------------------------------------------------------------------

    def _discovered(self, node: Node) -> _Group:
        """The group of what an operator makes, which must have weights before and behind it.

        Raises:
            Refused: a scale of its channels does not end in constants on all sides.
        """
        name, shape = node.output, node.output_shape
        axis = len(shape) - 1 if node.op in LAST_AXIS else 1
        length = shape[axis] if len(shape) > axis else None
        if not isinstance(length, int):
            raise Refused("unknown-shape", f"the number of channels of {name!r} is unknown", node.label)
        numbers = np.arange(FIRST, FIRST + length, dtype=np.float64)
        of_map = tuple(length if one == axis else 1 for one in range(len(shape)))
        region = self._region()
        move = region.reach(name, Affine.of(numbers.reshape(of_map), 0.0))
        group = _Group(name, node, region.maps, of_map, np.zeros(length))
        ends = list(self._ends(group, move))
        signs = {side.sign for _, _, side in ends}
        require(signs == {1, -1}, "no-gain", "it has no weight on one of its sides", node.label)
        for end, weight, side in ends:
            held = self.weights.setdefault(end, _Held(end[0], weight))
            held.sides.append((group, side))
            group.sides.append((held, side))
        return group

    def _ends(self, group: _Group, move: Move) -> Iterator[tuple[tuple[Node, int], Weight, _Side]]:
        """The sides of weights that the move scales; what it does to other constants is noted in the group."""
        for edit in move.edits:
            for index, new in edit.constants.items():
                old = edit.node.weight(index)
                is_weight = edit.node.op in HEAVY and len(old.shape) >= MATRIX and new.base is old.base
                if not is_weight:
                    group.others.append(_other(old, new))
                for factor in new.factors[len(old.factors) :] if is_weight else ():
                    channels, sign = _numbered(factor.values)
                    axes = tuple(axis for axis, n in enumerate(factor.values.shape) if n == 1)
                    yield (edit.node, index), old, _Side(channels, factor.view, axes, sign)

    # --- by how much -----------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Find the exponents of all groups: one after the other, until none gains."""
        for group in self.groups:
            group.before = _unevenness(group)
        waiting = dict.fromkeys(self.groups)
        while waiting:
            group = next(iter(waiting))
            del waiting[group]
            if self._step(group):
                near = {other: None for held, _ in group.sides for other, _ in held.sides if other is not group}
                waiting |= dict.fromkeys((group, *near))

    def _step(self, group: _Group) -> bool:
        """Change the exponents of one group, if the noise of the weights around it becomes smaller by a share."""
        touched = list(dict.fromkeys(held for held, _ in group.sides))
        ranges = {held: held.ranges() for held in touched}
        found = _bounded(group, exponents(*_precisions(group, ranges)))
        if not found.any():
            return False
        earlier = group.exponents
        group.exponents = earlier + found
        after = {held: held.ranges() for held in touched}
        if _noise(after.values()) <= (1 - GAIN) * _noise(ranges.values()):
            return True
        group.exponents = earlier
        return False

    # --- and then ------------------------------------------------------------------------------------------------

    def carry_out(self) -> list[Change]:
        """Scale what was found."""
        changes = []
        after = [_unevenness(group) for group in self.groups]  # before anything is scaled
        for group, uneven in zip(self.groups, after, strict=True):
            if not group.exponents.any():
                self._stays(group.name, Refused("no-gain", "8 bits would lose as much of its channels with any scale"))
                continue
            scale = np.exp2(group.exponents).reshape(group.shape)
            for edit in self._region().spread(group.name, Affine.of(scale, 0.0)).edits:
                apply(edit, KEY + group.name)
            changes.append(Change("equalized", SCALED, 1, (group.maker.label,), KEY + group.name))
            labels = {sign: _labels(group, sign) for sign in (1, -1)}
            number = int(np.count_nonzero(group.exponents))
            self.reported[group.name] = Equalized(group.name, labels[1], labels[-1], number, group.before, uneven)
        return changes


def _labels(group: _Group, sign: int) -> tuple[str, ...]:
    """The operators whose weights make the value, or read it; without names by their outputs, as those are now."""
    nodes = dict.fromkeys(held.node for held, side in group.sides if side.sign == sign)
    return tuple(node.scope.prefix + (node.proto.name or node.output) for node in nodes)


def _numbered(values: Float64) -> tuple[Numbers, int]:
    """The channels that stand in a factor, and whether it has their scale (1) or the inverse (-1).

    Raises:
        Refused: "no-gain" if it has neither.
    """
    sign = 1 if np.all(values >= 1) else -1
    numbers = np.rint(values if sign > 0 else 1 / values)
    require(np.allclose(values, numbers**sign, rtol=1e-9, atol=0), "no-gain", "channels are scaled by one another")
    return numbers.astype(np.int64) - FIRST, sign


def _other(old: Weight, new: Weight) -> _Other:
    before, after = np.broadcast_arrays(old.values(), new.values())
    there = before != 0
    channels, sign = _numbered(after[there] / before[there])
    return _Other(channels, sign, np.abs(rounded(before[there], old.dtype).astype(np.float64)), _normal(old))


def _normal(weight: Weight) -> float:
    return float(ml_dtypes.finfo(weight.dtype).smallest_normal)  # type: ignore[no-untyped-call]


def _precisions(group: _Group, ranges: Mapping[_Held, list[Float64]]) -> tuple[Float64, Float64]:
    """The precision of each channel in each of the weights before the value, and in those behind it."""
    found: dict[int, list[Float64]] = {1: [], -1: []}
    for held in dict.fromkeys(held for held, _ in group.sides):
        for (owner, side), sizes in zip(held.sides, ranges[held], strict=True):
            if owner is group:
                there, precisions = side.channels != NONE, np.zeros(group.exponents.size)
                np.maximum.at(precisions, side.channels[there], sizes[there] / (sizes.max() or 1.0))
                found[side.sign].append(precisions)
    return np.array(found[1]), np.array(found[-1])


def _noise(ranges: Iterable[list[Float64]]) -> float:
    return sum(noise(sizes / sizes.max()) for found in ranges for sizes in found if sizes.max() > 0)


def _unevenness(group: _Group) -> float:
    found = {held: held.ranges() for held, _ in group.sides}
    each = [
        unevenness(sizes[side.channels != NONE])
        for held, ranges in found.items()
        for (owner, side), sizes in zip(held.sides, ranges, strict=True)
        if owner is group
    ]
    return max(each)


def _bounded(group: _Group, wanted: Float64) -> Float64:
    """The exponents with which no element becomes subnormal, and no bias larger than the largest one.

    A channel whose weights are small beside its bias is next to constant: with weights as large as others' it would
    rule the range of the value, of which the bias is the part that is known without data.
    """
    least = {sign: np.full(wanted.size, -np.inf) for sign in (1, -1)}  # of the exponent times the sign
    most = np.full(wanted.size, np.inf)
    for held, side in group.sides:
        smallest, channels = held.scaled().smallest(side.view, side.axes), side.channels
        there = (channels != NONE) & np.isfinite(smallest)
        _raise(least[side.sign], channels[there], smallest[there], _normal(held.weight))
    for other in group.others:
        there = other.channels != NONE
        channels, sizes = other.channels[there], other.sizes[there]
        sizes = sizes * np.exp2(other.sign * group.exponents[channels])
        _raise(least[other.sign], channels, sizes, other.normal)
        if other.sign > 0 and sizes.size:
            np.minimum.at(most, channels, np.log2(sizes.max() / sizes))
    return np.clip(wanted, np.ceil(least[1]), np.floor(np.minimum(most, -least[-1])))


def _raise(least: Float64, channels: Numbers, sizes: Float64, normal: float) -> None:
    """Raise the least exponents of channels to what these elements bear; subnormal ones bear none below 0."""
    np.maximum.at(least, channels, np.minimum(np.log2(normal / sizes), 0.0))
