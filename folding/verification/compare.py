"""Run the original and the folded model on the same samples, one after the other, and compare the outputs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from folding.report.model import Verification
from folding.verification import judge, samples
from folding.verification.job import ACTIVITY, PROGRESS, STEPS
from folding.verification.judge import Reference, Rounding
from folding.verification.runtime import Runner, RuntimeRefusalError
from folding.verification.samples import UnverifiableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from folding.report.model import OutputError, VerificationStatus
    from folding.verification.job import Job
    from folding.verification.judge import Array, Finding
    from folding.verification.samples import Feeds

RUNS = 5  # per sample: the original as it is, rounded, rounded more, optimised; the folded model
DRIFT = 0.5  # for the inputs rounded more: each moves up or not at all, so on average all move up by half
SHARE_OF_TIME = 0.5  # for the samples after the first; runs differ in speed
SHARE_OF_TIME_GUESSING = 0.25  # for the search for shapes that run


class FailedError(Exception):
    """The folded model is wrong before any output can be compared; the text is the reason, a sentence."""


@dataclass(frozen=True)
class Sample:
    """The inputs of a run, and the outputs of legitimate executions of the original on them."""

    feeds: Feeds
    outputs: dict[str, Reference]


class Comparison:
    """The comparison of the two models of a job; start with `verdict`."""

    def __init__(self, job: Job, folder: Path) -> None:
        self._job = job
        self._folder = folder
        self._started = time.monotonic()
        self._before, self._after = Path(job.before), Path(job.after)
        self._description = ""

    def verdict(self) -> Verification:
        """Return the verification. Every failure becomes a verdict, except OptionError, which is raised."""
        try:
            return self._compared()
        except FailedError as error:
            return Verification("failed", str(error), inputs=self._description)
        except UnverifiableError as error:
            return Verification("not verified", str(error), inputs=self._description)
        except MemoryError:
            return Verification("not verified", f"memory ran out while {self._activity}", inputs=self._description)

    def _compared(self) -> Verification:
        rounding = Rounding(self._job.epsilon, self._job.quantizes)
        self._now("loading the original", 0)
        original = self._original(optimised=False)
        promised = original.inputs, original.outputs
        self._now("running the original", 0.1)
        references = self._references(original, rounding)
        del original  # one model at a time in memory
        self._now("running the original with the runtime's optimisations", 0.5)
        self._widen_optimised(references)
        self._now("loading the folded model", 0.7)
        folded = self._folded(*promised)
        self._now("running the folded model", 0.8)
        findings = [finding for sample in references for finding in self._findings(folded, sample, rounding)]
        return self._summary(findings, len(references))

    def _now(self, activity: str, share: float) -> None:
        """Record what is done now, and the share of the whole that is done."""
        self._activity = activity
        (self._folder / ACTIVITY).write_text(activity)
        (self._folder / PROGRESS).write_text(str(int(share * STEPS)))

    def _passed(self) -> float:
        """The share of the time limit that has passed."""
        return (time.monotonic() - self._started) / self._job.seconds

    def _original(self, *, optimised: bool) -> Runner:
        try:
            return Runner(self._before, optimised=optimised)
        except RuntimeRefusalError as error:
            raise UnverifiableError(f"ONNX Runtime cannot load the original: {error}") from None

    def _references(self, original: Runner, rounding: Rounding) -> list[Sample]:
        """Every sample with the original's outputs, except generated ones on which the original yields NaN."""
        found: list[Sample] = []
        undefined = ""
        for feeds, outputs in self._runs(original):
            if undefined := next((name for name, value in outputs.items() if _has_nan(value)), ""):
                continue
            references = {name: Reference.of(name, value) for name, value in outputs.items()}
            for relative, drift, amplified in ((rounding.epsilon, 0.0, False), (rounding.swing, DRIFT, True)):
                near = samples.rounded(feeds, relative, drift)
                _widen(references, original, near, amplified=amplified)
            found.append(Sample(feeds, references))
        if not found:
            hint = "" if self._job.inputs else '; give samples it can compute with (inputs="FILE.npz")'
            raise UnverifiableError(f'output "{undefined}" of the original is NaN on the samples{hint}')
        return found

    def _specs(self, original: Runner) -> list[samples.Spec]:
        """What the inputs require, with the channels that the weights determine."""
        return samples.with_channels(original.specs, self._job.channels or {})

    def _runs(self, original: Runner) -> Iterator[tuple[Feeds, dict[str, Array]]]:
        """The samples, each with the original's outputs."""
        specs = self._specs(original)
        if self._job.inputs is not None:
            feeds = samples.read(Path(self._job.inputs), specs, self._job.label)
            self._description = samples.describe(self._job.label, feeds, generated=False)
            try:
                yield feeds, original.run(feeds)
            except RuntimeRefusalError as error:
                raise UnverifiableError(f"ONNX Runtime cannot run the original on {self._job.label}: {error}") from None
            yield from self._overridden(original, feeds)
            return
        guess, feeds, outputs, seconds = self._first_run(original)
        self._description = samples.describe("generated", feeds, generated=True)
        yield feeds, outputs
        yield from self._overridden(original, feeds)
        left = self._job.seconds * (SHARE_OF_TIME - self._passed())
        affordable = 1 + int(left / (RUNS * seconds))
        for number in range(1, min(samples.SAMPLES, affordable) if specs else 1):
            feeds = samples.generate(specs, guess, number)
            try:
                yield feeds, original.run(feeds)
            except RuntimeRefusalError:
                continue  # some value of this sample is out of range; the first sample ran

    def _overridden(self, original: Runner, feeds: Feeds) -> Iterator[tuple[Feeds, dict[str, Array]]]:
        """The sample with other values of the initializers that a caller may override, if the original takes some."""
        defaults = {} if self._job.defaults is None else samples.load(Path(self._job.defaults))
        for override in samples.overrides(defaults):
            try:
                outputs = original.run(feeds | override)
            except RuntimeRefusalError:
                continue
            self._description += f"; and other values of {', '.join(sorted(override))}"
            yield feeds | override, outputs
            return

    def _first_run(self, original: Runner) -> tuple[samples.Guess, Feeds, dict[str, Array], float]:
        """The first guess on which the original runs, and the seconds that it took."""
        specs = self._specs(original)
        refusal = ""
        hint = '; give samples that it runs on (inputs="FILE.npz")' if specs else ""
        for guess in samples.guesses(specs):
            if refusal and self._passed() > SHARE_OF_TIME_GUESSING:
                break
            began = time.monotonic()
            try:
                feeds = samples.generate(specs, guess, 0)
                return guess, feeds, original.run(feeds), time.monotonic() - began
            except UnverifiableError as error:  # this guess is too large
                refusal = str(error)
            except RuntimeRefusalError as error:
                refusal = f"ONNX Runtime cannot run the original on generated samples: {error}"
        raise UnverifiableError(refusal + hint)

    def _widen_optimised(self, references: list[Sample]) -> None:
        try:
            optimised = Runner(self._before, optimised=True)
        except RuntimeRefusalError:
            return  # an optimiser's fault is not the model's; the other executions remain
        for sample in references:
            _widen(sample.outputs, optimised, sample.feeds, amplified=False)

    def _folded(self, inputs: list[Any], outputs: list[Any]) -> Runner:
        try:
            folded = Runner(self._after)
        except RuntimeRefusalError as error:
            raise FailedError(f"ONNX Runtime loads the original but not the folded model: {error}") from None
        if [described[:2] for described in folded.inputs] != [described[:2] for described in inputs]:
            raise FailedError(
                f"the folded model's inputs are {_listed(folded.inputs)}, the original's {_listed(inputs)}"
            )
        if folded.outputs != outputs:
            raise FailedError(
                f"the folded model's outputs are {_listed(folded.outputs)}, the original's {_listed(outputs)}"
            )
        return folded

    def _findings(self, folded: Runner, sample: Sample, rounding: Rounding) -> Iterator[Finding]:
        try:
            outputs = folded.run(sample.feeds)
        except RuntimeRefusalError as error:
            raise FailedError(f"ONNX Runtime runs the original but not the folded model: {error}") from None
        if outputs.keys() != sample.outputs.keys():
            counts = f"{len(outputs)} values where the original has {len(sample.outputs)}"
            raise FailedError(f"the sequences or maps among the folded model's outputs have {counts}")
        for name, reference in sample.outputs.items():
            yield judge.judge(reference, outputs[name], rounding)

    def _summary(self, findings: list[Finding], count: int) -> Verification:
        merged: dict[str, OutputError] = {}
        for finding in findings:
            name = finding.error.name
            merged[name] = _merged(merged[name], finding.error) if name in merged else finding.error
        bad = [finding.reason for finding in findings if finding.judgement == "bad"]
        unsettled = [finding.reason for finding in findings if finding.judgement == "unsettled"]
        status: VerificationStatus = "failed" if bad else "not verified" if unsettled else "verified"
        reason = next(iter(bad + unsettled), "")
        return Verification(status, reason, count, self._description, tuple(merged.values()))


def _widen(references: dict[str, Reference], runner: Runner, feeds: Feeds, *, amplified: bool) -> None:
    """Run once more and record how far the outputs deviate; an execution that fails is ignored."""
    try:
        outputs = runner.run(feeds)
    except RuntimeRefusalError:
        return
    for name in references.keys() & outputs.keys():
        references[name].widen(outputs[name], amplified=amplified)


def _merged(a: OutputError, b: OutputError) -> OutputError:
    """The figures of one output over two samples: the worse of each, and the tolerance that decided."""
    decisive = max(a, b, key=lambda error: (not error.ok, error.max_absolute))
    return replace(
        decisive,
        max_absolute=max(a.max_absolute, b.max_absolute),
        max_relative=max(a.max_relative, b.max_relative),
        noise=max(a.noise, b.noise),
    )


def _has_nan(value: Array) -> bool:
    return judge.is_float(value) and bool(np.isnan(value.astype(np.float32)).any())


def _listed(described: list[Any]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind, *_ in described) or "none"
