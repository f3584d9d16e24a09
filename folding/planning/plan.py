"""Plans: what a fold will do, as plain data (Move, Plan, Merge)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from folding.algebra.affine import Affine
    from folding.graph.node import Node
    from folding.rules import Edit

Direction = Literal["backward", "forward"]


@dataclass(frozen=True)
class Move:
    """The parts of a move: edits of the absorbing nodes, nodes that it passes, and affine nodes that it removes."""

    edits: tuple[Edit, ...] = ()
    path: tuple[Node, ...] = ()
    removed: tuple[Node, ...] = ()

    def __add__(self, other: Move) -> Move:
        """Both moves together."""
        return Move(self.edits + other.edits, self.path + other.path, self.removed + other.removed)

    @property
    def added(self) -> int:
        """The number of operators that the move adds."""
        return sum(edit.added for edit in self.edits)


@dataclass(frozen=True)
class Plan:
    """One fold, ready for the commit. The site's node is in `move.removed`, or one half of its map stays."""

    site: Node
    affine: Affine
    direction: Direction
    move: Move

    @property
    def is_split(self) -> bool:
        """Whether the site stays, as a Mul or an Add."""
        return self.site not in self.move.removed

    @property
    def gone(self) -> tuple[Node, ...]:
        """The affine operators of the model that are removed or changed."""
        return (self.site, *self.move.removed) if self.is_split else self.move.removed


@dataclass(frozen=True)
class Merge:
    """Parallel branches as one convolution: `edit` is the change of the convolution that stays.

    That convolution then computes the output of the sum `root`. `others` are removed, including the affine `sites`.
    """

    root: Node
    edit: Edit
    others: tuple[Node, ...]
    sites: tuple[Node, ...]
