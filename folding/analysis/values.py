"""A scope's access to its constants and shapes; `indexed` builds a graph with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.analysis import constants, shapes
from folding.graph.index import Graph

if TYPE_CHECKING:
    from folding.onnxfile import OnnxFile


def indexed(file: OnnxFile, *, freeze_initializers: bool = False) -> Graph:
    """Build the index of a model; `freeze_initializers` treats overridable initializers as constants.

    Raises:
        ModelError: the model imports the standard operators in more than one version.
    """
    return Graph(file, Known(), freeze_initializers=freeze_initializers)


class Known:
    """Implements `folding.graph.index.Values` with the contents of the file and the results of inference."""

    is_constant = staticmethod(constants.is_constant)
    weight = staticmethod(constants.weight)
    array = staticmethod(constants.array)
    shape = staticmethod(shapes.of)
