"""Ranges of values of a model over samples: their magnitudes, measured in a child process as a verification runs.

Every value becomes an output of the model, some at a time, so that memory stays bounded.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from folding.errors import OptionError
from folding.verification import samples
from folding.verification.job import ACTIVITY, JOB, RESULT
from folding.verification.samples import UnverifiableError
from folding.verification.standby import standby

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from folding.verification.judge import Array
    from folding.verification.runtime import Runner
    from folding.verification.samples import Feeds, Spec

KIND = "ranges"  # marks such a job among those of the child process
NORMAL = 2.0**-14  # the smallest normal number of float16


@dataclass(frozen=True)
class Range:
    """What samples show of the finite elements of a value.

    `largest` and `smallest` are magnitudes, `smallest` of those that are not zero; `highest` and `lowest` have their
    sign; `below` is the share of those that are not zero whose magnitude float16 cannot hold as a normal number;
    `other` counts elements that are infinite or NaN.
    """

    largest: float = 0.0
    smallest: float = 0.0
    highest: float = 0.0
    lowest: float = 0.0
    below: float = 0.0
    other: int = 0
    count: int = 0  # of elements that are finite and not zero

    @staticmethod
    def of(values: Array) -> Range:
        """The range of one array."""
        wide = (
            values.astype(np.float32, copy=False) if values.dtype.itemsize < np.dtype(np.float32).itemsize else values
        )
        sizes = np.abs(wide)
        smallest = float(sizes.min(initial=np.inf))
        if 0 < smallest < np.inf and (largest := float(sizes.max())) < np.inf:  # neither zeros nor infinities nor NaN
            below = float((sizes < NORMAL).mean()) if smallest < NORMAL else 0.0
            return Range(largest, smallest, float(wide.max()), float(wide.min()), below, 0, int(wide.size))
        finite = wide[np.isfinite(wide)]
        if not finite.size:
            return Range(other=int(wide.size))
        sizes = np.abs(finite[finite != 0])
        if not sizes.size:
            return Range(other=int(wide.size - finite.size))
        return Range(
            float(sizes.max()),
            float(sizes.min()),
            float(finite.max()),
            float(finite.min()),
            float((sizes < NORMAL).mean()),
            int(wide.size - finite.size),
            int(sizes.size),
        )

    def __add__(self, other: Range) -> Range:
        """The range of both together."""
        if not (self.count and other.count):
            one = self if self.count else other
            return replace(one, other=self.other + other.other)
        count = self.count + other.count
        return Range(
            max(self.largest, other.largest),
            min(self.smallest, other.smallest),
            max(self.highest, other.highest),
            min(self.lowest, other.lowest),
            (self.below * self.count + other.below * other.count) / count,
            self.other + other.other,
            count,
        )


@dataclass(frozen=True)
class Survey:
    """A job of the child process: the model, the samples, and the values to look at, some at a time.

    `slices` are lists of names, `fragments` the files that make each of them outputs.
    """

    before: str
    inputs: str | None  # an .npz file, None to generate samples
    label: str
    slices: tuple[tuple[str, ...], ...]
    fragments: tuple[str, ...]
    lengths: tuple[tuple[str, int, int], ...]  # of inputs, by name and axis
    seconds: float
    memory: int | None
    parent: int
    means: tuple[tuple[str, int], ...] = ()  # values, by name and axis, of which each place on the axis has a mean
    kind: str = KIND

    def answer(self, folder: Path) -> dict[str, Any]:
        """The answer of the child process: the ranges of the values over all samples.

        Raises:
            OptionError: the model does not run on the samples of the user.
        """
        # Only the child process loads ONNX Runtime.
        from folding.verification.runtime import UNOPTIMISED, Runner, RuntimeRefusalError, Taps  # noqa: PLC0415

        found: dict[str, Range] = {}
        averages = _Averages(self.means)
        refused = f"the ranges: the model does not run on {self.label}"
        (folder / ACTIVITY).write_text("running the model on the samples")
        try:
            plain = Runner(Path(self.before))
        except RuntimeRefusalError as error:  # whatever the samples are
            return {"refusal": str(error)}
        try:
            known = {name for name, _ in plain.outputs}
            feeds = list(self._feeds(plain))
            del plain  # one model at a time in memory
            for sample in feeds:
                for name, values in sample.items():
                    _note(found, name, values)
                    averages.add(name, values)
            for names, fragment in zip(self.slices, self.fragments, strict=True):
                taps = Taps((folder / fragment).read_bytes(), {name: name for name in names})
                runner = Runner(Path(self.before), UNOPTIMISED, taps)
                wanted = set(names) | (known - found.keys())
                for sample in feeds:
                    for name, values in runner.run(sample).items():
                        if name in wanted:
                            _note(found, name, values)
                            averages.add(name, values)
        except (RuntimeRefusalError, UnverifiableError, MemoryError) as error:
            if self.inputs is None:
                return {"refusal": str(error) or "memory ran out"}
            raise OptionError(f"{refused}: {error or 'memory ran out'}") from None
        ranges = {name: vars(one) for name, one in found.items()}
        return {"ranges": ranges, "described": self._described(feeds), "means": averages.found()}

    def _feeds(self, runner: Runner) -> Iterator[Feeds]:
        specs = samples.with_lengths(runner.specs, {(name, axis): length for name, axis, length in self.lengths})
        if self.inputs is not None:
            yield from samples.batches(Path(self.inputs), specs, self.label)
            return
        guess, first = _first_run(runner, specs)
        yield first
        for number in range(1, samples.SAMPLES if specs else 1):
            yield samples.generate(specs, guess, number)

    def _described(self, feeds: list[Feeds]) -> str:
        generated = self.inputs is None
        return samples.describe("generated" if generated else self.label, feeds[0], generated=generated)


def _first_run(runner: Runner, specs: Sequence[Spec]) -> tuple[samples.Guess, Feeds]:
    """The first guess of open shapes on which the model runs."""
    from folding.verification.runtime import RuntimeRefusalError  # noqa: PLC0415  only in the child process

    refusal = "it has no samples"
    for guess in samples.guesses(specs):
        try:
            feeds = samples.generate(specs, guess, 0)
            runner.run(feeds)
        except (UnverifiableError, RuntimeRefusalError) as error:
            refusal = str(error)
        else:
            return guess, feeds
    raise UnverifiableError(refusal)


def _note(found: dict[str, Range], name: str, values: Array) -> None:
    if values.dtype.kind == "f" or values.dtype.name == "bfloat16":
        part = Range.of(values)
        found[name] = found[name] + part if name in found else part


class _Averages:
    """Means over all axes but one, of values by name and this axis, over all samples."""

    def __init__(self, wanted: Iterable[tuple[str, int]]) -> None:
        self._axes: dict[str, set[int]] = {}
        for name, axis in wanted:
            self._axes.setdefault(name, set()).add(axis)
        self._sums: dict[tuple[str, int], tuple[Array, int]] = {}

    def add(self, name: str, values: Array) -> None:
        """Add one array."""
        for axis in self._axes.get(name, ()):
            if values.dtype.kind == "f" and values.size and -values.ndim <= axis < values.ndim:
                rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
                total, count = self._sums.get((name, axis), (np.zeros(len(rows)), 0))
                if total.shape == (len(rows),):
                    self._sums[name, axis] = total + rows.sum(axis=1, dtype=np.float64), count + rows.shape[1]

    def found(self) -> list[tuple[str, int, list[float]]]:
        """The means that are finite: the name, the axis, and a number for each place on it."""
        every = [(*key, total / count) for key, (total, count) in self._sums.items()]
        return [(name, axis, mean.tolist()) for name, axis, mean in every if np.isfinite(mean).all()]


Means = dict[tuple[str, int], list[float]]  # by name and axis, for each place on it


@dataclass(frozen=True)
class Ranges:
    """The ranges of values by name; `described` names the samples, `refusal` why there are none.

    `means` has those over all axes but one.
    """

    values: Mapping[str, Range]
    described: str = ""
    refusal: str = ""
    means: Means = field(default_factory=dict)


def survey(
    model: Path,
    slices: Sequence[Sequence[str]],
    fragments: Sequence[bytes],
    inputs: str | None,
    lengths: Iterable[tuple[str, int, int]],
    seconds: float,
    memory: int | None,
    means: Iterable[tuple[str, int]] = (),
) -> Ranges:
    """The ranges of these values of a model over samples; `fragments` make them outputs, slice by slice.

    `means` are values, by name and axis, of which the means over all other axes are wanted, too.

    Raises:
        OptionError: the samples do not fit the model, or it does not run on them.
    """
    with standby() as process:
        files = tuple(f"slice{number}.taps" for number in range(len(slices)))
        for name, fragment in zip(files, fragments, strict=True):
            (process.folder / name).write_bytes(fragment)
        path = None if inputs is None else str(Path(inputs).absolute())
        names = tuple(map(tuple, slices))
        job = Survey(
            str(model), path, inputs or "", names, files, tuple(lengths), seconds, memory, os.getpid(), tuple(means)
        )
        (process.folder / JOB).write_text(json.dumps(asdict(job)))
        status = process.run(seconds)
        result = process.folder / RESULT
        if not result.is_file():
            activity = process.folder / ACTIVITY
            doing = activity.read_text() if activity.is_file() else "starting ONNX Runtime"
            ended = f"took more than {seconds:g} seconds" if status is None else f"ended with status {status}"
            return Ranges({}, refusal=f"the process {ended} while {doing}")
        answer = json.loads(result.read_text())
    if "option_error" in answer:
        raise OptionError(answer["option_error"])
    if "refusal" in answer:
        return Ranges({}, refusal=answer["refusal"])
    ranges = {name: Range(**one) for name, one in answer["ranges"].items()}
    return Ranges(ranges, answer["described"], "", {(name, axis): mean for name, axis, mean in answer["means"]})
