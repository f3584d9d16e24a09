"""Edit: what a rule answers with, the change at one node by which it absorbs an affine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from folding.algebra.affine import Affine
    from folding.algebra.clamp import Clamp
    from folding.graph.node import Node
    from folding.graph.weights import Weight


@dataclass(frozen=True)
class Edit:
    """What changes at one node so that it absorbs an affine.

    `constants` maps an input index to its new constant; `attributes` are set. `become` turns the node
    into the given affine of its one data input, `clamp` into the given clamp of it. `leftover` must still be
    applied to its first output. `passed` says that the node does not absorb: the move passes it, and one of its
    constants changes.
    """

    node: Node
    constants: Mapping[int, Weight] = field(default_factory=dict)
    attributes: Mapping[str, float | str | Sequence[int]] = field(default_factory=dict)
    become: Affine | None = None
    clamp: Clamp | None = None
    leftover: Affine | None = None
    passed: bool = False

    @property
    def added(self) -> int:
        """How many operators it adds: a leftover with a scale and a shift is two, and so may a clamp be."""
        left = 0 if self.leftover is None else (not self.leftover.is_linear) + (not self.leftover.is_shift)
        return left + (0 if self.clamp is None else len(self.clamp.operators) - 1)
