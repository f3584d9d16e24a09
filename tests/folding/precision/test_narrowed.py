"""Constants in 16 bits: rounded once, and what that loses."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from folding.graph.narrowed import FEW, FLOAT16, Loss, Narrowed, half
from folding.graph.weights import UnrepresentableError, Weight

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
HALVES = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)  # all finite ones that are not negative


def bits(values):
    return values.view(np.uint16).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("where", ["exact", "tie", "below", "above"])
def test_every_number_and_every_tie_is_rounded_as_numpy_does(where, sign, dtype):
    middle = ((HALVES[:-1] + HALVES[1:]) / 2).astype(dtype)
    values = {
        "exact": HALVES.astype(dtype),
        "tie": middle,
        "below": np.nextafter(middle, dtype(0)),
        "above": np.nextafter(middle, dtype(np.inf)),
    }[where] * dtype(sign)
    assert bits(half(values)) == bits(values.astype(np.float16))


@pytest.mark.parametrize("size", [1e-9, 1e-4, 1.0, 1e3])
def test_random_float64_numbers_are_rounded_once(size):
    values = np.random.default_rng(0).standard_normal(100_000) * size
    assert bits(half(values)) == bits(values.astype(np.float16))


@pytest.mark.parametrize("count", [1, FEW])
@pytest.mark.parametrize("values", [[65520.0], [np.inf, 1.0], [np.nan], [-1e30, 2.0]])
def test_what_is_beyond_is_left_to_others(values, count):
    assert half(np.array(values * count, np.float32)) is None
    assert half(np.array(values * count)) is None


@pytest.mark.parametrize("count", [1, FEW])
def test_the_largest_number_is_none_beyond(count):
    assert bits(half(np.full(count, 65519.996, np.float32))) == [0x7BFF] * count
    assert bits(half(np.full(count, 65519.99))) == [0x7BFF] * count


def written(weight):
    return b"".join(bytes(weight.evaluate(start, stop)) for start, stop in weight.blocks())


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16])
def test_factors_apply_before_the_one_rounding(dtype):
    rng = np.random.default_rng(0)
    stored, factor = rng.standard_normal((300, 700)).astype(np.float32), rng.standard_normal((300, 1))
    exact = Weight(stored.dtype, stored.shape, stored).scaled(stored.shape, factor)
    expected = (stored.astype(np.float64) * factor).astype(dtype)
    found = np.frombuffer(written(Narrowed.of_weight(exact, dtype)), dtype).reshape(stored.shape)
    assert (found == expected).mean() > 0.9999  # ml_dtypes rounds twice


def weight(*values, dtype=FLOAT16, bound=np.inf):
    array = np.array(values, np.float32)
    return Narrowed.of_weight(Weight(array.dtype, array.shape, array), dtype, bound)


def test_infinity_stays_and_what_is_beyond_is_clamped_to_the_bound():
    found = np.frombuffer(written(weight(-np.inf, -1e9, 7e4, 3.0, np.inf, bound=100.0)), np.float16)
    assert found.tolist() == [-np.inf, -100.0, 100.0, 3.0, np.inf]


def test_a_bound_within_the_range_of_the_type_holds_where_nothing_overflows():
    found = np.frombuffer(written(weight(*[-6e4] * FEW, 3.0, bound=1000.0)), np.float16)
    assert set(found.tolist()) == {-1000.0, 3.0}


def test_what_is_beyond_is_refused_without_a_bound():
    with pytest.raises(UnrepresentableError):
        written(weight(1.0, 7e4))


@pytest.mark.parametrize(
    ("values", "loss"),
    [
        ((1.0, -2.0), Loss(largest=2, smallest=1)),
        ((0.0, 0.0), Loss()),
        ((1e-9, 3e-6, 1.0, 0.0), Loss(0, 1, 1, 0, 1.0, np.float32(1e-9))),
        ((7e4, 1e-9, 1.0), Loss(1, 0, 1, 0, 7e4, np.float32(1e-9))),
        ((np.inf, np.nan, 1.0), Loss(infinite=2, largest=1, smallest=1)),
        ((np.inf,), Loss(infinite=1)),
        ((65519.0,), Loss(largest=65519, smallest=65519)),
    ],
)
def test_losses_are_counted(values, loss):
    found = weight(*values).loss()
    assert found == loss


def test_losses_of_a_product_are_those_of_the_product():
    array = np.full((2, 3), 1e-3, np.float32)
    exact = Weight(array.dtype, array.shape, array).scaled((2, 3), np.array([[1e-6], [1e9]]))
    found = Narrowed.of_weight(exact, FLOAT16).loss()
    assert (found.clamped, found.flushed) == (3, 3)


def test_the_number_of_losses_is_that_of_all_blocks():
    array = np.full((1 << 21) + 5, 1e-9, np.float32)
    assert Narrowed.of_weight(Weight(array.dtype, array.shape, array), FLOAT16).loss().flushed == array.size
