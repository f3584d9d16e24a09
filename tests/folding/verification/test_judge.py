"""judge: what counts as noise, and that one wrong element is enough."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from folding.verification.judge import Finding, Reference, Rounding, difference, judge

EPSILON = 2.0**-23
EXACT = Rounding(EPSILON)
QUANTIZED = Rounding(EPSILON, quantizes=True)
INF, NAN = np.inf, np.nan
# 3 attributes of 100 boxes: pixels, shares and scores, as detectors put them into one output.
BOXES = np.random.default_rng(0).uniform(0.5, 1, (1, 100, 3)).astype(np.float32) * np.array([640, 1, 1e-4], np.float32)


def found(value: Any, folded: Any, jitter: Any = None, swing: Any = None, rounding: Rounding = EXACT) -> Finding:
    """The judgement on a folded output, with other executions of the original where given."""
    reference = Reference.of("y", np.asarray(value))
    for other, amplified in ((jitter, False), (swing, True)):
        if other is not None:
            reference.widen(np.asarray(other), amplified=amplified)
    return judge(reference, np.asarray(folded), rounding)


def changed(values: np.ndarray[Any, Any], place: tuple[int, ...], factor: float) -> np.ndarray[Any, Any]:
    """A copy with one element multiplied."""
    copy = values.copy()
    copy[place] *= factor
    return copy


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [
        ([1.0, INF, -INF, 2.0], [1.5, INF, -INF, 2.0], [0.5, 0, 0, 0]),
        ([NAN, 1.0, NAN], [NAN, NAN, 1.0], [INF, INF, INF]),
        (np.array([65504, 1], np.float16), np.array([INF, INF], np.float16), [0, 65503]),
        (np.array([1, 2], ml_dtypes.bfloat16), np.array([1, 3], ml_dtypes.bfloat16), [0, 1]),
        ([1, 2], [1, 3], [False, True]),
        (["a", "b"], ["a", "c"], [False, True]),
        (1.0, 3.0, 2.0),
    ],
)
def test_difference(a: Any, b: Any, apart: Any) -> None:
    np.testing.assert_array_equal(difference(np.asarray(a), np.asarray(b)), apart)


@pytest.mark.parametrize("attribute", [0, 1, 2])
def test_one_element_of_any_magnitude_is_enough(attribute: int) -> None:
    near = (BOXES * (1 + EPSILON)).astype(np.float32)
    assert found(BOXES, near, jitter=near).judgement == "ok"
    wrong = found(BOXES, changed(BOXES, (0, 7, attribute), 1.01), jitter=near)
    assert wrong.judgement == "bad"
    assert f"at [0, 7, {attribute}]" in wrong.reason


@pytest.mark.parametrize(("alive", "judgement"), [(7, "ok"), (90, "bad")])
def test_a_channel_that_relu_left_little_of_is_judged_by_the_others(alive: int, judgement: str) -> None:
    value = np.full((1, 8, 10, 10), 100, np.float32)
    value[0, 3].flat = np.arange(100) < alive
    loud, quiet = value * np.float32(1 + 8 * EPSILON), value.copy()
    quiet[0, np.arange(8) != 3] = loud[0, np.arange(8) != 3]  # no execution happens to move the few
    assert found(value, changed(value, (0, 3, 0, 2), 1 + 100 * EPSILON), jitter=quiet).judgement == judgement
    assert found(value, changed(value, (0, 3, 0, 2), 1.1), jitter=quiet).judgement == "bad"


ONES = np.ones((4, 16), np.float32)
STEPS = np.array([[0, 1, 3, 2]], np.float32) * np.float32(2.0**-25)  # a saturated sigmoid
TIED = np.arange(100)


@pytest.mark.parametrize(
    ("case", "judgement"),
    [
        ({"value": ONES, "folded": ONES * np.float32(1 + 40 * EPSILON)}, "ok"),  # depth unknown: nothing moved
        ({"value": ONES, "folded": ONES * np.float32(1 + 80 * EPSILON)}, "bad"),
        ({"value": ONES, "folded": ONES * 1.001, "jitter": ONES * 1.0005}, "ok"),
        ({"value": ONES, "folded": ONES * 1.01, "jitter": ONES * 1.0005}, "bad"),
        ({"value": ONES, "folded": ONES * 1.001, "swing": ONES * 1.001}, "ok"),
        ({"value": ONES, "folded": ONES * 1.002, "swing": ONES * 1.001}, "bad"),
        ({"value": ONES, "folded": ONES, "jitter": ONES * 2}, "unsettled"),
        ({"value": ONES, "folded": ONES, "jitter": ONES * NAN}, "unsettled"),
        ({"value": ONES, "folded": ONES, "jitter": ONES[:2]}, "unsettled"),
        ({"value": ONES, "folded": ONES[:2]}, "bad"),
        ({"value": ONES, "folded": ONES.astype(np.float64)}, "bad"),
        ({"value": ONES * INF, "folded": ONES * INF}, "ok"),
        ({"value": ONES * INF, "folded": ONES * -INF}, "bad"),
        ({"value": ONES, "folded": changed(ONES, (0, 0), NAN)}, "bad"),
        ({"value": ONES, "folded": changed(ONES, (0, 0), 3), "swing": changed(ONES, (1, 1), 3)}, "unsettled"),
        ({"value": STEPS, "folded": STEPS[:, ::-1]}, "ok"),
        ({"value": STEPS, "folded": STEPS + np.float32(1e-6)}, "bad"),
        ({"value": ONES * 1e-9, "folded": ONES * 1.01e-9}, "bad"),
        ({"value": ONES * 0, "folded": ONES * np.float32(1e-8)}, "ok"),
        ({"value": ONES[:0], "folded": ONES[:0]}, "ok"),
        ({"value": np.float32(1), "folded": np.float32(1.01)}, "bad"),
        ({"value": ONES[:1], "folded": ONES[:1] * 1.001, "jitter": changed(ONES[:1], (0, 0), 1.0005)}, "ok"),
        ({"value": BOXES, "folded": BOXES * 1.00001, "jitter": BOXES * 1.0000002}, "bad"),
        ({"value": TIED, "folded": TIED}, "ok"),
        ({"value": TIED, "folded": changed(TIED, (5,), 2)}, "bad"),
        ({"value": TIED, "folded": changed(TIED, (5,), 2), "jitter": changed(TIED, (9,), 2)}, "ok"),
        ({"value": TIED, "folded": TIED + 1, "jitter": changed(TIED, (9,), 2)}, "bad"),
        ({"value": np.array(True), "folded": np.array(False)}, "bad"),
        (
            {"value": ONES, "folded": ONES * 1.3, "jitter": ONES * 1.1, "rounding": QUANTIZED},
            "bad",
        ),
        (
            {"value": ONES, "folded": ONES * 1.1, "jitter": ONES * 1.1, "rounding": QUANTIZED},
            "ok",
        ),
    ],
)
def test_judgement(case: dict[str, Any], judgement: str) -> None:
    finding = found(**case)
    assert finding.judgement == judgement
    assert finding.error.ok == (judgement == "ok")
    assert (finding.reason == "") == (judgement == "ok")


def test_figures_belong_together() -> None:
    finding = found(BOXES, changed(BOXES, (0, 7, 2), 1.01), jitter=changed(BOXES, (0, 0, 0), 1 + 2 * EPSILON))
    error = finding.error
    assert error.max_absolute == pytest.approx(1e-2 * BOXES[0, 7, 2], rel=1e-2)
    assert error.max_relative == pytest.approx(error.max_absolute / BOXES.max())
    assert error.mean_relative == pytest.approx(error.max_absolute / BOXES.sum(), rel=1e-3)
    assert error.noise == pytest.approx(2 * EPSILON * BOXES[0, 0, 0], rel=0.5)
    assert error.tolerance < error.max_absolute


@pytest.mark.parametrize(
    ("value", "folded"), [([1e-300], [1e300]), ([1e300], [-1e300]), ([1.0], [np.inf]), ([1.0], [np.nan])]
)
def test_figures_are_finite(value: list[float], folded: list[float]) -> None:
    finding = found(np.array(value), np.array(folded))
    assert finding.judgement == "bad"
    error = finding.error
    assert np.isfinite([error.max_absolute, error.max_relative, error.mean_relative, error.tolerance]).all()


def test_a_quantized_model_is_probed_by_half_a_step() -> None:
    assert Rounding(EPSILON).swing == 8 * EPSILON
    assert Rounding(EPSILON, quantizes=True).swing == 2.0**-9


def test_an_error_as_large_as_the_noise_of_the_original_is_not_called_wrong() -> None:
    """Saturation hides the noise of one channel, which the folded model's own rounding shows."""
    value = np.random.default_rng(0).uniform(0.5, 1, (1, 64, 25)).astype(np.float32)
    noisy = value.copy()
    noisy[0, :32] += np.float32(0.01)  # half of the channels move when the original is rounded otherwise
    folded = value.copy()
    folded[0, 40, 3:9] += np.float32(0.008)  # one of the quiet ones
    quiet = found(value, folded, jitter=noisy)
    assert (quiet.judgement, quiet.error.ok) == ("unsettled", False)
    assert "of the original itself moves by 0.01" in quiet.reason
    folded[0, 40, 3] += np.float32(0.05)
    assert found(value, folded, jitter=noisy).judgement == "bad"


def test_a_tie_that_jumps_in_the_original_excuses_no_wrong_result() -> None:
    value = np.random.default_rng(0).uniform(0.5, 1, (1, 64, 25)).astype(np.float32)
    tied = value.copy()
    tied[0, 3, 4] = 0  # one element is another one when the original is rounded otherwise
    assert found(value, value * np.float32(1.1), jitter=tied).judgement == "bad"
