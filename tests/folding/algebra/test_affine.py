"""The laws of Affine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from folding.algebra.affine import Affine

numbers = st.integers(-64, 64).map(lambda n: n / 8)  # products and sums of a few of these are exact


@st.composite
def maps(draw: st.DrawFn, shape: tuple[int, ...]) -> Affine:
    narrow = tuple(draw(st.sampled_from([1, n])) for n in shape)
    scale = draw(hnp.arrays(np.float64, narrow, elements=numbers))
    return Affine.of(scale, draw(hnp.arrays(np.float64, narrow, elements=numbers)))


shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)


@st.composite
def values_and_maps(draw: st.DrawFn, count: int) -> tuple[np.ndarray, list[Affine]]:
    shape = draw(shapes)
    value = draw(hnp.arrays(np.float64, shape, elements=numbers))
    return value, [draw(maps(shape)) for _ in range(count)]


@given(values_and_maps(2))
def test_composition_is_application_in_turn(drawn):
    x, (a, b) = drawn
    np.testing.assert_array_equal(a.after(b)(x), a(b(x)))


@given(values_and_maps(3))
def test_composition_is_associative(drawn):
    x, (a, b, c) = drawn
    np.testing.assert_array_equal(a.after(b).after(c)(x), a.after(b.after(c))(x))


@given(values_and_maps(1))
def test_identity_is_neutral(drawn):
    x, (a,) = drawn
    identity = Affine.identity(x.ndim)
    assert identity.is_identity
    for both in (a.after(identity), identity.after(a)):
        np.testing.assert_array_equal(both(x), a(x))


@given(values_and_maps(1))
def test_linear_part_then_shift_part_is_the_map(drawn):
    x, (a,) = drawn
    assert a.linear_part().is_linear
    assert a.shift_part().is_shift
    np.testing.assert_array_equal(a.shift_part().after(a.linear_part())(x), a(x))


@given(values_and_maps(1), st.randoms(use_true_random=False))
def test_transpose_commutes_with_application(drawn, random):
    x, (a,) = drawn
    axes = list(range(x.ndim))
    random.shuffle(axes)
    np.testing.assert_array_equal(a.transpose(axes)(x.transpose(axes)), a(x).transpose(axes))


@given(values_and_maps(1))
def test_reshape_of_the_written_out_map_commutes_with_application(drawn):
    x, (a,) = drawn
    np.testing.assert_array_equal(a.expand(x.shape).reshape([-1])(x.reshape(-1)), a(x).reshape(-1))


@given(values_and_maps(1))
def test_arrays_have_length_one_wherever_the_map_does_not_vary(drawn):
    x, (a,) = drawn
    assert a.axes == tuple(axis for axis, n in enumerate(a.shape) if n > 1)
    written_out = Affine.of(*(np.broadcast_to(part, x.shape) for part in (a.scale, a.shift)))
    assert written_out.shape == a.shape


@given(values_and_maps(1))
def test_rank_changes_undo_each_other(drawn):
    x, (a,) = drawn
    wider = a.with_rank(x.ndim + 2)
    assert wider.rank == x.ndim + 2
    np.testing.assert_array_equal(wider.with_rank(x.ndim)(x), a(x))


def test_an_axis_the_map_varies_along_is_not_dropped():
    with pytest.raises(ValueError, match="varies"):
        Affine.of(np.ones((3, 1)) * [[1], [2], [3]], 0.0).with_rank(1)


def test_arrays_are_read_only():
    a = Affine.of(np.array([1.0, 2.0]), 0.0)
    for array in (a.scale, a.shift):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5


ROWS = [
    # scale, shift, linear, shift only, identity, finite
    ([1.0, 1.0], [0.0, 0.0], True, True, True, True),
    ([1.0, 2.0], [0.0, 0.0], True, False, False, True),
    ([1.0, 1.0], [0.0, 3.0], False, True, False, True),
    ([2.0, 1.0], [0.0, 3.0], False, False, False, True),
    ([np.inf, 1.0], [0.0, 0.0], True, False, False, False),
    ([1.0, 1.0], [np.nan, 0.0], False, True, False, False),
]


@pytest.mark.parametrize(("scale", "shift", "linear", "only_shift", "identity", "finite"), ROWS)
def test_predicates(scale, shift, linear, only_shift, identity, finite):
    a = Affine.of(scale, shift)
    assert (a.is_linear, a.is_shift, a.is_identity, a.is_finite) == (linear, only_shift, identity, finite)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((1, 3, 1), (1,), True),
        ((1, 3, 1), (-2,), True),
        ((1, 3, 1), (2,), False),
        ((1, 3, 2), (1, 2), True),
        ((1, 1), (), True),
    ],
)
def test_varies_only_along(shape, axes, expected):
    scale = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    assert Affine.of(scale, 0.0).varies_only_along(*axes) is expected
