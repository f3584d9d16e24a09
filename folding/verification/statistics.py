"""Statistics of values of a model over samples: what BatchNormalization in training mode would store.

`collect` runs the model in a child process, as a verification does.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from folding.errors import OptionError
from folding.verification import samples
from folding.verification.job import ACTIVITY, JOB, RESULT
from folding.verification.samples import UnverifiableError
from folding.verification.standby import standby

if TYPE_CHECKING:
    from collections.abc import Sequence

    from folding.algebra.affine import Float64
    from folding.verification.judge import Array

CHANNEL_AXIS = 1  # of data, in BatchNormalization
KIND = "calibration"  # marks such a job among those of the child process


@dataclass(frozen=True)
class Calibration:
    """A job of the child process: the model, the samples, and the names of inputs or outputs of the model."""

    before: str
    inputs: str
    label: str
    values: tuple[str, ...]
    seconds: float
    memory: int | None
    parent: int
    kind: str = KIND

    def answer(self, folder: Path) -> dict[str, Any]:
        """The answer of the child process: the statistics of the values over all batches of samples.

        Raises:
            OptionError: as `collect`.
        """
        # Only the child process loads ONNX Runtime.
        from folding.verification.runtime import Runner, RuntimeRefusalError  # noqa: PLC0415

        (folder / ACTIVITY).write_text("running the original on the samples")
        try:
            runner = Runner(Path(self.before))
            found: dict[str, Statistics] = {}
            for feeds in samples.batches(Path(self.inputs), runner.specs, self.label):
                results = feeds | runner.run(feeds)
                for name in self.values:
                    part = Statistics.of(results[name])
                    found[name] = found[name] + part if name in found else part
        except (RuntimeRefusalError, UnverifiableError, MemoryError) as error:
            raise OptionError(f"{self._refused}: {error or 'memory ran out'}") from None
        undefined = [name for name, one in found.items() if not (one.count and np.isfinite(one.variance).all())]
        if undefined:
            raise OptionError(f"{self._refused}: {undefined[0]!r} has no mean and variance")
        return {"statistics": {name: one.plain() for name, one in found.items()}}

    @property
    def _refused(self) -> str:
        return f'freeze_training="samples": the original does not run on {self.label}'


@dataclass(frozen=True)
class Statistics:
    """Count, mean and population variance of every channel, in float64."""

    count: int
    mean: Float64
    variance: Float64

    def plain(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {"count": self.count, "mean": self.mean.tolist(), "variance": self.variance.tolist()}

    @staticmethod
    def of(value: Array) -> Statistics:
        """The statistics of one value (N, C, ...), over all axes but the channels'."""
        wide = value.astype(np.float64)
        others = tuple(axis for axis in range(wide.ndim) if axis != CHANNEL_AXIS)
        return Statistics(wide.size // max(1, wide.shape[CHANNEL_AXIS]), wide.mean(others), wide.var(others))

    def __add__(self, other: Statistics) -> Statistics:
        """The statistics of both together (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        share = other.count / count
        apart = other.mean - self.mean
        within = self.variance * (1 - share) + other.variance * share
        return Statistics(count, self.mean + share * apart, within + share * (1 - share) * apart**2)


def collect(
    model: Path, values: Sequence[str], inputs: str, seconds: float, memory: int | None
) -> dict[str, Statistics]:
    """The statistics of these outputs or inputs of a model over the samples in an .npz file.

    Raises:
        OptionError: the samples do not fit the model, or it does not run on them within `seconds` and `memory` bytes.
    """
    with standby() as process:
        path = str(Path(inputs).absolute())
        job = Calibration(str(model), path, inputs, tuple(values), seconds, memory, os.getpid())
        (process.folder / JOB).write_text(json.dumps(asdict(job)))
        status = process.run(seconds)
        result = process.folder / RESULT
        if not result.is_file():
            activity = process.folder / ACTIVITY
            doing = activity.read_text() if activity.is_file() else "starting ONNX Runtime"
            ended = f"took more than {seconds:g} seconds" if status is None else f"ended with status {status}"
            raise OptionError(f'freeze_training="samples": the process {ended} while {doing}')
        answer = json.loads(result.read_text())
    if "option_error" in answer:
        raise OptionError(answer["option_error"])
    return {
        name: Statistics(found["count"], np.array(found["mean"]), np.array(found["variance"]))
        for name, found in answer["statistics"].items()
    }
