"""verify(before, after): run both models side by side in a child process that may hang, crash or eat memory."""

from __future__ import annotations

import json
import os
import signal
import time
import zipfile
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from folding.errors import ModelError, OptionError
from folding.execution.facts import read_facts
from folding.execution.probes import outputs_fragment
from folding.report.model import OutputError, Verification
from folding.targets.model import load
from folding.verification import advice
from folding.verification.emulated import emulated
from folding.verification.job import ACTIVITY, AFTER_TAPS, AS_IT_IS, BEFORE_TAPS, JOB, PROGRESS, RESULT, STEPS, Job
from folding.verification.standby import standby

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from folding.execution.facts import Facts
    from folding.verification.emulated import Emulated
    from folding.verification.standby import Standby

GIB = 1 << 30
COPIES = 2  # of the weights in memory: as the file has them and once more rearranged for the kernels
# The rest is for the fold itself and for what else the machine does.
MEMORY_SHARE = 0.75
# What the interpreter, NumPy, ONNX Runtime and its threads' stacks map before the first model (measured: 0.4 GiB).
MEMORY_OVERHEAD = GIB
MEMINFO, MEMINFO_UNIT = Path("/proc/meminfo"), 1024
CGROUP_LIMIT, CGROUP_USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
CHANNEL_AXIS = 1  # of data, in convolutions and normalizations
TAPPED_BYTES = 1 << 28  # of a model that is loaded from memory, so that values in it become outputs
CRASHES = frozenset(getattr(signal, name, 0) for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE")) - {0}
GIVEN = "given"  # what the report calls arrays that were passed in memory


def verify(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    *,
    inputs: str | os.PathLike[str] | Mapping[str, np.ndarray[Any, Any]] | None = None,
    timeout: float = 300.0,
    memory: int | None = None,
    max_error: float | None = None,
    target: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Whether the folded model computes what the original computes.

    Both run in ONNX Runtime on the CPU, optimisations off, on the same samples: `inputs` (an .npz file, or the arrays
    themselves, one per graph input) or generated ones, and once with other values of the initializers that a caller may
    override. Each output is judged by the rounding noise of the original; see
    `folding.verification.judge`. The result is "failed" when an output is off by more than noise explains, or the
    folded model does not load or run where the original does; "not verified", with the reason, when nothing can be
    said: the original does not run, yields NaN, or the child took more than `timeout` seconds or `memory` bytes of
    address space (default: a share of what is free), or crashed. `progress` is called with the steps that are done, and
    how many there are.

    A model with values of 16 bits runs as an emulation in float32 that rounds each of them (`execution.emulation`), as
    the runtime would not. If the original is of float32, the error of each output may be a few times that of the
    original itself with all its numbers rounded to the digits of that type; a number that is not finite where the
    original's is fails. The emulations are temporary files beside `after`, of up to twice the size of the original.

    `max_error` replaces what rounding explains: the largest error of a floating-point output that is accepted, relative
    to the largest magnitude of that output in the original.

    If `target` is the runtime that runs the models here (onnxruntime-cpu), the folded model must also load and run as
    it is, no emulation, with the runtime's own optimisations.

    Raises:
        ModelError: one of the models is missing, corrupt or unsafe, or ONNX Runtime refuses the types of the original.
            Nothing that they do when they run raises.
        OptionError: `inputs` is no .npz file or does not hold what the model wants; a model is given as something else
            than a path; `max_error` is not positive; there is no such target.
    """
    for name, model in (("before", before), ("after", after)):
        if not isinstance(model, (str, os.PathLike)):
            raise OptionError(f"{name} is of type {type(model).__name__}; give the path of an ONNX file")
    if max_error is not None and not max_error > 0:
        raise OptionError(f"max_error is {max_error!r}; give a number above 0")
    runs = str(_absolute(after)) if target is not None and load(target).installed else None
    began = time.monotonic()
    if progress is not None:
        progress(0, STEPS)
    paths = _absolute(before), _absolute(after)
    with standby() as process:
        known = read_facts(before), read_facts(after)
        given, label = _samples(inputs, process.folder)
        limit = available_memory() if memory is None else memory
        with emulated(*paths, known, process.folder) as files:
            needed = COPIES * max(files.nbytes, *(model.nbytes for model in known))
            job = partial(
                _job, inputs=given, label=label, seconds=timeout, memory=limit, max_error=max_error, runs=runs
            )
            verdict = (
                _unlike(files, known)
                or _too_large(needed, limit)
                or _run(process, job(paths, files, known, process.folder), progress)
            )
    reason = verdict.reason if inputs is None else verdict.reason.replace(advice.SAMPLES, advice.MORE_SAMPLES)
    return replace(verdict, reason=reason, seconds=time.monotonic() - began)


def _job(paths: tuple[Path, Path], files: Emulated, known: tuple[Facts, Facts], folder: Path, **limits: Any) -> Job:
    """What the child is to compare, with all that it needs to know."""
    return Job(
        str(files.before),
        str(files.after),
        epsilon=max(model.epsilon for model in known),
        quantizes=any(model.quantizes for model in known),
        defaults=_defaults(*known, folder),
        lengths=_lengths(*known),
        taps=_taps(*known, folder) if limits["max_error"] is None else (),
        traps=tuple(dict.fromkeys(known[0].traps + known[1].traps)),
        folded=_folded(known[1], folder, wide=files.halves is not None),
        behind=dict(known[1].behind),
        actual=None if files.halves is None else (str(paths[0]), str(paths[1])),
        halves=files.halves,
        rough=None if files.rough is None else str(files.rough),
        notes=files.notes,
        parent=os.getpid(),
        **limits,
    )


def _unlike(files: Emulated, known: tuple[Facts, Facts]) -> Verification | None:
    """The verdict on a folded model that cannot be emulated; if the original has 16 bits, too, both run as they are."""
    if not files.refused or known[0].half:
        return None
    return Verification("not verified", f"{files.refused}; {advice.RUNTIME}")


def _too_large(needed: int, limit: int | None) -> Verification | None:
    """The verdict on a model that memory cannot hold, both in bytes."""
    if limit is None or needed <= limit:
        return None
    sizes = f"about {needed / GIB:.1f} GiB and {limit / GIB:.1f} GiB are available"
    return Verification("not verified", f"the model needs {sizes}; {advice.MEMORY}")


def _run(process: Standby, job: Job, progress: Callable[[int, int], None] | None) -> Verification:
    """The verdict of a child process, or how the process ended."""

    def watch() -> None:
        if progress is not None:
            with suppress(OSError, ValueError):  # it is being written
                progress(int((process.folder / PROGRESS).read_text()), STEPS)

    (process.folder / JOB).write_text(json.dumps(asdict(job)))
    return _verdict(process.folder, process.run(job.seconds, watch), job.seconds)


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(path).absolute()


def _samples(inputs: str | os.PathLike[str] | Mapping[str, Any] | None, folder: Path) -> tuple[str | None, str]:
    """The .npz file to read, and what to call it."""
    if inputs is None:
        return None, ""
    if not isinstance(inputs, (str, os.PathLike)):
        path = folder / "inputs.npz"
        _save(path, inputs)
        return str(path), GIVEN
    path = Path(inputs).absolute()
    if not path.is_file():
        raise OptionError(f"{inputs}: there is no such file; give an .npz file with one array per graph input")
    if not zipfile.is_zipfile(path):
        raise OptionError(f"{inputs} is not an .npz file; save one with numpy.savez(path, **arrays)")
    return str(path), path.name


def _defaults(before: Facts, after: Facts, folder: Path) -> str | None:
    """The .npz file of what a caller may override in both models, with the values of the original."""
    both = {name: value for name, value in before.defaults.items() if name in after.defaults}
    if not both:
        return None
    path = folder / "defaults.npz"
    _save(path, both)
    return str(path)


def _lengths(before: Facts, after: Facts) -> tuple[tuple[str, int, int], ...]:
    """The lengths of inputs that the weights of the original determine, or that the result declares."""
    known = {(name, CHANNEL_AXIS): length for name, length in before.channels.items()} | dict(after.lengths)
    return tuple((name, axis, length) for (name, axis), length in known.items())


def _taps(before: Facts, after: Facts, folder: Path) -> tuple[tuple[str, str, str, str], ...]:
    """What goes into the last operators of the outputs, where these and what follows are the same in both models.

    Nothing if the models are too large.
    """
    if max(before.nbytes, after.nbytes) > TAPPED_BYTES:
        return ()
    both = [name for name, tap in before.taps.items() if name in after.taps and after.taps[name][1:] == tap[1:]]
    for path, facts in ((BEFORE_TAPS, before), (AFTER_TAPS, after)):
        values = list(dict.fromkeys(facts.taps[name].value for name in both))
        (folder / path).write_bytes(outputs_fragment(values))
    return tuple((name, before.taps[name].operator, before.taps[name].value, after.taps[name].value) for name in both)


def _folded(after: Facts, folder: Path, *, wide: bool) -> str | None:
    """The .npz file of constants to spoil; those of 16 bits are `wide` in an emulation."""
    if not after.folded:
        return None
    path, wider = folder / "folded.npz", wide and bool(after.half)
    _save(path, {name: value.astype(np.float32) if wider else value for name, value in after.folded.items()})
    return str(path)


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    """`numpy.savez` for any names: it takes none called "file", and pickles objects."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in arrays.items():
            array = np.asarray(value)
            if array.dtype == object and all(isinstance(item, str) for item in array.flat):
                array = array.astype(np.str_)
            if array.dtype.hasobject:
                raise OptionError(f'input "{name}" holds Python objects; give an array of numbers, booleans or strings')
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _verdict(folder: Path, status: int | None, seconds: float) -> Verification:
    result, activity = folder / RESULT, folder / ACTIVITY
    doing = activity.read_text() if activity.is_file() else "starting ONNX Runtime"
    if doing == AS_IT_IS and status is not None and -status in CRASHES:
        return Verification("failed", f"ONNX Runtime crashes {doing} ({_cause(status)}); {advice.AS_IT_IS}")
    if result.is_file():
        return _parsed(json.loads(result.read_text()))
    if status is None or -status == getattr(signal, "SIGXCPU", 0):
        return Verification(
            "not verified", f"it was still {doing} after {seconds:g} seconds; allow more (`verify_timeout`)"
        )
    cause = _cause(status)
    what = advice.MEMORY if "memory" in cause else advice.RUNTIME
    return Verification("not verified", f"the process died while {doing} ({cause}); {what}")


def _cause(status: int) -> str:
    if status >= 0:
        return f"exit status {status}, for lack of memory perhaps"
    name = signal.Signals(-status).name
    return "it was killed, for lack of memory perhaps" if name == "SIGKILL" else f"signal {name}"


def _parsed(answer: dict[str, Any]) -> Verification:
    if "option_error" in answer:
        raise OptionError(answer["option_error"])
    if "model_error" in answer:
        raise ModelError(answer["model_error"])
    outputs, frozen = (tuple(OutputError(**output) for output in answer.pop(name)) for name in ("outputs", "frozen"))
    return Verification(outputs=outputs, frozen=frozen, notes=tuple(answer.pop("notes")), **answer)


def available_memory() -> int | None:
    """A share of the memory that is free on this machine or in this container; None where neither is known."""
    free = [amount for amount in (_machine_free(), _container_free()) if amount is not None]
    return int(min(free) * MEMORY_SHARE) + MEMORY_OVERHEAD if free else None


def _machine_free() -> int | None:
    with suppress(OSError):
        fields = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * MEMINFO_UNIT
    return None


def _container_free() -> int | None:
    with suppress(OSError, ValueError):  # "max" is no limit
        return int(CGROUP_LIMIT.read_text()) - int(CGROUP_USED.read_text())
    return None
