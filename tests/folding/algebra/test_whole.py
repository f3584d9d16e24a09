"""Questions about all elements answer as NumPy's reductions do, for NaN, infinities, no elements and scalars."""

from __future__ import annotations

import numpy as np
import pytest

from folding.algebra.whole import is_finite, is_positive, is_true, is_uniformly, largest

ARRAYS = [
    np.array(values, np.float64)
    for values in (
        [],
        [1.0],
        [0.0, 0.0],
        [-0.0, 0.0],
        [1.0, 1.0, 1.0],
        [1.0, 2.0],
        [2.0, 1.0],
        [-1.0, 3.0],
        [np.nan, 1.0],
        [1.0, np.nan],
        [np.inf, 1.0],
        [1.0, -np.inf],
        [[1.0, 1.0], [1.0, 0.0]],
        [[1.0], [1.0]],
        5.0,
        np.nan,
    )
]


@pytest.mark.parametrize("values", ARRAYS, ids=str)
def test_the_answers_are_those_of_numpy(values):
    assert is_true(values > 0) == (values > 0).all()
    assert is_positive(values) == (values > 0).all()
    assert is_finite(values) == np.isfinite(values).all()
    for number in (0.0, 1.0, 5.0):
        assert is_uniformly(values, number) == (values == number).all()
    if values.size:
        assert np.array_equal(largest(values), values.max(), equal_nan=True)
