"""Cross-layer equalization: by which powers of two the channels of a value are scaled, so that 8 bits serve all alike.

Nagel, van Baalen, Blankevoort and Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction"
(2019): a tensor that is rounded in steps of its range R leaves a channel of range r the *precision* ``p = r / R``.
Between two weights, ``W2 f(W1 x) = (W2 / s) f((s W1) x)`` for every scale s > 0 of each channel that f passes, and the
product of both precisions does not depend on s, so their sum of noises is least where they are equal:
``s = sqrt(p2 / p1)``. The power of two next to s keeps every digit of the model, and is off by half a bit at most.

Where several weights make a value or read it, they cannot all be equal. Then the squares of ``log p`` are smallest in
sum with ``log s = (sum of log p2 - sum of log p1) / number of weights``, which is the same for one on each side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from folding.algebra.affine import Float64

STEP = 2.0**-7  # of the range of a tensor: the step of 8 bits with a sign


def exponents(before: Float64, behind: Float64) -> Float64:
    """The exponent of each channel's scale ``2^k``, from its precisions in the weights before and behind the value.

    Both are of the shape (weights, channels). As precisions do not determine a scale that all channels share, a typical
    channel keeps the one that it has. The exponent is 0 where a channel has no weight on one side, or so little
    on all of them that rounding would take all of it everywhere instead of in one place: a mean precision below `STEP`.
    """
    number = (before > 0).sum(0) + (behind > 0).sum(0)
    first, second = (np.log2(np.where(of > 0, of, 1.0)).sum(0) for of in (before, behind))
    linked = (before > 0).any(0) & (behind > 0).any(0)
    heard = linked & (first + second >= number * np.log2(STEP))
    if not heard.any():
        return np.zeros(heard.size)
    wanted = (second - first) / np.maximum(number, 1)
    return np.where(heard, np.rint(wanted - np.rint(np.median(wanted[heard]))), 0.0)


def noise(precisions: Float64) -> float:
    """The share of their energy that rounding may take from channels, summed; a channel loses all of its own at most.

    Channels without any weight have none to lose.
    """
    there = precisions[precisions > 0]
    return float(np.minimum(1.0, (STEP / there) ** 2).sum())


def unevenness(ranges: Float64) -> float:
    """How many times the range of a typical channel the largest one has; channels without any weight do not count."""
    there = ranges[ranges > 0]
    return float(np.exp2(np.log2(there.max() / there).mean())) if there.size else 1.0
