"""The door of a scope to its constants and shapes; `indexed` makes a graph that has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from folding.graph import constants, shapes
from folding.graph.index import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from folding.algebra.shape import Shape
    from folding.graph.index import Scope
    from folding.graph.weights import Weight
    from folding.onnxfile import OnnxFile


def indexed(file: OnnxFile, *, freeze_initializers: bool = False) -> Graph:
    """A model, indexed; `freeze_initializers` makes overridable initializers constants.

    Raises:
        ModelError: the model imports the standard operators in more than one version.
    """
    return Graph(file, Known(), freeze_initializers=freeze_initializers)


class Known:
    """Answers what `folding.graph.index.Values` asks, from what the file holds and what inference found."""

    def is_constant(self, scope: Scope, name: str) -> bool:
        """Whether the name has a value known now that no caller may override."""
        return constants.is_constant(scope, name)

    def weight(self, scope: Scope, name: str) -> Weight:
        """A floating-point constant; raises as `constants.weight` does."""
        return constants.weight(scope, name)

    def array(self, scope: Scope, name: str) -> NDArray[Any]:
        """A constant's values in its own type; raises as `constants.weight` does."""
        return constants.array(scope, name)

    def shape(self, scope: Scope, name: str) -> Shape | None:
        """The shape of a value as far as it is known."""
        return shapes.of(scope, name)
