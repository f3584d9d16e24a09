"""Run the original and the folded model on the same samples, one after the other, and compare the outputs."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folding.errors import ModelError
from folding.report.model import Verification
from folding.verification import advice, figures, judge, samples
from folding.verification.actual import NO_KERNEL, TYPE_ERROR, FailedError, require_run, require_types
from folding.verification.exact import Arbiter, Doubt
from folding.verification.job import ACTIVITY, AFTER_TAPS, AS_IT_IS, BEFORE_TAPS, PROGRESS, STEPS
from folding.verification.judge import Rounding
from folding.verification.originals import Originals, output_of, perturb, seen
from folding.verification.runtime import BETWEEN, OPTIMISED, UNOPTIMISED, Interpreted, Runner, RuntimeRefusalError, Taps
from folding.verification.samples import UnverifiableError
from folding.verification.sensitivity import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from folding.report.model import OutputError, VerificationStatus
    from folding.verification.job import Job
    from folding.verification.judge import Array, Finding
    from folding.verification.originals import Model, Sample

UNSEEN = f"the outputs do not depend on the samples, so an error could not be seen; {advice.SAMPLES}"
DRAWS = 6  # of the noise, where an error is larger than it seemed
SHARE_IN_DOUBT = 0.25  # of the time limit, for each computation of a model in float64


class Comparison:
    """The comparison of the two models of a job; start with `verdict`.

    `keep` is called with a verdict that holds if the process ends before there is a better one.
    """

    def __init__(self, job: Job, folder: Path, keep: Callable[[Verification], None]) -> None:
        self._job, self._folder, self._keep = job, folder, keep
        self._started = time.monotonic()
        self._before, self._after = Path(job.before), Path(job.after)
        self._description = ""
        self._notes = list(job.notes)
        self._rounding = Rounding(job.epsilon, job.quantizes, job.actual is not None, max_error=job.max_error)
        self._taps = self._tapped(BEFORE_TAPS, 2), self._tapped(AFTER_TAPS, 3)
        self._is_interpreted = False

    def verdict(self) -> Verification:
        """Return the verification. Every failure becomes a verdict; an OptionError or ModelError is raised."""
        try:
            return self._compared()
        except FailedError as error:
            return Verification("failed", str(error), inputs=self._description)
        except UnverifiableError as error:
            return Verification("not verified", str(error), inputs=self._description)
        except MemoryError:
            reason = f"memory ran out while {self._activity}; {advice.MEMORY}"
            return Verification("not verified", reason, inputs=self._description)

    def _compared(self) -> Verification:
        self._now("loading the original", 0)
        require_types(self._job.actual)
        original = self._original()
        promised = original.inputs, original.outputs
        self._outputs = [name for name, _ in original.outputs]
        self._now("running the original", 0.05)
        originals = Originals(self._job, original, self._rounding, self._passed)
        try:
            references = originals.references()
        finally:
            self._description = originals.description
        self._drawn = originals.drawn
        del original, originals  # one model at a time in memory
        if self._job.rough is not None:
            self._now("running the original with rounded numbers", 0.25)
            self._roughen(references)
        self._now("running the original with the runtime's optimisations", 0.4)
        self._widen(references, OPTIMISED)
        self._now("loading the folded model", 0.55)
        folded = self._folded(*promised)
        self._now("running the folded model", 0.6)
        found = [(sample, list(self._findings(folded, sample))) for sample in references]
        verdict = self._summary(found)
        if any(finding.judgement != "ok" for _, findings in found for _, finding in findings):
            verdict = self._reconsidered(found, verdict)
        if verdict.status != "failed" and self._job.runs is not None:
            self._keep(verdict)
            del folded, found
            self._now(AS_IT_IS, 0.72)
            require_run(Path(self._job.runs), references[0].feeds)
        if verdict.status != "verified" or self._job.folded is None or self._is_interpreted:
            return verdict
        self._keep(verdict)
        self._now("measuring what the samples would notice", 0.75)
        return self._measured(verdict, references)

    def _now(self, activity: str, share: float) -> None:
        """Record what is done now, and the share of the whole that is done."""
        self._activity = activity
        (self._folder / ACTIVITY).write_text(activity)
        (self._folder / PROGRESS).write_text(str(int(share * STEPS)))

    def _passed(self) -> float:
        """The share of the time limit that has passed."""
        return (time.monotonic() - self._started) / self._job.seconds

    # --- the models ---------------------------------------------------------------------------------------

    def _tapped(self, name: str, place: int) -> Taps:
        """What to compare besides the outputs in one of the models; the labels are the same in both."""
        labels = {tap[place]: f"{tap[0]}.input of {tap[1]}" for tap in self._job.taps}
        return Taps((self._folder / name).read_bytes() if labels else b"", labels)

    def _load(self, path: Path, level: str = UNOPTIMISED) -> Model:
        """One of the models, with the taps if it loads with them; in NumPy if the original is."""
        if self._is_interpreted:
            return Interpreted(path, self._job.seconds)
        taps = self._taps[path == self._after]
        if taps.labels:
            try:
                return Runner(path, level, taps)
            except RuntimeRefusalError:
                self._taps = (Taps(b"", {}), Taps(b"", {}))
        return Runner(path, level)

    def _original(self) -> Model:
        try:
            return self._load(self._before)
        except RuntimeRefusalError as error:
            if TYPE_ERROR in str(error):
                raise ModelError(f"ONNX Runtime refuses the types of the original model: {error}") from None
            refusal = f"ONNX Runtime cannot load the original: {error}"
        if NO_KERNEL not in refusal.lower():
            raise UnverifiableError(f"{refusal}; {advice.RUNTIME}")
        self._is_interpreted = True
        try:
            model = self._load(self._before)
        except RuntimeRefusalError:
            raise UnverifiableError(f"{refusal}; {advice.RUNTIME}") from None
        self._notes.append(
            "ONNX Runtime has no kernel for an operator in its type: onnx's reference evaluator ran both"
        )
        return model

    def _widen(self, references: list[Sample], level: str) -> None:
        """Add the executions at one of the runtime's levels of optimisation, which a user may run, too."""
        if self._is_interpreted:
            return
        try:
            optimised = self._load(self._before, level)
        except RuntimeRefusalError:
            return  # an optimiser's fault is not the model's; the other executions remain
        for sample in references:
            sample.widen(optimised, sample.feeds, kept=True)

    def _roughen(self, references: list[Sample]) -> None:
        """Take as noise what the original shows when every number in it is rounded; else what its inputs show."""
        epsilon = self._rounding.epsilon
        with suppress(RuntimeRefusalError):
            rough = self._load(Path(str(self._job.rough)))
            if all(
                sample.widen(rough, feeds)
                for sample in references
                for feeds in (sample.feeds, samples.rounded(sample.feeds, epsilon, 0.0))
            ):
                self._rounding = replace(self._rounding, is_measured=True)
                return
        original = self._load(self._before)
        for sample in references:
            perturb(sample, original, self._rounding)

    def _roughen_further(self, references: list[Sample]) -> None:
        """Widen the noise by more draws: of an output of few numbers, two may show a small part of it by chance."""
        with suppress(RuntimeRefusalError):
            rough = self._load(Path(str(self._job.rough)))
            for sample in references:
                for number in range(1, DRAWS + 1):
                    sample.widen(rough, samples.rounded(sample.feeds, self._rounding.epsilon, 0.0, number))

    def _folded(self, inputs: list[Any], outputs: list[Any]) -> Model:
        try:
            folded = self._load(self._after)
        except RuntimeRefusalError as error:
            if self._job.actual is not None and NO_KERNEL in str(error).lower():  # of an operator set, not of a type
                raise UnverifiableError(
                    f"ONNX Runtime cannot load the folded model: {error}; {advice.RUNTIME}"
                ) from None
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

    # --- the findings -------------------------------------------------------------------------------------

    def _findings(self, folded: Model, sample: Sample) -> Iterator[tuple[Array, Finding]]:
        """Every output of the folded model on a sample, and its judgement."""
        try:
            outputs = folded.run(sample.feeds)
        except RuntimeRefusalError as error:
            raise FailedError(f"ONNX Runtime runs the original but not the folded model: {error}") from None
        sample.forget_reshaped(labels := set(self._taps[1].labels.values()), outputs)
        missing, surplus = sample.outputs.keys() - outputs.keys(), outputs.keys() - sample.outputs.keys()
        if missing - labels or surplus - labels:
            counts = f"{len(outputs)} values where the original has {len(sample.outputs)}"
            raise FailedError(f"the sequences or maps among the folded model's outputs have {counts}")
        for name in sample.outputs:
            if name not in missing:
                yield outputs[name], judge.judge(sample.outputs[name], outputs[name], self._rounding)

    def _reconsidered(
        self, found: list[tuple[Sample, list[tuple[Array, Finding]]]], verdict: Verification
    ) -> Verification:
        """The verdict after a closer look at what is not settled: more executions of the original, then float64."""
        doubtful = [(sample, findings) for sample, findings in found if any(f.judgement != "ok" for _, f in findings)]
        gross = any(f.is_gross and f.judgement == "bad" for _, findings in doubtful for _, f in findings)
        if (gross and not self._job.traps) or self._is_interpreted:
            return verdict
        self._keep(verdict)
        self._now("looking at doubtful outputs more closely", 0.7)
        for level in BETWEEN:
            self._widen([sample for sample, _ in doubtful], level)
        if self._rounding.is_measured:
            self._roughen_further([sample for sample, _ in doubtful])
        if self._job.traps:
            self._untrap(doubtful)
        for sample, findings in doubtful:
            findings[:] = [(value, self._again(sample, value, finding)) for value, finding in findings]
        verdict = self._summary(found)
        if verdict.status == "verified":
            return verdict
        self._keep(verdict)
        self._now("computing both models in float64", 0.8)
        try:
            self._decide(doubtful)
        except MemoryError:
            return verdict
        return self._summary(found)

    def _untrap(self, doubtful: list[tuple[Sample, list[tuple[Array, Finding]]]]) -> None:
        """Take the folded model's outputs from an optimised execution, in case it holds the trap, too."""
        with suppress(RuntimeRefusalError):
            optimised = self._load(self._after, OPTIMISED)
            for sample, findings in doubtful:
                outputs = optimised.run(sample.feeds)
                findings[:] = [(outputs.get(f.error.name, value), f) for value, f in findings]

    def _again(self, sample: Sample, value: Array, finding: Finding) -> Finding:
        reference = sample.outputs.get(finding.error.name)
        return finding if reference is None else judge.judge(reference, value, self._rounding)

    def _decide(self, doubtful: list[tuple[Sample, list[tuple[Array, Finding]]]]) -> None:
        """Replace the findings that are not ok by those in float64, as far as it can be computed."""
        from folding.execution.interpreter import InterpreterError  # noqa: PLC0415  it loads onnx

        seconds = SHARE_IN_DOUBT * self._job.seconds * max(1 - self._passed(), 0)
        try:
            arbiter = Arbiter(self._before, self._after, self._rounding, seconds, self._taps)
            for sample, findings in doubtful:
                doubts = {
                    place: Doubt(finding, reference, [reference.value, *sample.others.get(reference.name, [])], value)
                    for place, (value, finding) in enumerate(findings)
                    for reference in [sample.outputs[finding.error.name]]
                    if finding.judgement != "ok"
                }
                settled = arbiter.settle(sample.feeds, list(doubts.values()), trapped=bool(self._job.traps))
                for place, finding in zip(doubts, settled, strict=True):
                    findings[place] = findings[place][0], finding
        except InterpreterError:
            return

    def _summary(self, found: list[tuple[Sample, list[tuple[Array, Finding]]]]) -> Verification:
        """The verdict of all findings; what goes into the last operator of an output counts for that output."""
        merged: dict[str, OutputError] = {}
        every = [finding for _, findings in found for _, finding in findings]
        labels = set(self._taps[0].labels.values())
        for finding in every:
            name = finding.error.name
            if name in labels:
                name = output_of(name, self._outputs)
                if finding.judgement == "ok":
                    continue
            error = replace(finding.error, name=name)
            merged[name] = figures.merged(merged[name], error) if name in merged else error
        bad = [finding.reason for finding in every if finding.judgement == "bad"]
        unsettled = [finding.reason for finding in every if finding.judgement == "unsettled"]
        references = [sample for sample, _ in found]
        if self._rounding.is_emulated and self._rounding.max_error is None and not bad:
            hidden = figures.hidden(references, merged.values())
            merged |= {name: replace(merged[name], ok=False) for name in hidden}
            unsettled += hidden.values()
        shown, notes = seen(references, self._outputs), list(self._notes)
        if min(self._drawn, len(references)) > 1 and references[0].feeds and not bad:
            blind = [name for name in self._outputs if name not in shown]
            if not shown:
                unsettled.append(UNSEEN)
            elif blind:
                names = ", ".join(f'"{name}"' for name in blind)
                notes.append(f"{names} did not depend on the samples, so an error there could not be seen")
        if not bad and not unsettled:
            notes += [f"ONNX Runtime is known to compute {what} wrongly" for what in self._job.traps]
        status: VerificationStatus = "failed" if bad else "not verified" if unsettled else "verified"
        reason = next(iter(bad + unsettled), "")
        return Verification(status, reason, len(found), self._description, tuple(merged.values()), notes=tuple(notes))

    def _measured(self, verdict: Verification, references: list[Sample]) -> Verification:
        """The verdict with the smallest change of a folded constant that each output would show."""
        allowed = min(time.monotonic() - self._started, SHARE_IN_DOUBT * self._job.seconds)
        measurement = Measurement(self._job, self._taps[1], references, self._rounding)
        weights, biases, count = measurement.measure(self._outputs, time.monotonic() + allowed)
        outputs = tuple(
            replace(error, sensitivity=weights.get(error.name, 0.0), bias_sensitivity=biases.get(error.name, 0.0))
            for error in verdict.outputs
        )
        cut = "the sensitivity was not measured: it takes longer than the verification" if not count else ""
        return replace(verdict, outputs=outputs, notes=(*verdict.notes, *([cut] if cut else [])))


def _listed(described: list[Any]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind, *_ in described) or "none"
