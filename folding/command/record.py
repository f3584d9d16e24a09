"""Records of what is done: one file a model in the output folder, with which a second run skips it.

A record holds the content address of the work: the digest of the model's files, the options and the version. It counts
only while the files that were written still have the digests that it holds. It is written after them, so whatever
moment a run is killed at, a record never promises what is not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folding.errors import ModelError, OptionError
from folding.fleet.file import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from folding.options import Options

    Json = dict[str, Any]
    Digests = dict[str, str]  # of files, by their names beside the model

FOLDER = ".bnfold"  # in the output folder; beside a repository, since a server takes all folders in it for models
LOCK = "lock"
DATA_LOCK = "data-lock"
DATA_SUFFIX = ".data"  # of the file that holds the weights of one model only
STAGED = re.compile(r"\.(.+)\.[0-9a-f]{16}")  # the folder in which a result is staged: see `onnxfile.staging`
STAGED_NAME = 100  # characters of the target's name in it


def records_of(output: str, options: Options) -> str:
    """The folder of the records of a run that writes to `output`."""
    return str(Path(output, FOLDER)) if options.triton is None else f"{Path(output)}{FOLDER}"


def place_of(records: str, name: str) -> str:
    """Where the record of a model is: beside the others, in the structure of the models."""
    return str(Path(records, f"{name}.json"))


@contextmanager
def alone(records: str, output: str) -> Iterator[None]:
    """Keep other runs out of the output folder; that of the records is created. The lock ends with the process.

    Raises:
        OptionError: another run writes there.
    """
    folder = Path(records)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder / LOCK, waits=False):
            yield
    except BlockingIOError:
        raise OptionError(f"another run of bnfold writes to {output}; wait for it, or give another folder") from None


@contextmanager
def data_alone(records: str, source: str, content: Content) -> Iterator[None]:
    """Let one process at a time write a model whose data may keep the name of a file that other models have, too.

    Two of them could else find that name free, and one would get the weights of the other.
    """
    own = {Path(source).name, f"{Path(source).name}{DATA_SUFFIX}"}
    if set(content.sha256) <= own:
        yield
        return
    with _locked(Path(records, DATA_LOCK), waits=True):
        yield


@contextmanager
def _locked(path: Path, *, waits: bool) -> Iterator[None]:
    try:
        import fcntl  # noqa: PLC0415  POSIX only; elsewhere nothing is locked
    except ModuleNotFoundError:
        yield
        return
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        yield


class Content:
    """The files of a model, the external data among them, with their digests; and whether they are still the same.

    Raises:
        ModelError: the model cannot be read.
    """

    def __init__(self, path: str) -> None:
        from folding import onnxfile  # noqa: PLC0415  only the process that folds loads it

        with onnxfile.read(path) as file:
            names = (Path(path).name, *file.external_locations)
        self._paths = {name: Path(path).parent / name for name in names}
        self._before = self._states()
        self.sha256: Digests = {name: _digest(place) for name, place in self._paths.items()}

    def has_changed(self) -> bool:
        """Whether one of the files is no longer the one that was read."""
        try:
            return self._states() != self._before
        except OSError:
            return True

    def _states(self) -> list[tuple[int, ...]]:
        states = (place.stat() for place in self._paths.values())
        return [(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns) for state in states]


def address(sha256: Mapping[str, str], options: Options, version: str) -> str:
    """The content address of the work at a model: equal only where the result is."""
    chosen = asdict(options)
    if options.inputs is not None:
        chosen["inputs"] = _digest(Path(options.inputs))
    plain = {"model": dict(sha256), "options": chosen, "version": version}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def delivered(model: str, options: Options) -> Digests:
    """The digests of all files that a fold wrote: the model, its data, and what goes with them.

    Raises:
        ModelError: the model cannot be read.
        OSError: one of the others cannot.
    """
    path = Path(model)
    others = [f"{path.name}.sha256"] if options.digest else []
    if options.triton is not None:
        others = ["../config.pbtxt", *(["../SHA256SUMS"] if options.digest else [])]
    return Content(model).sha256 | {name: _digest(path.parent / name) for name in others}


def recorded(place: str, known: str, model: str, options: Options) -> Json | None:
    """The record with this address, if there is one, and all that it says was written is still there; else None."""
    with suppress(OSError, ValueError, ModelError, KeyError, TypeError, AttributeError):
        record: Json = json.loads(Path(place).read_text(encoding="utf-8"))
        is_whole = record["report_sha256"] == _report_digest(record["report"])
        if is_whole and record["address"] == known and record["sha256_after"] == delivered(model, options):
            return record
    return None


def write_record(place: str, known: str, before: Mapping[str, str], after: Mapping[str, str], report: Json) -> None:
    """Write the record of a model that was folded, complete or not at all.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "address": known,
        "sha256": dict(before),
        "sha256_after": dict(after),
        "report_sha256": _report_digest(report),
        "report": report,
    }
    write_text(json.dumps(record, allow_nan=False) + "\n", path)


def sweep(records: str, output: str, targets: Iterable[str]) -> None:
    """Remove what a killed run left of these targets and of its records: files that never got their names.

    Call it while no process works at any of them.
    """
    begun: dict[Path, set[str]] = {}
    for target in map(Path, targets):
        begun.setdefault(target.parent, set()).add(target.name[:STAGED_NAME])
    if Path(records).parent != Path(
        output
    ):  # a folder of a repository is staged in it, or beside it as the records are
        begun[Path(output).parent] = begun.get(Path(output), set())
    for folder, names in begun.items():
        for entry in os.scandir(folder) if folder.is_dir() else ():
            staged = STAGED.fullmatch(entry.name)
            if staged and staged[1] in names and entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
    for part in Path(records).rglob(".*.part"):
        part.unlink(missing_ok=True)


def _report_digest(report: Json) -> str:
    return hashlib.sha256(json.dumps(report, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
