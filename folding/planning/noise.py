"""How much a fold raises the rounding noise: a shift that is large against the values cancels after the products.

``W * (scale * x + shift)`` subtracts first and multiplies small numbers. Folded, ``(W * scale) * x + W * shift`` adds
two large numbers that cancel, with the rounding error of the large ones (Higham, Accuracy and Stability of Numerical
Algorithms, section 1.7). So the noise grows by ``|shift|`` against the size of ``scale * x + shift``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from folding.graph.sites import NORMALIZATION, value_type
from folding.refusal import require

if TYPE_CHECKING:
    from typing import Any

    from folding.graph.sites import Site

DIGITS_LOST = 0.5  # of the significant bits of the type, at most: 4,096-fold in float32, 45-fold in float16


def require_digits(site: Site) -> None:
    """Require that enough digits are left if the map moves forward, into products.

    Raises:
        Refused: "cancellation".
    """
    if site.affine.is_linear:
        return
    dtype = value_type(site.node) or np.dtype(np.float32)
    growth, limit = growth_of(site), limit_of(dtype)
    reason = f"the rounding noise of {dtype} would grow {growth:,.0f}-fold, {limit:,.0f}-fold is the limit"
    require(growth <= limit, "cancellation", reason, site.node.label)


def limit_of(dtype: np.dtype[Any]) -> float:
    """The largest tolerated growth of the rounding noise in a floating-point type."""
    bits = int(ml_dtypes.finfo(dtype).nmant) + 1  # type: ignore[no-untyped-call]
    return float(2 ** (bits * DIGITS_LOST))


def growth_of(site: Site) -> float:
    """The factor by which the rounding noise grows if the map moves forward; of the worst channel.

    A normalization centers its values, which then have the mean beta and the deviation gamma: the factor is
    ``|gamma * mean / std|`` against their size. What other maps make of their values is not known; it is taken to have
    the size 1, as after a normalization.
    """
    if site.node.op != NORMALIZATION:
        return float(np.abs(site.affine.shift).max(initial=0.0))
    gamma, beta, mean, variance = (site.node.weight(index).values() for index in range(1, 5))
    size = np.hypot(gamma, beta)
    removed = np.abs(gamma * mean) / np.sqrt(variance + float(site.node.attribute("epsilon")))
    return float(np.max(removed / np.where(size > 0, size, 1.0), initial=0.0))
