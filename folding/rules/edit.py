"""Edit: the change at one node with which it absorbs an affine map."""

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
    """The change at one node with which it absorbs an affine map.

    `constants` maps an input index to its new constant. `attributes` are set. `become` turns the node into this
    affine map of its one data input, `clamp` into this clamp of it. `leftover` must still be applied to its first
    output. `passed` means that the node does not absorb: the move passes it, and one of its constants changes.
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
        """The number of operators that it adds; a leftover with scale and shift, or a clamp, may need two."""
        left = 0 if self.leftover is None else (not self.leftover.is_linear) + (not self.leftover.is_shift)
        return left + (0 if self.clamp is None else len(self.clamp.operators) - 1)
