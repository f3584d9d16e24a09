"""Values beyond the range of float16, brought back by powers of two, so that nothing around them stays in float32.

``conv(x, W) = conv(2^-k * x, 2^k * W)``: the weights before a value absorb ``2^-k``, those behind it ``2^k``. That is
exact, since powers of two change no digit. Only the constants are rounded afterwards, so of the exponents that bring a
value into the range that one is taken with which they lose the fewest elements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.affine import Affine
from folding.graph import idioms
from folding.graph.narrowed import Loss, Narrowed
from folding.planning.commit import apply
from folding.precision.classes import HEAVY, VANISHES
from folding.precision.kinds import FLOAT16
from folding.precision.limits import MARGIN, WORTHLESS
from folding.refusal import Refused, require
from folding.report.changes import EXAMPLES, Change
from folding.rules import RULES, asked
from folding.scaling.region import NO_RULE, Region

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from folding.algebra.affine import Float64
    from folding.graph.index import Graph
    from folding.graph.node import Node
    from folding.graph.weights import Weight
    from folding.options import Options
    from folding.planning.plan import Move
    from folding.verification.ranges import Range

KEY = "balance:"  # before the name of the value, as `blocked` calls it
SCALED = "values scaled by powers of two, to fit float16"
# The magnitudes that a value may reach afterwards: that of normalized values, on the samples, and larger ones, which
# leave more of the range to what weights lose by it.
TARGETS = (2.0**4, 2.0**8, 2.0**12)
FARTHEST = 60  # the largest exponent: float32 has 126
LOST_SHARE = (
    1 / 64
)  # of the elements that are scaled, so many may become subnormal; random weights have one in a thousand
LEAST_CHANNELS = 2
LAST_AXIS = frozenset({"Gemm", "MatMul"})  # that have their channels there; convolutions have them on axis 1
FLOAT32_NORMAL = 2.0**-126
PASSING = frozenset("Clip LeakyRelu MaxPool Relu".split())  # noqa: SIM905  between a weight and the value of its channels


@dataclass
class Balanced:
    """What was done: the changes, and the factors of the values, of the smallest and the largest channel."""

    changes: list[Change] = field(default_factory=list)
    factors: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """Which values of the model are other ones now, for those who look at them."""
        if not self.factors:
            return []
        named = [f"{name!r} {_shown(low, high)}" for name, (low, high) in list(self.factors.items())[:EXAMPLES]]
        more = f" and {len(self.factors) - EXAMPLES} more" if len(self.factors) > EXAMPLES else ""
        return [f"values inside the model were scaled, and the weights around them: {', '.join(named)}{more}"]


def balance(graph: Graph, options: Options, ranges: Mapping[str, Range], blocked: Collection[str] = ()) -> Balanced:
    """Scale what would leave the range of float16, or what makes weights vanish in it; all or nothing for each value.

    `ranges` are those of values on samples. What is refused stays as it is. Shapes must have been inferred.
    """
    return _Balance(graph, options, ranges, blocked).everything()


@dataclass(frozen=True)
class _Candidate:
    """One way to scale a value: what is scaled by how much, the edits, and the elements of constants that it costs."""

    maps: Mapping[str, Affine]
    move: Move
    lost: int
    saved: int


class _Balance:
    """One pass over the values of a graph, in the order of their makers."""

    def __init__(self, graph: Graph, options: Options, ranges: Mapping[str, Range], blocked: Collection[str]) -> None:
        self.graph, self.options, self.ranges, self.blocked = graph, options, ranges, blocked
        self.idioms = {node for node, found in idioms.find(graph).items() if not found.is_bias}
        self.done = Balanced()

    def everything(self) -> Balanced:
        """Balance the values one after the other; what one scale reached is not scaled again."""
        for node in list(self.graph.main.nodes) if self.ranges else ():
            for name in () if node.removed else node.outputs:
                if name and self._offends(name) and KEY + name not in self.blocked:
                    self._balance(name, node)
            if not node.removed and node.op in HEAVY and _loses(node):
                self._raise(node, forward=True)
                self._raise(node, forward=False)
        return self.done

    def _largest(self, name: str) -> float:
        found = self.ranges.get(name)
        return found.largest if found is not None else 0.0

    def _offends(self, name: str) -> bool:
        """Whether float16 has no room for a value: it is too large, or so small that it loses digits."""
        largest = self._largest(name)
        is_known = name not in self.done.factors and 0 < largest < math.inf
        return is_known and (largest > FLOAT16.largest / MARGIN or largest < FLOAT16.normal)

    def _balance(self, name: str, node: Node) -> None:
        largest = self._largest(name)
        exponents = [_exponent(target, largest) for target in TARGETS]
        found = [c for k in dict.fromkeys(exponents) if (c := self._candidate(name, np.array(k), node))]
        if not found:
            return
        best = min(found, key=lambda one: one.lost)
        channels = self._channels(name, node, TARGETS[0]) if best.lost else None
        if channels is not None and (one := self._candidate(name, channels, node)) and one.lost < best.lost:
            best = one
        self._carry_out(name, node, best)

    def _raise(self, node: Node, *, forward: bool) -> None:
        """Scale the channels whose weights would lose digits, in the value that the operator makes or reads.

        Samples show how large a value is, not each of its channels; that is taken to follow from their weights.
        """
        name = node.inputs[0] if forward else node.output
        maker = self.graph.main.producers.get(name)
        if maker is None or name in self.done.factors or not self._largest(name) or KEY + name in self.blocked:
            return
        try:
            sizes = _channel_sizes(node, forward=forward)
        except Refused:
            return
        sunk = None if sizes is None else (sizes > 0) & (sizes < FLOAT16.normal * WORTHLESS)
        if sunk is None or not sunk.any():
            return
        largest = self._largest(name)
        channels = self._channels(name, maker, min(TARGETS[0], largest))
        if channels is None or channels.shape != sunk.shape:
            return
        found = self._candidate(name, np.where(sunk, channels, 0.0), maker)
        if found is not None and found.saved > 0:
            self._carry_out(name, maker, found)

    def _candidate(self, name: str, exponents: Float64, node: Node) -> _Candidate | None:
        """A way to scale a value, None if it is refused or a constant would not fit."""
        region = Region(self.options, self.graph.main, self.idioms)
        try:
            a = Affine.of(np.exp2(np.asarray(exponents, np.float64)), 0.0)
            move = region.spread(name, a.with_rank(len(node.scope.known_shape(name))))
            return _Candidate(region.maps, move, *_lost(move))
        except Refused:
            return None
        finally:
            self.graph.release()

    def _channels(self, name: str, node: Node, target: float) -> Float64 | None:
        """The exponents that bring channels to a magnitude, as far as the weights that make them show theirs."""
        while node.op in PASSING and node.inputs[0] in self.graph.main.producers:
            node = self.graph.main.producers[node.inputs[0]]
        try:
            sizes = _channel_sizes(node, forward=False)
        except Refused:
            return None
        if sizes is None or not sizes.max() > 0:
            return None
        shares = np.where(sizes > 0, sizes / sizes.max(), 1.0)
        return np.clip(np.floor(np.log2(target / (self._largest(name) * shares))), -FARTHEST, FARTHEST)

    def _carry_out(self, name: str, node: Node, chosen: _Candidate) -> None:
        for edit in chosen.move.edits:
            apply(edit, KEY + name)
        for scaled, a in chosen.maps.items():
            self.done.factors[scaled] = float(a.scale.min()), float(a.scale.max())
        self.done.changes.append(Change("lowered", SCALED, 1, (node.label,), KEY + name))


def _shown(low: float, high: float) -> str:
    low, high = math.log2(low), math.log2(high)
    return f"by 2^{low:g}" if low == high else f"by 2^{low:g} to 2^{high:g}"


def _exponent(target: float, largest: float) -> float:
    return float(np.clip(math.floor(math.log2(target / largest)), -FARTHEST, FARTHEST))


def _channel_sizes(node: Node, *, forward: bool) -> Float64 | None:
    """The largest weight of every channel that an operator makes or reads, as an array that broadcasts against it.

    The rule of the operator says where its weights have the channels: a scale of each is tried.
    """
    rule = RULES.get(node.op, NO_RULE)
    absorb = rule.absorb_forward if forward else rule.absorb_backward
    shape = node.shape(0) if forward else node.output_shape
    axis = len(shape) - 1 if node.op in LAST_AXIS else 1
    length = shape[axis] if len(shape) > 1 else None
    if node.op not in HEAVY or absorb is None or not isinstance(length, int) or length < LEAST_CHANNELS:
        return None
    place = tuple(length if one == axis else 1 for one in range(len(shape)))
    probe = Affine.of(np.arange(2.0, length + 2.0).reshape(place), 0.0)
    edit = asked(node, absorb, *((0, probe) if forward else (probe,)))
    for index, weight in edit.constants.items():
        old = node.weight(index)
        factor = weight.factors[-1] if len(weight.factors) > len(old.factors) else None
        if factor is not None and factor.values.size == length:
            axes = tuple(axis for axis, n in enumerate(factor.values.shape) if n == 1)
            return np.asarray(old.largest(factor.view, axes).reshape(place))
    return None


def _loses(node: Node) -> bool:
    """Whether as many elements of a weight lose digits as the smallest of its channels has."""
    try:
        weights = [node.weight(index) for index in range(1, len(node.inputs)) if node.is_constant(index)]
        return any(_lost_of(weight) * max(weight.shape, default=1) >= max(weight.size, 1) for weight in weights)
    except Refused:
        return False


def _lost_of(weight: Weight) -> int:
    loss = _loss(weight)
    return loss.subnormal + loss.flushed


def _lost(move: Move) -> tuple[int, int]:
    """How many elements of the scaled constants are no normal numbers in float16, and how many fewer than before.

    Raises:
        Refused: one does not fit, or more of them are lost than before.
    """
    before = after = Loss()
    size = 0
    for edit in move.edits:
        for index, weight in edit.constants.items():
            old, new = _loss(edit.node.weight(index)), _loss(weight)
            fits = new.clamped <= old.clamped and new.infinite <= old.infinite
            require(fits, "overflow", "a weight would be beyond the range of float16", edit.node.label)
            vanishes = abs(FLOAT16.nearest(new.largest) - new.largest) > VANISHES * new.largest
            require(not vanishes, "underflow", "a weight would vanish in float16", edit.node.label)
            require(not 0 < new.smallest < FLOAT32_NORMAL, "underflow", "a weight would be subnormal", edit.node.label)
            size += weight.size
            before, after = before + old, after + new
    lost = after.subnormal + after.flushed
    saved = before.subnormal + before.flushed - lost
    require(saved >= 0 or lost <= LOST_SHARE * size, "underflow", "too many weights would be subnormal in float16")
    return lost, saved if after.flushed <= before.flushed else min(saved, 0)


def _loss(weight: Weight) -> Loss:
    return Narrowed.of_weight(weight, FLOAT16.dtype).loss()
