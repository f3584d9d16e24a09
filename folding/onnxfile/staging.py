"""Staging: new files are written in a hidden folder beside the target and moved into place at the end, all or none."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from folding.errors import FoldingError
from folding.onnxfile.stream import Target, writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from folding.onnxfile.layout import Segment

_NAME_SHOWN = 100  # characters of the target's name in the folder's name, which must stay below 255 bytes
_NAME_BYTES = 8  # random bytes in the name, so that two runs never collide
_OWNER_ONLY = 0o700
_PERMISSIONS = 0o777


def resolve(target: str | os.PathLike[str]) -> Path:
    """The file that a target names; a link is followed.

    Raises:
        FoldingError: it is a folder or a device, or its parent is no folder or does not exist.
    """
    path = Path(target)
    with writing(str(target)):
        path = Path(os.path.realpath(path)) if path.is_symlink() else path
    if path.is_dir():
        raise FoldingError(f"{target} is a folder; give the name of a file in it")
    if path.parent.is_file():
        raise FoldingError(f"{target} cannot be written: {path.parent} is a file, not a folder; choose another name")
    if not path.parent.is_dir():
        raise FoldingError(f"{target} cannot be written: the folder {path.parent} does not exist; create it first")
    if path.exists() and not path.is_file():
        raise FoldingError(f"{target} cannot be written: it is not a regular file")
    return path


class Staging:
    """The new files of one target; a context manager that removes everything that was not committed.

    Raises:
        FoldingError: the target's folder is not writable (on entry), or a file cannot be created or renamed.
    """

    def __init__(self, target: Path, *, durable: bool) -> None:
        self._target, self._durable = target, durable
        self._open: list[int] = []
        self._names: list[str] = []

    def __enter__(self) -> Self:
        folder = self._target.parent
        # The name is set before the folder exists, so that an interruption in between leaves nothing behind.
        self._folder = folder / f".{self._target.name[:_NAME_SHOWN]}.{secrets.token_hex(_NAME_BYTES)}"
        self._new, self._old = self._folder / "new", self._folder / "old"
        try:
            with writing(f"the folder {folder}"):
                self._folder.mkdir(mode=_OWNER_ONLY)
                self._new.mkdir()
                self._old.mkdir()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def create(self, name: str, segments: Sequence[Segment], nbytes: int) -> Target:
        """Create a file that will be named `name` beside the target; create the model last."""
        path, place = self._new / name, self._target.parent / name
        with writing(str(place)):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
            fd = os.open(path, flags, 0o666)
            self._open.append(fd)
            self._names.append(name)
            if place.exists():
                path.chmod(place.stat().st_mode & _PERMISSIONS)
        return Target(fd, str(place), segments, nbytes)

    def add(self, name: str, content: bytes) -> None:
        """Create a small file beside the model, which was created before it; it comes and goes with the model."""
        path, place = self._new / name, self._target.parent / name
        with writing(str(place)), path.open("xb") as file:
            file.write(content)
            if self._durable:
                file.flush()
                os.fsync(file.fileno())
            if place.exists():
                path.chmod(place.stat().st_mode & _PERMISSIONS)
        self._names.insert(len(self._names) - 1, name)  # the model gets its name last

    def staged(self) -> dict[str, Path]:
        """The files so far, by the names that they will have."""
        return {name: self._new / name for name in self._names}

    def finish(self) -> Path:
        """Close the complete files; return the path of the staged model."""
        if self._durable:
            for fd in self._open:
                with writing(str(self._target)):
                    os.fsync(fd)
        self._close()
        return self._new / self._names[-1]

    def _close(self) -> None:
        while self._open:
            os.close(self._open.pop())

    def commit(self) -> None:
        """Rename the files into place: data first, the model last.

        If data is replaced, the old model is moved away first: an interruption then leaves no model instead of
        one with the weights of another. An exception restores everything.
        """
        with writing(str(self._target)):
            try:
                self._rename()
            except BaseException:
                self._undo()
                raise
            if self._durable:
                _sync_folder(self._target.parent)

    def _rename(self) -> None:
        *data, model = self._names
        places = [self._target.parent / name for name in data]
        if any(place.exists() for place in places) and self._target.exists():
            self._target.rename(self._old / model)
        for name, place in zip(data, places, strict=True):
            if place.exists():
                place.rename(self._old / name)
            (self._new / name).rename(place)
        (self._new / model).replace(self._target)

    def _undo(self) -> None:
        if not (self._new / self._names[-1]).exists():
            return  # the last rename succeeded: the new files are complete
        for name in self._names:
            place = self._target.parent / name
            if (self._old / name).exists():
                (self._old / name).replace(place)
            elif not (self._new / name).exists():
                place.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
