"""Judge one output of the folded model by how far legitimate executions of the original differ from each other.

The original runs as it is, optimised by the runtime, with its inputs rounded once more, and with its inputs off by
several roundings. Differences between these executions are noise; a larger difference of the folded model is an error.
Where the folded model has a type of fewer digits, the original runs with all its numbers rounded to these instead.
Each slice (a channel, a class, a coordinate) has its own tolerance, so that a channel of small magnitude is not judged
by its large neighbours.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np

from folding.report.model import OutputError
from folding.verification import advice

Array = np.ndarray[Any, np.dtype[Any]]
Judgement = Literal["ok", "bad", "unsettled"]

# A fold rounds each weight once, where the original rounds each product: one or two units in the last place per
# operator. Their effect in deep networks is measured; this is for the last operators, which no measurement reaches.
EPSILONS = 8
# Steps of a quantizer are not random: an element moves by one step or not at all, and the probe moves half of them.
QUANTIZED_NOISES = 2
# A quantized activation is off by up to half of the 255 steps that span its range.
QUANTIZED_ROUNDING = 2.0**-9
# The error that intermediate numbers of order one leave behind, in steps of a saturated sigmoid.
FLOOR_EPSILONS = 2
# Where no execution differs (only integer inputs and nothing to optimise), the depth is unknown: sqrt(64) times more.
EPSILONS_UNPROBED = 64
# The jitter is a maximum of a few draws; the folded model's own noise is independent and may be a few times larger.
NOISES = 8
# The same where the original itself ran with every number rounded to the type: nothing is left to be guessed.
EPSILONS_MEASURED, NOISES_MEASURED = 2, 4
# A slice with fewer non-zero elements (as Relu leaves in some channels) may show little noise by chance: it is judged
# by the noise of the whole output.
QUIET_ELEMENTS = 16
# When rounding alone moves an output by more than this share of its magnitude, no comparison is meaningful.
NOISE_SHARE = 0.25
# An error is gross if this share of the elements is off by so many tolerances.
GROSS, GROSS_SHARE = 30, 0.1
# ONNX Runtime's sigmoid is a rational approximation plus one half, so its values are multiples of a quarter epsilon.
SIGMOID_STEPS = 4
FLOAT32 = 2.0**-23  # the relative spacing of its numbers


@dataclass(frozen=True)
class Rounding:
    """How a model rounds: the relative spacing of its narrowest floating type, and whether it quantizes activations.

    `is_emulated`: the folded model overflows as its types do. `is_measured`: the jitter is of executions in which every
    number was rounded so. `max_error` is accepted in place of what the jitter explains, relative to the largest number.
    """

    epsilon: float
    quantizes: bool = False
    is_emulated: bool = False
    is_measured: bool = False
    max_error: float | None = None

    @property
    def noises(self) -> int:
        """The accepted error, as a multiple of the original's jitter."""
        return QUANTIZED_NOISES if self.quantizes else NOISES_MEASURED if self.is_measured else NOISES

    @property
    def least(self) -> float:
        """The accepted error, as a share of the largest number in a slice, where the jitter says less."""
        return self.epsilon * (EPSILONS_MEASURED if self.is_measured else EPSILONS)

    @property
    def step(self) -> float:
        """The relative spacing of the numbers with which the runtime computes: an emulation runs in float32."""
        return FLOAT32 if self.is_emulated else self.epsilon

    @property
    def swing(self) -> float:
        """The relative change of the inputs in the execution that shows the largest accepted error."""
        return max(NOISES * self.epsilon, QUANTIZED_ROUNDING if self.quantizes else 0.0)


@dataclass
class Reference:
    """One output of the original on one sample, and how far other executions of the original were from it.

    `jitter` comes from executions that are off by one rounding, `swing` from inputs off by `Rounding.swing`. Both have
    the shape of `value`. They hold absolute differences for floating types, and whether the value changed for others.
    """

    name: str
    value: Array
    jitter: Array
    swing: Array
    reshaped: bool = False  # an execution of the original returned another shape

    @classmethod
    def of(cls, name: str, value: Array) -> Reference:
        """A reference from which no execution differs yet."""
        still = np.zeros(value.shape, wide(value).dtype if is_float(value) else np.bool_)
        return cls(name, value, still, still.copy())

    def widen(self, value: Array, *, amplified: bool) -> None:
        """Record another legitimate execution."""
        if value.shape != self.value.shape:
            self.reshaped = True
        elif amplified:
            np.maximum(self.swing, difference(self.value, value), out=self.swing)
        else:
            np.maximum(self.jitter, difference(self.value, value), out=self.jitter)


@dataclass(frozen=True)
class Finding:
    """The judgement of one output on one sample; the reason is a sentence, empty if the judgement is ok."""

    judgement: Judgement
    reason: str
    error: OutputError
    is_gross: bool = False  # no rounding explains it, whatever it is


def is_float(value: Array) -> bool:
    """Whether an array holds floating-point numbers, including bfloat16 (which NumPy calls void)."""
    return np.issubdtype(value.dtype, np.floating) or value.dtype.name == "bfloat16"


def wide(value: Array) -> Array:
    """Floating values in a type that holds their differences precisely enough: float32 for narrow types."""
    return value if value.dtype.itemsize >= np.dtype(np.float32).itemsize else value.astype(np.float32)


def difference(a: Array, b: Array) -> Array:
    """Elementwise |a - b| for equal shapes and types: inf where one is NaN; for other types, whether they differ.

    An infinity counts as the largest number of its type: in float16, 65504 + 1 may be either, and both are correct.
    """
    if not is_float(a):
        return np.asarray(a != b)
    with np.errstate(over="ignore"):
        apart = np.abs(_finite(a) - _finite(b))
    return np.where(np.isnan(apart), np.inf, apart).astype(apart.dtype, copy=False)


def _finite(values: Array) -> Array:
    limit = float(ml_dtypes.finfo(values.dtype).max)  # type: ignore[no-untyped-call]  # unlike NumPy it supports bfloat16
    return np.clip(wide(values), -limit, limit)


def judge(reference: Reference, folded: Array, rounding: Rounding) -> Finding:
    """Compare an output of the folded model, of any type, with the original's."""
    if reference.value.dtype != folded.dtype:
        return _mismatch(reference, "bad", f"has type {folded.dtype} where the original gives {reference.value.dtype}")
    if reference.reshaped:
        what = f"has another shape in the original itself when it is rounded otherwise; {advice.SAMPLES}"
        return _mismatch(reference, "unsettled", what)
    if reference.value.shape != folded.shape:
        shapes = f"has shape {list(folded.shape)} where the original gives {list(reference.value.shape)}"
        return _mismatch(reference, "bad", shapes)
    return (_floats if is_float(folded) else _others)(reference, folded, rounding)


def _floats(reference: Reference, folded: Array, rounding: Rounding) -> Finding:
    apart = difference(reference.value, folded)
    if not apart.size:
        return Finding("ok", "", OutputError(reference.name, 0.0, 0.0, 0.0, 0.0, ok=True))
    magnitude = largest(np.abs(wide(reference.value)))
    scale = _scale(reference.value, magnitude, rounding.step)
    noise = _rounding_tolerance(reference, rounding)
    tolerance = np.maximum(noise, FLOOR_EPSILONS * rounding.epsilon * min(1.0, scale))
    if rounding.max_error is not None:
        tolerance = np.full_like(noise, rounding.max_error * magnitude)
    overflows = _overflows(reference, folded) if rounding.is_emulated else np.zeros(folded.shape, np.bool_)
    gone = _overflows(Reference.of(reference.name, folded), reference.value) & rounding.is_emulated
    tolerance = np.where(overflows, 0, np.where(gone, np.inf, tolerance))
    bad = int(np.count_nonzero(~(apart <= tolerance)))
    place = _decisive(apart, tolerance)
    judgement: Judgement = "ok"
    reason = ""
    # What noise says is for what is neither overflow nor limited by the user.
    is_decided = bool(overflows.any()) or (rounding.max_error is not None and bad > 0)
    if is_decided or bad > rounding.noises * _jumps(reference, scale):
        judgement, reason = "bad", _deviation(reference, folded, place, float(tolerance[place]))
    elif gone.any():
        judgement = "unsettled"
        reason = f'output "{reference.name}" of the original itself is not finite in its types; {advice.SAMPLES}'
    elif rounding.max_error is None and (bad or np.median(noise) > NOISE_SHARE * scale):
        judgement, reason = "unsettled", _chaos(reference, rounding)
    measured = np.maximum(reference.jitter, reference.swing * (rounding.epsilon / rounding.swing))
    # Where elements jump (ties), one of them is as far off as any error: their number decides, above.
    quiet = judgement == "bad" and not is_decided and not _jumps(reference, scale)
    if quiet and _is_within(reference.value, np.where(apart > tolerance, apart, 0), measured):
        judgement, reason = "unsettled", _chaos(reference, rounding)
    figures = OutputError(
        reference.name,
        max_absolute=largest(apart),
        max_relative=_share(largest(apart), magnitude),
        mean_relative=_share(_mean(apart), _mean(np.abs(wide(reference.value)))),
        noise=largest(measured),
        tolerance=min(float(tolerance[place]), sys.float_info.max),
        ok=judgement == "ok",
    )
    gross = np.count_nonzero(~(apart <= GROSS * tolerance)) > GROSS_SHARE * apart.size
    return Finding(judgement, reason, figures, bool(gross or is_decided))


def _overflows(reference: Reference, folded: Array) -> Array:
    """Where the folded model has no finite number and every execution of the original has one."""
    known = np.isfinite(reference.value) & np.isfinite(reference.jitter) & np.isfinite(reference.swing)
    return np.asarray(known & ~np.isfinite(folded))


def _is_within(value: Array, errors: Array, noise: Array) -> bool:
    """Whether the original differs from itself by as much somewhere, relative to the magnitude of the slice.

    A slice is quiet by chance where saturation hides the noise that its neighbours show. Slices of other magnitudes
    count by their own: the noise of coordinates says nothing of scores.
    """
    magnitudes, axes = np.abs(wide(value)), [axis for axis, length in enumerate(value.shape) if length > 1]
    for axis in axes:
        others = tuple(a for a in range(value.ndim) if a != axis)
        whole = np.maximum(_largest_along(magnitudes, others), np.finfo(magnitudes.dtype).tiny)
        if not (_largest_along(errors, others) / whole).max() <= (_largest_along(noise, others) / whole).max():
            return False
    return bool(axes) and bool(np.isfinite(errors).all())


def _rounding_tolerance(reference: Reference, rounding: Rounding) -> Array:
    """The error of each element that rounding explains: the strictest tolerance of the slices that contain it."""
    value = np.abs(wide(reference.value))
    probed = largest(reference.jitter) > 0 or largest(reference.swing) > 0
    relative = rounding.least if probed else rounding.epsilon * EPSILONS_UNPROBED
    moved = np.maximum(rounding.noises * reference.jitter, reference.swing)
    overall = largest(moved)
    tolerance = np.full(value.shape, max(relative * largest(value), overall), moved.dtype)
    for axis in (a for a, length in enumerate(value.shape) if length > 1):
        others = tuple(a for a in range(value.ndim) if a != axis)
        slices = np.maximum(relative * _largest_along(value, others), _largest_along(moved, others))
        alive = np.count_nonzero(np.maximum(value, moved), axis=others, keepdims=True)
        slices = np.where(alive < QUIET_ELEMENTS, np.maximum(slices, overall), slices)
        np.minimum(tolerance, slices, out=tolerance)
    tolerance[~np.isfinite(moved)] = np.inf  # legitimate executions disagree on whether the value is finite
    return tolerance


def _scale(value: Array, magnitude: float, epsilon: float) -> float:
    """The magnitude of the numbers that an output was computed from: its own, except for a saturated sigmoid.

    A saturated sigmoid yields 0, 3e-8 or 6e-8 for the same argument: steps of a number near one half. An output whose
    values all lie on these steps is treated as a saturated sigmoid.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        steps = wide(value) * (SIGMOID_STEPS / epsilon)
        return max(magnitude, 1.0) if np.all(np.rint(steps) == steps) else magnitude


def _jumps(reference: Reference, scale: float) -> int:
    """The number of elements that rounding alone moves to another value in the original, for example ties of TopK."""
    return int(np.count_nonzero(np.maximum(reference.jitter, reference.swing) > NOISE_SHARE * scale))


def _others(reference: Reference, folded: Array, rounding: Rounding) -> Finding:
    """Integers, booleans and strings must be equal, except for as many as rounding alone changes (ties of ArgMax)."""
    changed = reference.value != folded
    accepted = max(rounding.noises * np.count_nonzero(reference.jitter), np.count_nonzero(reference.swing))
    ok = bool(np.count_nonzero(changed) <= accepted)
    apart = _integer_distance(reference.value, folded, changed)
    noise = _integer_distance(reference.value, folded, changed & (reference.jitter | reference.swing))
    magnitude = _integer_distance(reference.value, np.zeros_like(reference.value), np.ones_like(changed))
    place = np.unravel_index(np.argmax(changed), changed.shape) if changed.size else ()
    figures = OutputError(
        reference.name,
        max_absolute=apart,
        max_relative=_share(apart, magnitude),
        mean_relative=_share(int(np.count_nonzero(changed)), changed.size),
        noise=noise,
        tolerance=apart if ok else 0.0,
        ok=ok,
    )
    return Finding("ok" if ok else "bad", "" if ok else _deviation(reference, folded, place, 0.0), figures)


def _integer_distance(a: Array, b: Array, where: Array) -> float:
    """The largest distance where a mask is true: the difference of integers, 1 for other values."""
    if not where.any():
        return 0.0
    if not np.issubdtype(a.dtype, np.integer):
        return 1.0
    return float(np.abs(a[where].astype(np.float64) - b[where].astype(np.float64)).max())


def largest(values: Array) -> float:
    """The largest finite value, 0 if there is none."""
    return float(np.max(values, initial=0.0, where=np.isfinite(values)))


def _mean(values: Array) -> float:
    """The mean of the finite values, 0 if there is none; of float64, so that long sums are exact enough."""
    where = np.isfinite(values)
    count = max(int(np.count_nonzero(where)), 1)
    return float(np.sum(values / count, dtype=np.float64, where=where))


def _share(part: float, whole: float) -> float:
    """The ratio, at most the largest finite number, because the figures of a report must be finite."""
    return min(part / whole, sys.float_info.max) if whole else 0.0


def _largest_along(values: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.max(values, axis=axes, keepdims=True, initial=0.0, where=np.isfinite(values)))


def _decisive(apart: Array, tolerance: Array) -> tuple[Any, ...]:
    """The index where the error exceeds its tolerance by the largest factor; if it never does, of the largest error."""
    exceeds = ~(apart <= tolerance)
    with np.errstate(over="ignore", invalid="ignore"):
        excess = np.where(exceeds, apart / np.maximum(tolerance, np.finfo(tolerance.dtype).tiny), 0)
    return np.unravel_index(np.argmax(excess if exceeds.any() else apart), apart.shape)


def _deviation(reference: Reference, folded: Array, place: tuple[Any, ...], tolerance: float) -> str:
    where = f" at {[int(index) for index in place]}" if place else ""
    accepted = f"; an error of {tolerance:.2g} is accepted" if tolerance else ""
    values = f"{_shown(folded[place])} where the original gives {_shown(reference.value[place])}"
    return f'output "{reference.name}" is {values}{where}{accepted}'


def _shown(value: object) -> str:
    number = value if isinstance(value, (str, int)) else np.asarray(value).item()
    if not isinstance(number, float):
        return repr(number)
    return f"{number:.6g}" if not math.isnan(number) else "NaN"


def _chaos(reference: Reference, rounding: Rounding) -> str:
    moved = max(largest(reference.jitter), largest(reference.swing))
    what = f"of the original itself moves by {moved:.2g} when its numbers are rounded otherwise"
    return f'output "{reference.name}" {what}; {advice.HALVES if rounding.is_emulated else advice.OTHER_SAMPLES}'


def _mismatch(reference: Reference, judgement: Judgement, what: str) -> Finding:
    figures = OutputError(reference.name, 0.0, 0.0, 0.0, 0.0, ok=False)
    return Finding(judgement, f'output "{reference.name}" {what}', figures)
