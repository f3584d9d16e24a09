"""The original on every sample: its outputs, and how far its legitimate executions are from each other."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from folding.verification import advice, judge, samples
from folding.verification.judge import Reference
from folding.verification.runtime import Interpreted, Runner, RuntimeRefusalError
from folding.verification.samples import UnverifiableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from folding.verification.job import Job
    from folding.verification.judge import Array, Rounding
    from folding.verification.samples import Feeds

    Model = Runner | Interpreted

RUNS = 5  # per sample: the original as it is, rounded, rounded more, optimised; the folded model
DRIFT = 0.5  # for the inputs rounded more: each moves up or not at all, so on average all move up by half
SHARE_OF_TIME = 0.5  # for the samples after the first; runs differ in speed
SHARE_OF_TIME_GUESSING = 0.25  # for the search for shapes that run


@dataclass(frozen=True)
class Sample:
    """The inputs of a run, and the outputs of legitimate executions of the original on them."""

    feeds: Feeds
    outputs: dict[str, Reference]
    others: dict[str, list[Array]] = field(default_factory=dict)  # what optimised executions return, by output

    def widen(self, model: Model, feeds: Feeds, *, amplified: bool = False, kept: bool = False) -> bool:
        """Run once more and record how far the outputs deviate; False if the execution fails, which is ignored.

        `kept`: on the same inputs, so that its outputs are worth keeping.
        """
        try:
            outputs = model.run(feeds)
        except RuntimeRefusalError:
            return False
        for name in self.outputs.keys() & outputs.keys():
            self.outputs[name].widen(outputs[name], amplified=amplified)
            if kept:
                self.others.setdefault(name, []).append(outputs[name])
        return True

    def forget_reshaped(self, labels: set[str], outputs: Feeds) -> None:
        """Leave out what was tapped where the folded model has another shape: Softmax once took several axes as one."""
        for name in self.outputs.keys() & labels & outputs.keys():
            if outputs[name].shape != self.outputs[name].value.shape:
                del self.outputs[name]


def perturb(sample: Sample, original: Model, rounding: Rounding) -> None:
    """Run the original with inputs that are rounded once more, and with inputs that are off by several roundings."""
    for relative, drift, amplified in ((rounding.epsilon, 0.0, False), (rounding.swing, DRIFT, True)):
        sample.widen(original, samples.rounded(sample.feeds, relative, drift), amplified=amplified)


class Originals:
    """The runs of the original of a job; `description` says of the samples where they came from.

    `passed` returns the share of the time limit that has passed; `promised` are the names of the outputs, without what
    was tapped.
    """

    def __init__(self, job: Job, original: Model, rounding: Rounding, passed: Callable[[], float]) -> None:
        self._job, self._original, self._rounding, self._passed = job, original, rounding, passed
        self._promised = [name for name, _ in original.outputs]
        specs = samples.with_types(original.specs, job.halves or {})
        self._specs = samples.with_lengths(specs, {(name, axis): length for name, axis, length in job.lengths})
        self._guess: samples.Guess | None = None
        self.description = ""
        self.drawn = 0  # samples that were generated and ran

    def references(self) -> list[Sample]:
        """Every sample with the original's outputs, except generated ones on which the original yields NaN.

        Raises:
            UnverifiableError: the original runs on none, or yields NaN on all.
        """
        found: list[Sample] = []
        undefined = ""
        for feeds, outputs in self._runs(found):
            values = {name: value for name, value in outputs.items() if self._is_output(name) or not _has_nan(value)}
            if undefined := next((name for name, value in values.items() if _has_nan(value)), ""):
                continue
            sample = Sample(feeds, {name: Reference.of(name, value) for name, value in values.items()})
            if self._job.rough is None:
                perturb(sample, self._original, self._rounding)
            found.append(sample)
        if not found:
            hint = '; give samples it can compute with (inputs="FILE.npz")'
            raise UnverifiableError(f'output "{undefined}" of the original is NaN on the samples{hint}')
        sizes = [reference.value.size for sample in found for reference in sample.outputs.values()]
        if sizes and not any(sizes):
            raise UnverifiableError(f"the outputs of the original are empty on the samples; {advice.SAMPLES}")
        return found

    def _is_output(self, name: str) -> bool:
        return name.partition("[")[0] in self._promised or name in self._promised

    def _runs(self, found: list[Sample]) -> Iterator[tuple[Feeds, dict[str, Array]]]:
        """The samples, each with the original's outputs; `found` are those so far of which something came."""
        if self._job.inputs is not None:
            feeds = samples.read(Path(self._job.inputs), self._specs, self._job.label)
            self.description = samples.describe(self._job.label, feeds, generated=False)
            try:
                yield feeds, self._original.run(feeds)
            except RuntimeRefusalError as error:
                refusal = f"ONNX Runtime cannot run the original on {self._job.label}: {error}"
                raise UnverifiableError(f"{refusal}; give others (`inputs`)") from None
            yield from self._overridden(feeds)
            return
        guess, feeds, outputs, seconds = self._first_run()
        self.description = samples.describe("generated", feeds, generated=True)
        self.drawn = 1
        yield feeds, outputs
        yield from self._overridden(feeds)
        affordable = 1 + int(self._job.seconds * (SHARE_OF_TIME - self._passed()) / (RUNS * seconds))
        for number in range(1, min(samples.SAMPLES, affordable) if self._specs else 1):
            yield from self._generated(guess, number, 1.0)
        for number, amplitude in enumerate(samples.AMPLITUDES, start=samples.SAMPLES):
            if number < affordable and len(found) > 1 and not seen(found, self._promised, unsaturated=True):
                yield from self._generated(guess, number, amplitude)

    def _generated(
        self, guess: samples.Guess, number: int, amplitude: float
    ) -> Iterator[tuple[Feeds, dict[str, Array]]]:
        feeds = samples.generate(self._specs, guess, number, amplitude)
        try:
            outputs = self._original.run(feeds)
        except RuntimeRefusalError:
            return  # some value of this sample is out of range; the first sample ran
        self.drawn += 1
        yield feeds, outputs

    def _overridden(self, feeds: Feeds) -> Iterator[tuple[Feeds, dict[str, Array]]]:
        """The sample with other values of the initializers that a caller may override, if the original takes some."""
        defaults = {} if self._job.defaults is None else samples.load(Path(self._job.defaults))
        for override in samples.overrides(defaults):
            try:
                outputs = self._original.run(feeds | override)
            except RuntimeRefusalError:
                continue
            self.description += f"; and other values of {', '.join(sorted(override))}"
            yield feeds | override, outputs
            return

    def _first_run(self) -> tuple[samples.Guess, Feeds, dict[str, Array], float]:
        """The first guess on which the original runs, and the seconds that it took."""
        refusal = ""
        hint = '; give samples that it runs on (inputs="FILE.npz")' if self._specs else f"; {advice.RUNTIME}"
        for guess in samples.guesses(self._specs):
            if refusal and self._passed() > SHARE_OF_TIME_GUESSING:
                break
            began = time.monotonic()
            try:
                feeds = samples.generate(self._specs, guess, 0)
                return guess, feeds, self._original.run(feeds), time.monotonic() - began
            except UnverifiableError as error:  # this guess is too large
                refusal = str(error)
            except RuntimeRefusalError as error:
                refusal = f"ONNX Runtime cannot run the original on generated samples: {error}"
        raise UnverifiableError(refusal + hint)


def seen(found: Sequence[Sample], names: Collection[str], *, unsaturated: bool = False) -> set[str]:
    """The outputs of which the samples show something: they, or what goes into their last operator, change with it.

    With `unsaturated`, not those that are only 0 and 1 in floating point: a saturated sigmoid hides most errors.
    """
    shown = set()
    for name in {name for sample in found for name in sample.outputs}:
        values = [sample.outputs[name].value for sample in found if name in sample.outputs]
        if _varies(values) and not (unsaturated and all(map(_is_saturated, values))):
            shown.add(output_of(name, names))
    return shown


def output_of(name: str, outputs: Collection[str]) -> str:
    """The graph output to which an array belongs: itself, a part of it, or what goes into its last operator."""
    return max(
        (one for one in outputs if name == one or name.startswith((f"{one}[", f"{one}."))), key=len, default=name
    )


def _varies(values: Sequence[Array]) -> bool:
    first = values[0]
    return any(value.shape != first.shape or not np.array_equal(value, first) for value in values[1:])


def _is_saturated(value: Array) -> bool:
    return judge.is_float(value) and bool(np.isin(value.astype(np.float32), (0, 1)).all())


def _has_nan(value: Array) -> bool:
    return judge.is_float(value) and bool(np.isnan(value.astype(np.float32)).any())
