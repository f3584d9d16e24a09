"""External data: find the file that a tensor refers to, and nothing outside the model's folder (onnx.proto, 13)."""

from __future__ import annotations

import os
import re
import stat
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from folding.errors import ModelError
from folding.onnxfile.sources import FileSource, Span
from folding.onnxfile.tensors import raw_bytes
from folding.onnxfile.wire import TENSOR_EXTERNAL_DATA

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import TensorProto

    from folding.onnxfile.limits import Limits

_KEPT_OPEN = 64  # files; a process may open 256 (macOS) or 1,024, so further files are opened when needed
_DRIVE = re.compile("[A-Za-z]:")
_NUMBER = re.compile("[0-9]{1,19}")  # a file's size has 63 bits
_MODEL_FOLDER_ONLY = "external data must be in the model's folder or below"


class ExternalFiles:
    """The data files beside one model, each opened once.

    Every part of a location is checked before it is followed. Links (unless `limits.allow_links`), devices,
    pipes and folders are refused, and so is every location outside the model's folder.
    """

    def __init__(self, model: FileSource | None, limits: Limits) -> None:
        self._model, self._limits = model, limits
        self.sources: dict[str, FileSource] = {}

    def span(self, tensor: TensorProto, label: str) -> Span:
        """The span of the data of a tensor whose data_location is EXTERNAL.

        Raises:
            ModelError: the location is unusable, the file is missing or unsafe, or the range is not in the file
                or does not have the length that dims and type require.
        """
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        source = self.sources.get(location) or self._open(location, label)
        offset = _number(entries, "offset", label) or 0
        length = _number(entries, "length", label)
        if offset > source.size or (length or 0) > source.size - offset:
            raise ModelError(
                f'{label}: bytes {offset} to {offset + (length or 0)} are not in "{location}", which has {source.size}'
            )
        length = source.size - offset if length is None else length
        if tensor.data_type == tensor.STRING:
            raise ModelError(f"{label}: strings cannot be external data")
        expected = raw_bytes(tensor, label)
        if expected not in (None, length):
            raise ModelError(f'{label}: shape and type take {expected} bytes, but "{location}" has {length} for it')
        return Span(source, offset, length, TENSOR_EXTERNAL_DATA)

    def _open(self, location: str, label: str) -> FileSource:
        if self._model is None:
            raise ModelError(
                f'{label}: its data are in the file "{location}", which a model in memory cannot have beside it; '
                "give the path of the model instead"
            )
        self._limits.hold("external_files", len(self.sources) + 1)
        path = _resolve(self._model.path.parent, location, label, allow_links=self._limits.allow_links)
        try:
            source = FileSource(path, follow_links=self._limits.allow_links, keep_open=len(self.sources) < _KEPT_OPEN)
        except OSError as error:
            raise ModelError(f'{label}: external data file "{location}" cannot be opened: {error.strerror}') from error
        self.sources[location] = source
        if source.status.st_nlink > 1 and not self._limits.allow_links:
            raise ModelError(f'{label}: external data file "{location}" is a hard link; copy it, or set allow_links')
        if os.path.samestat(source.status, self._model.status):
            raise ModelError(f'{label}: external data file "{location}" is the model itself')
        return source

    def close(self) -> None:
        """Close all files."""
        for source in self.sources.values():
            source.close()


def _resolve(folder: Path, location: str, label: str, *, allow_links: bool) -> Path:
    """The file that a location names, after a check that every folder on the path is a real one."""
    parts = plain_parts(location, label)
    path = folder
    for index, part in enumerate(parts):
        path = path / part
        try:
            mode = path.lstat().st_mode if not allow_links else path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            where = f" (in {folder.name}/)" if folder.name else ""
            raise ModelError(
                f'{label}: external data file "{location}" is missing; put it beside the model{where}'
            ) from None
        except (OSError, ValueError) as error:
            raise ModelError(f'{label}: external data file "{location}" cannot be looked up: {error}') from error
        if stat.S_ISLNK(mode):
            raise ModelError(
                f'{label}: external data file "{location}" is a symbolic link; copy it, or set allow_links'
            )
        last = index == len(parts) - 1
        if last and not stat.S_ISREG(mode):
            raise ModelError(f'{label}: external data "{location}" is not a regular file')
    return path


def plain_parts(location: str, label: str) -> tuple[str, ...]:
    """The folders and the file that a location names, relative to the model's folder; errors name `label`, the tensor.

    Raises:
        ModelError: it names no file, or one outside the model's folder.
    """
    if not location:
        raise ModelError(f"{label}: its data are external, but no location says in which file")
    parts = PurePosixPath(location).parts
    reasons = {
        "is an absolute path": location.startswith("/") or _DRIVE.match(location) is not None,
        "leaves the folder": ".." in parts,
        "has a character no portable file name has": "\\" in location or "\0" in location,
        "names no file": not parts,
    }
    for reason, applies in reasons.items():
        if applies:
            raise ModelError(f"{label}: external data location {location[:200]!r} {reason}; {_MODEL_FOLDER_ONLY}")
    return parts


def _number(entries: dict[str, str], key: str, label: str) -> int | None:
    text = entries.get(key)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise ModelError(f"{label}: external data {key} {text[:40]!r} is not a number of bytes")
    return int(text)
