"""The powers of two that equalize channels: next to the best scale, and none where there is nothing to gain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from folding.algebra.equalization import STEP, exponents, noise, unevenness

heard = st.floats(STEP, 1.0)


def exponent(before, behind):
    """The exponent of a channel with these precisions in each weight, beside two even ones, which keep their scale."""
    columns = (np.array([of, np.ones_like(of), np.ones_like(of)]).T for of in (np.asarray(before), np.asarray(behind)))
    found = exponents(*map(np.atleast_2d, columns))
    assert found[1:].tolist() == [0, 0]
    return found[0]


@given(heard, heard)
def test_both_sides_then_have_the_same_precision_but_for_a_factor_of_two(before, behind):
    if before * behind < STEP**2:
        return
    k = exponent([before], [behind])
    assert k == round(k)
    after = before * 2.0**k, behind / 2.0**k
    assert after[0] * after[1] == before * behind
    assert max(after) / min(after) <= 2 * (1 + 1e-9)


@given(heard, heard)
def test_it_is_the_scale_of_the_paper_rounded_to_a_power_of_two(before, behind):
    """Equation 11 of Nagel et al.: W1 / s and s * W2 with ``s = sqrt(r1 * r2) / r2``."""
    if before * behind < STEP**2:
        return
    s = np.sqrt(before * behind) / behind
    k = exponent([before], [behind])
    assert abs(-np.log2(s) - k) <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("before", "behind", "expected"),
    [
        (1.0, 2.0**-4, -2.0),
        (2.0**-4, 1.0, 2.0),
        (1.0, 0.5, 0.0),
        (0.0, 1.0, 0.0),
        (1.0, 0.0, 0.0),
        (0.0, 0.0, 0.0),
        (2.0**-14, 1.0, 7.0),
        (2.0**-15, 1.0, 0.0),  # on both sides rounding would take all of it, instead of one
    ],
)
def test_of_one_channel(before, behind, expected):
    assert exponent([before], [behind]) == expected


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=4), st.lists(st.floats(0.01, 1), min_size=1, max_size=4))
def test_of_several_weights_the_sum_of_squares_is_smallest(before, behind):
    first, second = np.log2(before), np.log2(behind)
    k = exponent(before, behind)

    def squares(k):
        return ((first + k) ** 2).sum() + ((second - k) ** 2).sum()

    assert squares(k) <= min(squares(k - 1), squares(k + 1)) + 1e-9


def test_a_weight_without_a_channel_does_not_count_for_it():
    assert exponent([1.0, 0.0], [2.0**-4, 0.0]) == -2


def test_a_scale_that_all_channels_share_is_none():
    assert exponents(np.full((1, 3), 2.0**-4), np.ones((1, 3))).tolist() == [0, 0, 0]
    assert exponents(np.array([[1.0, 2.0**-6, 2.0**-6]]), np.ones((1, 3))).tolist() == [-3, 0, 0]


def test_noise_is_what_rounding_takes_and_not_more_than_there_is():
    assert noise(np.array([1.0])) == STEP**2
    assert noise(np.array([STEP, STEP / 100, 0.0])) == 2
    assert noise(np.array([0.5, 1.0])) == 5 * STEP**2


def test_unevenness_is_the_largest_range_against_a_typical_one():
    assert unevenness(np.array([8.0, 2.0, 0.5, 0.0])) == pytest.approx(4)
    assert unevenness(np.zeros(3)) == 1
