"""samples: shapes in a sensible order, repeatable values, and nothing allocated that is too large."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from folding.verification import samples
from folding.verification.samples import Guess, Spec, UnverifiableError, describe, generate, guesses, rounded


def spec(kind: str, *shape: int | str | None, name: str = "x") -> Spec:
    return Spec.of(name, f"tensor({kind})", shape)


def shapes(*specs: Spec, count: int = 3) -> list[tuple[tuple[int, ...], ...]]:
    return [tuple(s.sized(guess.sizes) for s in specs) for guess in itertools.islice(guesses(specs), count)]


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        ([spec("float", 1, 3, 240, 320)], [((1, 3, 240, 320),)]),
        ([spec("float", "N", 3, 240, 320)], [((2, 3, 240, 320),), ((1, 3, 240, 320),)]),
        ([spec("float", None, 3, "?", "?")], [((2, 3, 64, 64),), ((1, 3, 64, 64),), ((2, 3, 32, 32),)]),
        ([spec("float", -1, -1, -1, 3)], [((2, 64, 64, 3),), ((1, 64, 64, 3),), ((2, 32, 32, 3),)]),
        ([spec("float", 1, "C", "H", "W")], [((1, 3, 64, 64),), ((1, 1, 64, 64),), ((1, 3, 32, 32),)]),
        ([spec("float", "N", "T", 80)], [((2, 16, 80),), ((1, 16, 80),), ((2, 8, 80),)]),
        ([spec("float", "T", "batch", 80)], [((2, 2, 80),), ((1, 1, 80),)]),
        ([spec("float", "a", 1), spec("float", 1, "a", name="z")], [((2, 1), (1, 2)), ((1, 1), (1, 1))]),
        ([spec("float", None), spec("float", None, name="z")], [((2,), (2,)), ((1,), (1,))]),
        ([spec("float")], [((),)]),
    ],
)
def test_shapes_are_tried_in_order(specs: list[Spec], expected: list[tuple[tuple[int, ...], ...]]) -> None:
    assert shapes(*specs, count=3) == expected


def test_integers_get_smaller_bounds_before_other_shapes() -> None:
    tried = itertools.islice(guesses([spec("int64", "N")]), 4)
    assert [(guess.sizes["N"], guess.bound) for guess in tried] == [(2, 10), (2, 2), (2, 1), (1, 10)]


def test_attempts_are_bounded() -> None:
    everything = [spec("float", "N", "C", "H", "W"), spec("int64", "N", "L", name="z")]
    assert len(list(guesses(everything))) == 8 * 2 * 2 * 3


@pytest.mark.parametrize(
    ("wanted", "low", "high"),
    [
        (spec("float", 1000), -5, 5),
        (spec("float16", 1000), -5, 5),
        (spec("bfloat16", 1000), -5, 5),
        (spec("int64", 1000), 0, 9),
        (spec("uint16", 1000), 0, 9),
        (spec("uint8", 1000), 0, 255),
        (spec("int8", 1000), -128, 127),
        (spec("bool", 1000), 0, 1),
    ],
)
def test_values(wanted: Spec, low: float, high: float) -> None:
    guess = Guess({}, samples.BOUNDS[0])
    values = generate([wanted], guess, 0)["x"]
    assert values.dtype == wanted.dtype
    assert low <= values.astype(np.float64).min() < values.astype(np.float64).max() <= high
    np.testing.assert_array_equal(values, generate([wanted], guess, 0)["x"])
    assert not np.array_equal(values, generate([wanted], guess, 1)["x"])


def test_one_sample_is_uniform_and_strings_are_letters() -> None:
    guess = Guess({}, samples.BOUNDS[0])
    uniform = generate([spec("float", 1000)], guess, samples.UNIFORM_SAMPLE)["x"]
    assert 0 <= uniform.min() < uniform.max() < 1
    assert generate([spec("string", 2)], guess, 0)["x"].tolist() == ["a", "a"]


@pytest.mark.parametrize("shape", [(4, 16), (3, 1, 2, 5), (7,), (2, 0)])
def test_a_mask_is_of_ones_and_then_zeros(shape: tuple[int, ...]) -> None:
    wanted = spec("int64", *shape, name="attention_mask")
    for number in range(5):
        mask = generate([wanted], Guess({}, 10), number)["attention_mask"]
        assert (mask.shape, mask.dtype) == (shape, np.dtype(np.int64))
        assert set(mask.ravel().tolist()) <= {0, 1}
        assert (np.diff(mask) <= 0).all()
        assert mask[..., :1].all()
    assert not generate([wanted], Guess({}, 1), 0)["attention_mask"].any()


@pytest.mark.parametrize(("kind", "shape"), [("uint8", (1, 64, 64, 3)), ("int64", (64, 64)), ("float", (64, 64))])
def test_images_of_masks_and_other_names_are_no_flags(kind: str, shape: tuple[int, ...]) -> None:
    name = "x" if kind == "int64" else "mask"
    assert generate([spec(kind, *shape, name=name)], Guess({}, 10), 0)[name].max() > 1


def test_a_huge_sample_is_refused_before_it_is_allocated() -> None:
    with pytest.raises(UnverifiableError, match="takes 4,398,046,511,104 bytes"):
        generate([spec("float", 2**40)], Guess({}, 1), 0)


@pytest.mark.parametrize("kind", ["seq(tensor(float))", "tensor(int4)", "tensor(complex64)"])
def test_other_inputs_are_refused(kind: str) -> None:
    with pytest.raises(UnverifiableError, match="for which no samples can be made"):
        Spec.of("x", kind, [1])


@pytest.mark.parametrize(("drift", "moves"), [(0.0, {-1, 1}), (0.5, {0, 1}), (1.0, {1})])
def test_rounding_moves_numbers_by_their_share(drift: float, moves: set[int]) -> None:
    feeds = {"x": np.array([1.0, -2.0, 1000.0] * 10), "ids": np.array([1, 2])}
    near = rounded(feeds, 2.0**-10, drift)
    assert set((near["x"] / feeds["x"] - 1) * 2.0**10) == moves
    assert near["ids"] is feeds["ids"]


def test_descriptions() -> None:
    feeds = {"x": np.zeros((1, 3), np.float32), "n": np.array(4), "s": np.array(["a"], object)}
    shown = "x float32 1x3, n int64 scalar{}, s string 1"
    assert describe("generated", feeds, generated=True) == f"generated: {shown.format(' (4 to 4)')}"
    assert describe("file.npz", feeds, generated=False) == f"file.npz: {shown.format('')}"
    assert describe("generated", {}, generated=True) == "none: the model has no inputs"
