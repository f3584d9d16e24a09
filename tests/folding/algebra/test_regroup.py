"""How a map crosses a reshape: exact where the sizes settle it, refused where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from folding.algebra import regroup as module
from folding.algebra.affine import Affine
from folding.algebra.regroup import groups, regroup
from folding.refusal import Refused

ROWS = [
    # source, target, groups as source axes : target axes, ! where they are not settled
    (("N", 6, 4, 5), ("N", 6, 20), "0:0 1:1 23:2"),
    (("N", 6, 4, 5), ("N", 2, 3, 4, 5), "0:0 1:12 2:3 3:4"),
    (("N", 6, "H", "W"), ("N", 2, 3, "H", "W"), "0:0 1:12 2:3 3:4"),
    (("N", 6, "H", "W"), ("N", 6, None), "0:0 1:1 23:2!"),
    ((None, 64, 1, 1), (None, 64), "0:0 123:1"),
    (("N", "C", 3), ("M", 3), "01:0! 2:1"),
    (("N", 3), ("M", 3), "0:0 1:1"),
    ((2, 3, 4), (24,), "012:0"),
    ((24,), (2, 3, 4), "0:012"),
    ((2, 6), (4, 3), "01:01"),
    ((1, 4), (1, 1, 4), "0:0 1:12"),
    ((4,), (4, 1), "0:0 :1"),
    ((4, 1), (4,), "0:0 1:"),
    ((0, 3), (0, 5), "01:01!"),
    (("N", 4, 6, "W"), ("N", 8, 3, "W"), "0:0 12:12 3:3"),
]


def shown(found: list[module.Group]) -> str:
    def axes(span: tuple[int, int]) -> str:
        return "".join(str(axis) for axis in range(*span))

    return " ".join(f"{axes(g.source)}:{axes(g.target)}{'' if g.settled else '!'}" for g in found)


@pytest.mark.parametrize(("source", "target", "expected"), ROWS)
def test_groups(source, target, expected):
    assert shown(groups(source, target)) == expected


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two ways to cut one number of elements into axes."""
    primes = draw(st.lists(st.sampled_from([1, 2, 2, 3]), min_size=1, max_size=5))

    def cut() -> tuple[int, ...]:
        sizes = [1]
        for prime in primes:
            if draw(st.booleans()):
                sizes.append(1)
            sizes[-1] *= prime
        return tuple(sizes)

    return cut(), cut()


@given(reshapes(), st.data())
def test_a_map_crosses_a_reshape_as_the_values_do(pair, data):
    source, target = pair
    narrow = tuple(data.draw(st.sampled_from([1, n])) for n in source)
    scale = np.arange(1.0, 1 + np.prod(narrow)).reshape(narrow)
    a, x = Affine.of(scale, -scale), np.arange(np.prod(source), dtype=float).reshape(source)
    np.testing.assert_array_equal(regroup(a, source, target)(x.reshape(target)), a(x).reshape(target))


def answer(a: Affine, source: module.Shape, target: module.Shape) -> Affine | str:
    try:
        return regroup(a, source, target)
    except Refused as refusal:
        return refusal.code


@given(reshapes(), st.data())
def test_unknown_sizes_never_mislead(pair, data):
    """Hide some sizes: the answer is the one of the known sizes, or a refusal."""
    source, target = pair
    hidden = [{i for i, _ in enumerate(shape) if data.draw(st.integers(0, 3)) == 0} for shape in pair]
    shapes = [tuple(None if i in gone else n for i, n in enumerate(s)) for s, gone in zip(pair, hidden, strict=True)]
    narrow = tuple(data.draw(st.sampled_from([1, n])) for n in source)
    scale = np.arange(1.0, 1 + np.prod(narrow)).reshape(narrow)
    a, x = Affine.of(scale, scale), np.arange(np.prod(source), dtype=float).reshape(source)
    passed = answer(a, *shapes)
    if isinstance(passed, Affine):
        np.testing.assert_array_equal(passed(x.reshape(target)), a(x).reshape(target))
    else:
        assert passed == "unknown-shape"
        assert any(hidden)


def test_what_is_not_settled_does_not_matter_where_the_map_does_not_vary():
    a = Affine.of(np.arange(1.0, 7).reshape(1, 6, 1, 1), 0.0)
    assert regroup(a, ("N", 6, "H", "W"), ("N", 6, None)).shape == (1, 6, 1)


def test_large_groups_are_not_written_out(monkeypatch):
    monkeypatch.setattr(module, "EXPANDED_LIMIT", 11)
    a = Affine.of(np.arange(1.0, 4).reshape(3, 1), 0.0)
    with pytest.raises(Refused) as caught:
        regroup(a, (3, 4), (12,))
    assert caught.value.code == "too-large"
