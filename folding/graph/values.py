"""A scope's access to its constants and shapes; `indexed` builds a graph with it."""

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
    """Build the index of a model; `freeze_initializers` treats overridable initializers as constants.

    Raises:
        ModelError: the model imports the standard operators in more than one version.
    """
    return Graph(file, Known(), freeze_initializers=freeze_initializers)


class Known:
    """Implements `folding.graph.index.Values` with the contents of the file and the results of inference."""

    def is_constant(self, scope: Scope, name: str) -> bool:
        """Whether the name has a known value that no caller may override."""
        return constants.is_constant(scope, name)

    def weight(self, scope: Scope, name: str) -> Weight:
        """A floating-point constant; raises as `constants.weight` does."""
        return constants.weight(scope, name)

    def array(self, scope: Scope, name: str) -> NDArray[Any]:
        """A constant's values in its stored type; raises as `constants.weight` does."""
        return constants.array(scope, name)

    def shape(self, scope: Scope, name: str) -> Shape | None:
        """The shape of a value as far as it is known."""
        return shapes.of(scope, name)
