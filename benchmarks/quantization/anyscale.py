"""Equalization with scales of any size, to see what powers of two cost: the same, without rounding exponents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from folding import Options, fold
from folding.algebra import equalization
from folding.scaling.region import Region

if TYPE_CHECKING:
    from pathlib import Path


class _Unrounded:
    """NumPy, but for the rounding of exponents."""

    def __getattr__(self, name: str) -> Any:
        return np.positive if name == "rint" else getattr(np, name)


def equalized(model: Path, target: Path) -> None:
    """Fold and equalize; weights are rounded, so that results differ by that."""
    with patch.object(equalization, "np", _Unrounded()), patch.object(Region, "spread", Region.reach):
        fold(model, target, Options(equalize=True, verify=False))
