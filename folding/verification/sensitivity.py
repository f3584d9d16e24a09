"""Measure what a verification can see: spoil folded constants in memory, and judge the result like a fold's."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from folding.verification import judge, samples
from folding.verification.originals import output_of
from folding.verification.runtime import UNOPTIMISED, Runner, RuntimeRefusalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from folding.verification.job import Job
    from folding.verification.judge import Array, Rounding
    from folding.verification.originals import Sample
    from folding.verification.runtime import Taps

CHANGES = (0.001, 0.01, 0.1)  # of every element of a constant, relative to itself
FAR = 1000.0  # a change that shows in every output that depends on the constant
UNNOTICED = 1.0  # where not even the largest change is noticed


class Measurement:
    """The constants that a fold changed, spoiled one by one, on the samples of a verification that passed."""

    def __init__(self, job: Job, taps: Taps, references: Sequence[Sample], rounding: Rounding) -> None:
        assert job.folded is not None  # noqa: S101  the caller asked
        self._after, self._constants = Path(job.after), samples.load(Path(job.folded))
        self._taps, self._references, self._rounding = taps, references, rounding

    def measure(self, outputs: Sequence[str], deadline: float) -> tuple[dict[str, float], dict[str, float], int]:
        """The smallest change of a weight, and of a bias, that each output shows, and how many constants time allowed.

        A constant counts for the outputs that depend on it: the least visible one decides. UNNOTICED where a change is
        not noticed; an output on which no constant acts is absent.
        """
        found: tuple[dict[str, float], dict[str, float]] = ({}, {})
        still = self._errors({}, outputs)
        count = 0
        for name, values in _alternating(self._constants):
            if time.monotonic() > deadline:
                break
            kind = found[not is_weight(values)]
            for output, change in self._smallest(name, values, outputs, still).items():
                kind[output] = max(kind.get(output, 0.0), change)
            count += 1
        return *found, count

    def _smallest(
        self, name: str, values: Array, outputs: Sequence[str], still: Mapping[str, tuple[float, bool]]
    ) -> dict[str, float]:
        smallest: dict[str, float] = {}
        waiting = set(outputs)
        for number, change in enumerate(CHANGES):
            errors = self._changed(name, values, change, outputs)
            smallest.update({output: change for output in waiting if errors[output][1]})
            waiting -= smallest.keys()
            if waiting and not number:  # which of them depend on the constant at all
                errors = self._changed(name, values, FAR, outputs)
                waiting = {output for output in waiting if errors[output][0] != still[output][0]}
            if not waiting:
                break
        return smallest | dict.fromkeys(waiting, UNNOTICED)

    def _changed(
        self, name: str, values: Array, change: float, outputs: Sequence[str]
    ) -> dict[str, tuple[float, bool]]:
        return self._errors({name: np.asarray(values * values.dtype.type(1 + change))}, outputs)

    def _errors(self, constants: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, tuple[float, bool]]:
        """The largest error of each output (or of what goes into its last operator), and whether it counts as wrong."""
        errors: dict[str, tuple[float, bool]] = defaultdict(lambda: (0.0, False))
        try:
            model = Runner(self._after, UNOPTIMISED, self._taps if self._taps.labels else None, constants)
            for sample in self._references:
                values = model.run(sample.feeds)
                for label in sample.outputs.keys() & values.keys():
                    finding = judge.judge(sample.outputs[label], values[label], self._rounding)
                    name = output_of(label, outputs)
                    largest, noticed = errors[name]
                    errors[name] = (
                        max(largest, finding.error.max_absolute),
                        noticed or finding.judgement == "bad",
                    )
        except RuntimeRefusalError:
            return dict.fromkeys(outputs, (0.0, True))  # the model that does not run any more is noticed
        return errors


def is_weight(values: Array) -> bool:
    """Whether a constant is a matrix or more, and not one number for each channel."""
    return sum(int(length > 1) for length in values.shape) > 1


def _alternating(constants: Mapping[str, Array]) -> Iterable[tuple[str, Array]]:
    """Weights and biases in turn, so that both are measured where time allows only a few."""
    kinds = [[item for item in constants.items() if is_weight(item[1]) == kind] for kind in (True, False)]
    places = [(place, kind) for kind, items in enumerate(kinds) for place in range(len(items))]
    return (kinds[kind][place] for place, kind in sorted(places))
