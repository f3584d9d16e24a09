"""Adapters: one form of an operator as another, at each opset in which its meaning changed; a file per kind of change.

node (attributes and inputs of one operator), inputs (attributes that became inputs), attributes (attributes and
defaults), axes, broadcasting, normalization, pooling, quantization, resizing, expansions (operators that an older
operator set does not have). `UP` and `DOWN` join them: by operator and the newer opset. A change that is in neither
only adds types, or attributes, inputs and outputs whose absence means what it meant before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.conversion.adapters import (
    attributes,
    axes,
    broadcasting,
    inputs,
    normalization,
    pooling,
    quantization,
    resizing,
)
from folding.conversion.adapters.expansions import expanded
from folding.conversion.adapters.node import NoFormError, always

if TYPE_CHECKING:
    from folding.conversion.adapters.node import Table

UNBATCHED = always("Scan had a batch axis before opset 9")
FAMILIES = (attributes, axes, broadcasting, inputs, normalization, pooling, quantization, resizing)
UP: Table = {("Scan", 9): UNBATCHED}
DOWN: Table = {("Scan", 9): UNBATCHED}
for family in FAMILIES:
    UP |= family.UP
    DOWN |= family.DOWN

__all__ = ["DOWN", "UP", "NoFormError", "expanded"]
