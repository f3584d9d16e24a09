"""Measure what a verification can see: spoil folded constants in memory, and judge the result like a fold's."""

from __future__ import annotations

import time
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
UNNOTICED = 1.0  # where not even the largest change is noticed


class Measurement:
    """The constants that a fold changed, spoiled one by one, on the samples of a verification that passed."""

    def __init__(self, job: Job, taps: Taps, references: Sequence[Sample], rounding: Rounding) -> None:
        assert job.folded is not None  # noqa: S101  the caller asked
        self._after, self._constants, self._behind = Path(job.after), samples.load(Path(job.folded)), job.behind or {}
        self._taps, self._references, self._rounding = taps, references, rounding

    def measure(self, outputs: Sequence[str], deadline: float) -> tuple[dict[str, float], dict[str, float], int]:
        """The smallest change of a weight, and of a bias, that each output shows, and how many constants time allowed.

        A constant counts for the outputs that depend on it: the least visible one decides. UNNOTICED where a change is
        not noticed; an output that depends on none is absent.
        """
        found: tuple[dict[str, float], dict[str, float]] = ({}, {})
        count = 0
        for name, values in _alternating(self._constants):
            if time.monotonic() > deadline:
                break
            kind = found[not is_weight(values)]
            waiting = set(self._behind.get(name, ()))
            for change in CHANGES:
                noticed = self._noticed(name, values, change, outputs) & waiting if waiting else set()
                kind.update({output: max(kind.get(output, 0.0), change) for output in noticed})
                waiting -= noticed
            kind.update(dict.fromkeys(waiting, UNNOTICED))
            count += 1
        return *found, count

    def _noticed(self, name: str, values: Array, change: float, outputs: Sequence[str]) -> set[str]:
        """The outputs that are called wrong when a constant is changed; those that do not depend on it are not."""
        noticed: set[str] = set()
        constants = {name: np.asarray(values * values.dtype.type(1 + change))}
        try:
            model = Runner(self._after, UNOPTIMISED, self._taps if self._taps.labels else None, constants)
            for sample in self._references:
                found = model.run(sample.feeds)
                for label in sample.outputs.keys() & found.keys():
                    finding = judge.judge(sample.outputs[label], found[label], self._rounding)
                    if finding.judgement == "bad":
                        noticed.add(output_of(label, outputs))
                if noticed >= set(self._behind[name]):
                    break
        except RuntimeRefusalError:
            return set(outputs)  # a model that does not run any more is noticed
        return noticed


def is_weight(values: Array) -> bool:
    """Whether a constant is a matrix or more, and not one number for each channel."""
    return sum(int(length > 1) for length in values.shape) > 1


def _alternating(constants: Mapping[str, Array]) -> Iterable[tuple[str, Array]]:
    """Weights and biases in turn, so that both are measured where time allows only a few."""
    kinds = [[item for item in constants.items() if is_weight(item[1]) == kind] for kind in (True, False)]
    places = [(place, kind) for kind, items in enumerate(kinds) for place in range(len(items))]
    return (kinds[kind][place] for place, kind in sorted(places))
