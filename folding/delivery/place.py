"""Where the files of one fold go: beside each other, or in a folder of a Triton model repository; all of them or none.

A model alone, with its data and its digest file, is staged by `onnxfile.write`. A folder is staged here: the fold
writes its model into it as to any place, the rest is added, and the folder gets its name by one rename.
"""

# ruff: noqa: PLC0415  few folds are for Triton, and start-up time counts

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from folding import onnxfile
from folding.delivery.digest import OF_A_FOLDER, SUFFIX, hashed, written
from folding.errors import FoldingError, ModelError
from folding.onnxfile import DATA_SUFFIX, writing
from folding.options import SERVED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from folding.onnxfile import Beside
    from folding.options import Options
    from folding.report.model import Report
    from folding.report.types import FileDigest

CONFIGURATION = "config.pbtxt"  # the name that Triton looks for
VERSION, MODEL = SERVED
OURS = frozenset({CONFIGURATION, OF_A_FOLDER, VERSION, f"{VERSION}/{MODEL}", f"{VERSION}/{MODEL}{DATA_SUFFIX}"})
_NAME_SHOWN = 100  # characters of the folder's name in it
_NAME_BYTES = 8  # random bytes in a folder's name, so that two runs never collide


class Place:
    """The place of one model.

    Attributes:
        model: where the model is to be written.
        shown: what a report and a message call that.
        beside: the file that is to come with it, as `onnxfile.write` takes it.
        digests: those of the files that were delivered, where they are asked for.
        recipe: how to hand them to whoever runs them; empty where the model's own recipe holds.
    """

    def __init__(self, model: Path, shown: str, *, digest: bool) -> None:
        self.model, self.shown = model, shown
        self.beside: Beside | None = (f"{model.name}{SUFFIX}", self._digest) if digest else None
        self.digests: tuple[FileDigest, ...] = ()
        self.recipe: tuple[str, ...] = ()

    def _digest(self, files: Mapping[str, Path]) -> bytes:
        self.digests = hashed(files)
        return written(self.digests)

    def finish(self) -> None:
        """Deliver what was written.

        Raises:
            FoldingError: it cannot be written; then nothing is.
        """

    def reported(self, report: Report) -> Report:
        """The report of it."""
        return replace(report, target=self.shown, digests=self.digests, recipe=self.recipe or report.recipe)


class Repository(Place):
    """A folder of a Triton model repository: config.pbtxt, 1/model.onnx, its data, and SHA256SUMS if asked for."""

    def __init__(self, stage: Path, folder: Path, options: Options) -> None:
        super().__init__(stage / "new" / VERSION / MODEL, str(folder / VERSION / MODEL), digest=False)
        self._stage, self._folder, self._options = stage, folder, options
        self._new, self._old = stage / "new", stage / "old"

    def finish(self) -> None:
        """Add the other files, and give the folder its name; a folder of an earlier run is replaced.

        Raises:
            OptionError: Triton cannot serve the model.
            FoldingError: it cannot be written; then nothing is.
        """
        from folding.conversion.signature import signature
        from folding.delivery.triton import configuration

        with onnxfile.read(self.model) as file:
            text = configuration(self._folder.name, signature(file), self._options)
        self.recipe = (f"tritonserver --model-repository={self._folder.parent}",)
        with writing(str(self._folder)):
            (self._new / CONFIGURATION).write_bytes(text.encode())
            if self._options.digest:
                files = {
                    path.relative_to(self._new).as_posix(): path for path in self._new.rglob("*") if path.is_file()
                }
                self.digests = hashed(files)
                (self._new / OF_A_FOLDER).write_bytes(written(self.digests))
            self._commit()

    def _commit(self) -> None:
        require_replaceable(self._folder)
        try:
            if self._folder.exists():
                self._folder.rename(self._old)
            self._new.rename(self._folder)
        except BaseException:
            if self._old.exists() and not self._folder.exists():
                self._old.rename(self._folder)
            raise


def require_replaceable(folder: Path) -> None:
    """Refuse a folder that holds more than an earlier run wrote.

    Raises:
        FoldingError: it names what else is there.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FoldingError(f"{folder} is no folder; choose another name for triton, or remove it")
    ours = set(OURS)
    with suppress(ModelError):
        ours |= {f"{VERSION}/{name}" for name in onnxfile.external_locations(folder / VERSION / MODEL)}
    others = sorted({path.relative_to(folder).as_posix() for path in folder.rglob("*")} - ours)
    if others:
        raise FoldingError(
            f"{folder} holds {others[0]!r}, which would be lost; choose another name for triton, or move it"
        )


@contextmanager
def placed(target: str | os.PathLike[str], source: str | os.PathLike[str], options: Options) -> Iterator[Place]:
    """The place of the result of a fold of `source`: `target` itself, or with `options.triton` a folder in it.

    What was not finished is removed.

    Raises:
        OptionError: Triton runs no file for the target of the options.
        FoldingError: the folder cannot be created, or holds what would be lost.
    """
    if options.triton is None:
        path = Path(target)
        yield Place(path, str(target), digest=options.digest)
        return
    from folding.delivery.triton import require_servable

    require_servable(options)
    repository = Path(target)
    folder = repository / options.repository_name(Path(source).name)
    if repository.exists() and not repository.is_dir():
        raise FoldingError(f"{repository} is a file; with triton, give the folder of a model repository")
    require_replaceable(folder)
    with writing(str(repository)):
        is_new = not repository.exists()
        repository.mkdir(exist_ok=True)
    stage = stage_of(folder)
    try:
        with writing(str(folder)):
            (stage / "new" / VERSION).mkdir(parents=True)
        yield Repository(stage, folder, options)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if is_new:
            with suppress(OSError):
                repository.rmdir()  # nothing was delivered, or it is not empty


def stage_of(folder: Path) -> Path:
    """A new name for the folder in which `folder` is staged.

    Beside the repository: a server that polls it takes every folder in it for a model, hidden ones too (Triton's
    `GetDirectorySubdirs`). In it, where that is another file system, or may not be written.
    """
    name = f".{folder.name[:_NAME_SHOWN]}.{secrets.token_hex(_NAME_BYTES)}"
    repository = Path(os.path.realpath(folder.parent))
    outside = repository.parent
    is_near = os.access(outside, os.W_OK) and outside.stat().st_dev == repository.stat().st_dev
    return (outside if is_near else repository) / name
