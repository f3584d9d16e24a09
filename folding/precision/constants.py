"""How the constants of a graph fit a 16-bit type: which overflow or vanish, which may be clamped, and what is lost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from folding.analysis import constants
from folding.editing import retyping
from folding.graph.narrowed import Loss, Narrowed
from folding.graph.node import Edge
from folding.precision.classes import VANISHES
from folding.precision.groups import CONSTANT, LOW, Result
from folding.precision.masks import mask_of
from folding.refusal import Refused

if TYPE_CHECKING:
    from folding.graph.node import Node
    from folding.precision.groups import Groups, Reader, Value

BOUNDING = {
    "Clip": (1, 2),
    "Max": (0, 1),
    "Min": (0, 1),
}  # inputs that bound others, so that any bound out there serves
# Operators behind an epsilon, up to the division for which it was added.
GUARDED = frozenset(
    "Add Cast Clip Expand Identity Log Max Pow Reciprocal Reshape Sqrt Squeeze Unsqueeze".split()  # noqa: SIM905
)
DIVIDING = {"Div": 1, "Pow": 0, "Reciprocal": 0, "Log": 0, "Sqrt": 0}  # the input whose zeros change everything
ADDING = frozenset({"Add", "Clip", "Max", "Sub"})  # operators that may add an epsilon
STEPS = 8  # operators between an epsilon and its division


@dataclass(frozen=True)
class Fit:
    """How one constant fits: the losses of its elements, and the bound to which those beyond the range are clamped.

    `is_guess`: the losses are those of a part of it; see `Narrowed.guess`.
    """

    loss: Loss
    bound: float = math.inf
    is_guess: bool = False


class Constants:
    """Fits of all constants that a group may read in 16 bits; what does not fit keeps its readers in float32.

    With `guesses`, those of large ones are guessed where their losses decide nothing.
    """

    def __init__(self, groups: Groups, *, guesses: bool = False) -> None:
        self._groups, self._kind, self._guesses = groups, groups.kind, guesses
        self.fits: dict[tuple[int, str], Fit] = {}
        self.masked: set[tuple[int, str]] = set()  # values that hold a mask on its way to a Softmax

    def assess(self) -> None:
        """Look at every constant, and at what ConstantOfShape makes."""
        for key, value in list(self._groups.values.items()):
            if value.maker == CONSTANT:
                if any(number > LOW and self._groups.all[number].fixed != 0 for number, _ in value.readers):
                    self._assess(key, value)
            else:
                producer = value.scope.producers.get(value.name)
                if producer is not None and producer.op == "ConstantOfShape" and value.maker > LOW:
                    self._assess_filling(key, value, producer)

    def _assess(self, key: tuple[int, str], value: Value) -> None:
        try:
            exact = constants.weight(value.scope, value.name)
        except Refused as refusal:
            self._refuse(value, f"{value.name!r}: {refusal}")
            return
        narrow = Narrowed.of_weight(exact, self._kind.dtype)
        guess = narrow.guess() if self._guesses and self._may_be_guessed(value) else None
        loss = narrow.loss() if guess is None else guess
        value.scope.graph.release()
        self._judge(key, value, loss, value.readers, is_guess=guess is not None)

    @staticmethod
    def _may_be_guessed(value: Value) -> bool:
        """Whether it is an initializer, whose values are written as they are, and zeros among them decide nothing."""
        is_initializer = value.name not in value.scope.producers and value.name not in value.scope.sparse
        return is_initializer and not any(_is_divisor(reader) for _, reader in value.readers)

    def _assess_filling(self, key: tuple[int, str], value: Value, node: Node) -> None:
        try:
            number = abs(retyping.filling(node))
        except Refused:
            self._groups.all[value.maker].fix("the operator is malformed")
            return
        stored = self._kind.nearest(number)
        beyond = math.isfinite(number) and math.isinf(stored)
        loss = Loss(clamped=int(beyond), largest=number if math.isfinite(number) else 0.0, smallest=number)
        self._judge(key, value, loss, value.readers)
        if key not in self.fits:
            self._groups.all[value.maker].fix(f"its value {number:g} does not fit {self._kind.name}")

    def _judge(
        self,
        key: tuple[int, str],
        value: Value,
        loss: Loss,
        readers: list[tuple[int, Reader]],
        *,
        is_guess: bool = False,
    ) -> None:
        bound = math.inf
        if loss.clamped:
            bound = self._bound(value, readers)
            if math.isinf(bound):
                self._refuse(value, f"{value.name!r} has values up to {loss.largest:.3g}, beyond {self._kind.name}")
                return
        if 0 < loss.largest < self._kind.normal and self._vanishes(loss.largest):
            shown = f"{value.name!r} of {loss.largest:.3g} would be {self._kind.nearest(loss.largest):.3g}"
            self._refuse(value, f"{shown} in {self._kind.name}")
            self._guard(readers)
            return
        self.fits[key] = Fit(loss, bound, is_guess)
        if loss.flushed:
            self._guard_divisors(value, readers)

    def _vanishes(self, number: float) -> bool:
        return abs(self._kind.nearest(number) - number) > VANISHES * number

    def _bound(self, value: Value, readers: list[tuple[int, Reader]]) -> float:
        """The magnitude that values beyond the range become; infinite if they must not change."""
        edges = [reader for _, reader in readers]
        if all(isinstance(r, Edge) and r.index in BOUNDING.get(r.node.op, ()) for r in edges):
            return self._kind.largest
        mask = mask_of(self._groups, readers)
        if mask is None:
            return math.inf
        self.masked |= {(one.scope.index, one.name) for one in (value, *mask.values)}
        return self._kind.largest / (2 if mask.is_added else 1)  # so that sums with it stay finite

    def _refuse(self, value: Value, reason: str) -> None:
        for number, _ in value.readers:
            self._groups.all[number].fix(reason)

    def _guard(self, readers: list[tuple[int, Reader]]) -> None:
        """Keep an epsilon's way to its division in float32: rounded before it, the epsilon would be zero."""
        waiting = [(reader, 0) for _, reader in readers if isinstance(reader, Edge) and reader.node.op in ADDING]
        seen = set()
        while waiting:
            reader, steps = waiting.pop()
            for name in reader.node.outputs:
                value = self._groups.value(reader.node.scope, name) if name else None
                for number, further in () if value is None else value.readers:
                    if isinstance(further, Result):
                        continue
                    self._groups.all[number].fix("an epsilon before it is too small for 16 bits")
                    if further.node.op in GUARDED and steps < STEPS and further not in seen:
                        seen.add(further)
                        waiting.append((further, steps + 1))

    def _guard_divisors(self, value: Value, readers: list[tuple[int, Reader]]) -> None:
        for number, reader in readers:
            if _is_divisor(reader):
                self._groups.all[number].fix(f"some of {value.name!r} would become zero, and it is divided by them")


def _is_divisor(reader: Reader) -> bool:
    """Whether zeros among what it reads change everything."""
    return isinstance(reader, Edge) and DIVIDING.get(reader.node.op) == reader.index
