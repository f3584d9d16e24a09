"""Decide in float64 where float32 leaves doubt: an error near the limit, a step that one rounding moves, two engines.

The original and the folded model are computed once more with every number in float64, and the original once with every
constant rounded once more, as a fold rounds it. What differs there is an error of the fold; what does not is rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from folding.verification.judge import Finding, Reference, difference, is_float, judge, largest, wide
from folding.verification.runtime import leaves

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from folding.verification.judge import Array, Rounding
    from folding.verification.runtime import Taps
    from folding.verification.samples import Feeds

# An execution of the original and its value in float64 are the same computation if nine in ten elements agree so far.
AGREEING, AGREEMENT = 0.9, 2.0**-7
# The errors of both models are compared at these quantiles: below the few elements that a step or a tie moves.
QUANTILES = (0.5, 0.9, 0.99)
ACCURACY = 8  # how much larger the errors of the folded model may be there


@dataclass(frozen=True)
class Doubt:
    """A finding that is not settled, with the outputs of all executions in float32."""

    finding: Finding
    reference: Reference
    executions: Sequence[Array]  # of the original, as it is and optimised
    folded: Array


class Arbiter:
    """Both models in float64. `seconds` bounds every computation; `taps` are what else is compared in each of them.

    Raises:
        InterpreterError: one of them cannot be computed so.
    """

    def __init__(self, before: Path, after: Path, rounding: Rounding, seconds: float, taps: tuple[Taps, Taps]) -> None:
        from folding.execution.interpreter import Interpreter  # noqa: PLC0415  only where there is doubt: it loads onnx

        self._rounding, self._seconds = rounding, seconds
        self._models = (
            (Interpreter(before, wide=True), taps[0]),
            (Interpreter(before, wide=True, moved=rounding.epsilon / 2), taps[0]),
            (Interpreter(after, wide=True), taps[1]),
        )

    def settle(self, feeds: Feeds, doubts: Sequence[Doubt], *, trapped: bool) -> list[Finding]:
        """The findings anew. `trapped`: the runtime is known to compute the original wrongly."""
        exact, moved, folded = (
            leaves(
                [*model.outputs, *((label, "") for label in taps.labels.values())],
                model.run(feeds, self._seconds, list(taps.labels)),
            )
            for model, taps in self._models
        )
        found = []
        for doubt in doubts:
            name = doubt.reference.name
            given = (exact.get(name), moved.get(name), folded.get(name))
            same = [value for value in given if value is not None and value.shape == doubt.folded.shape]
            found.append(self._settled(doubt, *same, trapped=trapped) if len(same) == len(given) else doubt.finding)
        return found

    def _settled(self, doubt: Doubt, exact: Array, moved: Array, folded: Array, *, trapped: bool) -> Finding:
        agreeing = [value for value in doubt.executions if value.shape == exact.shape and _agrees(value, exact)]
        if not (agreeing or trapped) or not _is_comparable(doubt, exact, moved):
            return doubt.finding
        reference = Reference.of(doubt.reference.name, exact)
        reference.widen(moved, amplified=False)
        if is_float(exact):  # the last rounding, which the constants do not show
            reference.widen(exact * (1 + self._rounding.epsilon / 2), amplified=False)
        answer = judge(reference, folded, self._rounding)
        if answer.judgement == "bad":
            return answer if answer.is_gross and agreeing else doubt.finding
        error = doubt.finding.error
        if answer.judgement == "unsettled":
            return Finding("unsettled", answer.reason, replace(error, ok=False))
        rounded = [_apart(value, exact) for value in agreeing] or [_apart(moved, exact)]
        noise = np.max(np.stack([*rounded, doubt.reference.jitter]) if not trapped else np.stack(rounded), axis=0)
        error = replace(error, noise=max(largest(noise), error.noise if not trapped else 0.0))
        off = _apart(doubt.folded, exact)
        if all(np.quantile(off, q) <= ACCURACY * np.quantile(noise, q) + self._least(exact) for q in QUANTILES):
            return Finding("ok", "", replace(error, tolerance=max(error.tolerance, error.max_absolute), ok=True))
        return doubt.finding  # it is right, but rounds much more than the original does

    def _least(self, exact: Array) -> float:
        """The error that the last operators may add, see `judge.EPSILONS`."""
        return ACCURACY * self._rounding.epsilon * largest(np.abs(exact)) if is_float(exact) else 0.0


def _is_comparable(doubt: Doubt, exact: Array, moved: Array) -> bool:
    """Whether rounding may be the cause at all; where what was moved is no weight, the original is not defined then."""
    found, wanted = doubt.folded, doubt.reference.value
    alike = (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    return alike and not (is_float(exact) and not np.array_equal(np.isfinite(exact), np.isfinite(moved)))


def _apart(value: Array, exact: Array) -> Array:
    """Elementwise distance of an execution from the value in float64; for other types, whether they differ."""
    if not is_float(exact):
        return np.asarray(value != exact, np.float64)
    return difference(wide(value).astype(np.float64), exact)


def _agrees(value: Array, exact: Array) -> bool:
    if not exact.size:
        return True
    scale = largest(np.abs(exact)) if is_float(exact) else 0.0
    return float(np.mean(_apart(value, exact) <= AGREEMENT * scale)) >= AGREEING
