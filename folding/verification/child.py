"""The child process of `folding.verify`: it runs one job within limits and writes the answer to a file.

Its one argument is a folder, which holds job.json once a byte arrives on standard input. The verdict goes to
result.json there. The current activity goes to activity.txt, so that the parent can report what this process was doing
when it was killed or died.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from folding.errors import ModelError, OptionError
from folding.process.bounds import die_with, lower
from folding.verification.compare import Comparison
from folding.verification.job import JOB, RESULT, Job
from folding.verification.ranges import KIND as SURVEY
from folding.verification.ranges import Survey
from folding.verification.runtime import THREADS
from folding.verification.statistics import KIND, Calibration

if sys.platform != "win32":
    import resource


def main(folder: Path) -> None:
    """Run the job in `folder` and write result.json there, complete or not at all."""
    given = json.loads((folder / JOB).read_text())
    job: Job | Calibration | Survey = {KIND: Calibration, SURVEY: Survey}.get(given.get("kind"), Job)(**given)
    die_with(job.parent)
    _limit(job)
    try:
        if isinstance(job, (Calibration, Survey)):
            answer = job.answer(folder)
        else:
            answer = asdict(Comparison(job, folder, lambda verdict: _keep(folder, asdict(verdict))).verdict())
        _keep(folder, answer)
    except OptionError as error:
        _keep(folder, {"option_error": str(error)})
    except ModelError as error:
        _keep(folder, {"model_error": str(error)})


def _keep(folder: Path, answer: dict[str, Any]) -> None:
    draft = folder / f"{RESULT}.draft"
    draft.write_text(json.dumps(answer, allow_nan=False))
    draft.replace(folder / RESULT)


def _limit(job: Job | Calibration | Survey) -> None:
    """Limit this process, including what it holds so far. The limit on processor time applies if the parent is gone."""
    if sys.platform != "win32":
        lower(resource.RLIMIT_CORE, 0)
        lower(resource.RLIMIT_CPU, int(job.seconds * THREADS) + 1)
        if job.memory is not None:
            lower(resource.RLIMIT_AS, job.memory)


if __name__ == "__main__" and sys.stdin.buffer.read(1):
    main(Path(sys.argv[1]))
