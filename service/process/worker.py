"""The process of one fold: it does what request.json in its folder says. `service.process.template` forks it.

It sets its own bounds, closes its walls, and waits for the request: a byte on standard input; see `service.work`. Then
it forks the process that will verify, and only then reads a model. Progress goes to standard output, one JSON object
per line. The answer is a file that appears whole or not at all; a process that ends without an answer has died.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.process.confine import confine, confine_tasks
from service.process.walls import close
from service.work import (
    ANSWER,
    ARCHIVE,
    ARCHIVE_TYPE,
    BOUNDS,
    IN,
    MODEL_TYPE,
    OUT,
    PAGE,
    REPORT,
    REQUEST,
    RESULT,
    UNPACKED,
    Answer,
    Bounds,
    Request,
)

if TYPE_CHECKING:
    from folding.report.model import Report
    from service.process.walls import Kind

DAMAGED = "the server's disk damaged the upload; send it again"
SENTENCE = 2000  # characters of an error message, at most
REPORT_EVERY = 0.05  # seconds between two lines of progress
INFERENCE_SHARE = 0.25  # of the time for a fold; if shape inference takes longer, the fold goes on without shapes
SHARES = {"folding": (0.0, 0.3), "writing": (0.3, 0.3), "verifying": (0.6, 0.4)}  # start and share of each stage


def load() -> None:
    """Import what nearly every fold and its verification need, once for all that are forked from this process."""
    import folding.api  # noqa: PLC0415  the server imports this module for its names
    import folding.fleet.file  # noqa: PLC0415
    import folding.verification.child  # noqa: F401, PLC0415


def main(folder: Path, walls: Kind) -> None:
    """Do the request in `folder`, and write the answer there.

    `walls` is the kind of sandbox whose namespaces this process is in, and which it closes around itself.
    """
    bounds = Bounds(**json.loads((folder / BOUNDS).read_text()))
    confine(bounds)
    confine_tasks(bounds.tasks, is_apart=walls == "bubblewrap")
    close(walls, folder)
    if not sys.stdin.buffer.read(1):
        return
    plain = json.loads((folder / REQUEST).read_text())
    request = Request(**plain | {"bounds": Bounds(**plain["bounds"])})
    confine(request.bounds)
    if request.kind == "fold" and request.options.get("verify", True):
        from folding.verification import child, standby  # noqa: PLC0415

        standby.prepare(child.main)  # a copy: this process has one thread, and no model yet
    answer = answered(request, folder.absolute(), Progress())
    draft = folder / OUT / f"{ANSWER}.draft"
    draft.write_text(json.dumps(asdict(answer)))
    draft.rename(folder / OUT / ANSWER)


def answered(request: Request, folder: Path, progress: Progress) -> Answer:
    """Do the request and return its answer; every expected error becomes an answer, too."""
    checking = Checking(folder / IN / (ARCHIVE if request.archive else request.name), request.sha256)
    answer = _outcome(request, folder, progress)
    return answer if checking.is_right() else Answer(slug="internal", detail=DAMAGED, damaged=True)


class Checking:
    """Compares a file with its digest, meanwhile in a thread: a disk may have changed it since it arrived."""

    def __init__(self, path: Path, sha256: str) -> None:
        self._path, self._sha256, self._found = path, sha256, ""
        self._thread = threading.Thread(target=self._read)
        if sha256:
            self._thread.start()

    def _read(self) -> None:
        with suppress(OSError), self._path.open("rb") as file:
            self._found = hashlib.file_digest(file, "sha256").hexdigest()

    def is_right(self) -> bool:
        """Whether it is the content of the digest; True without a digest."""
        if self._sha256:
            self._thread.join()
        return self._found == self._sha256


def _outcome(request: Request, folder: Path, progress: Progress) -> Answer:
    from folding.errors import FoldingError  # noqa: PLC0415  after this process is confined
    from folding.report.errors import ReportedError  # noqa: PLC0415  after this process is confined

    try:
        return _done(request, folder, progress)
    except ReportedError as error:
        write_reports(error.report, folder)
        return Answer(slug=slug(error), detail=_sentence(error), report=True)
    except FoldingError as error:
        return Answer(slug=slug(error), detail=_sentence(error))
    except MemoryError:
        return Answer(slug="out-of-memory", detail=f"it needs more than {request.bounds.memory:,} bytes of memory")
    except OSError as error:
        return Answer(slug=_slug_of_system(error), detail=f"the result cannot be written: {error.strerror or error}")


def _done(request: Request, folder: Path, progress: Progress) -> Answer:
    from folding.analysis import inference  # noqa: PLC0415
    from folding.api import fold, inspect  # noqa: PLC0415
    from folding.onnxfile import Limits  # noqa: PLC0415
    from folding.options import Options  # noqa: PLC0415

    options, limits = Options(**request.options), Limits(**{**vars(Limits()), **request.limits})
    inference.keep_apart(request.bounds.seconds * INFERENCE_SHARE)
    source = folder / IN / request.name
    if request.archive:
        from folding.archive import ArchiveError, ArchiveLimits, read_archive  # noqa: PLC0415  few need it

        try:
            source = read_archive(folder / IN / ARCHIVE, folder / UNPACKED, ArchiveLimits(model=limits))
        except ArchiveError as error:
            return Answer(slug="unsafe-archive", detail=_sentence(error))
    os.chdir(source.parent)  # error messages then name the model, not the server's folders
    if request.kind == "inspect":
        write_reports(inspect(source.name, options, limits=limits), folder)
        return Answer(report=True)
    target = folder / OUT / "model" / source.name
    target.parent.mkdir()
    place = target if options.triton is None else target.parent
    write_reports(fold(source.name, place, options, progress=progress, limits=limits), folder)
    if options.triton is not None or options.digest:
        from folding.archive import write_folder  # noqa: PLC0415

        write_folder(target.parent, folder / OUT / ARCHIVE)
        return Answer(ARCHIVE, ARCHIVE_TYPE, report=True)
    if request.archive or len(list(target.parent.iterdir())) > 1:
        from folding.archive import write_archive  # noqa: PLC0415

        write_archive(target, folder / OUT / ARCHIVE)
        return Answer(ARCHIVE, ARCHIVE_TYPE, report=True)
    target.rename(folder / OUT / RESULT)
    return Answer(RESULT, MODEL_TYPE, report=True)


def _sentence(error: Exception) -> str:
    """The message of an error, shortened: names in it may be as long as a model."""
    message = str(error)
    return message if len(message) <= SENTENCE else f"{message[: SENTENCE // 2]} ... {message[-SENTENCE // 2 :]}"


def write_reports(report: Report, folder: Path) -> None:
    """Write the report in both forms; its paths are reduced to file names."""
    from folding.fleet.file import write_report  # noqa: PLC0415

    target = None if report.target is None else Path(report.target).name
    place = f"{Path(report.target or report.source).parent}/"
    recipe = tuple(line.replace(place, "") for line in report.recipe)
    report = replace(report.with_flags(), source=Path(report.source).name, target=target, recipe=recipe)
    for name in (REPORT, PAGE):
        write_report(report, folder / OUT / name)


def slug(error: Exception) -> str:
    """The slug of the problem for an error of the library."""
    from folding import errors  # noqa: PLC0415
    from folding.report import errors as ended  # noqa: PLC0415

    if isinstance(error.__cause__, OSError):
        return _slug_of_system(error.__cause__)
    kinds = {
        errors.LimitError: "too-large",
        errors.OptionError: "invalid-option",
        ended.NothingToFoldError: "nothing-to-fold",
        ended.TargetError: "target-refused",
        ended.VerificationError: "verification-failed",
    }
    return next((kinds[kind] for kind in kinds if isinstance(error, kind)), "invalid-model")


def _slug_of_system(error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "insufficient-storage"
    return "too-large" if error.errno == errno.EFBIG else "invalid-model"


class Progress:
    """Reports progress to the parent on the original standard output; other prints go to standard error."""

    def __init__(self) -> None:
        self._lines = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._stage, self._next = "", 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report the progress of a stage: `done` of `total` bytes or steps."""
        now = time.monotonic()
        if stage == self._stage and now < self._next:
            return
        self._stage, self._next = stage, now + REPORT_EVERY
        begins, part = SHARES[stage]
        line: dict[str, Any] = {"stage": stage, "progress": begins + part * (done / total if total else 0)}
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()
