"""Unpack an untrusted zip that holds a model and its external data.

Everything in an upload is checked. The directory must account for every byte of the file (`archive.directory`). The
names must be plain and few. The model is unpacked first, to learn which files it refers to. No file may exceed the
size it declares. The memory used is one block, whatever the archive holds.
"""

from __future__ import annotations

import os
import secrets
import shutil
import zlib
from typing import TYPE_CHECKING

from folding import onnxfile
from folding.archive.directory import read_directory
from folding.archive.records import STORED
from folding.archive.rules import MODEL_SUFFIX, NAME_BYTES, ArchiveError, ArchiveLimits, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from folding.archive.directory import Entry

ARCHIVE_LIMITS = ArchiveLimits()
BLOCK = 1 << 20  # bytes inflated at a time
_RAW_DEFLATE = -zlib.MAX_WBITS  # a zip has no zlib header around the data
_OWNER_ONLY = 0o700
_DAMAGED = "it is damaged; pack it again"


def read_archive(path: Path, into: Path, limits: ArchiveLimits = ARCHIVE_LIMITS) -> Path:
    """Unpack an uploaded zip into the folder `into`; return the path of its one .onnx file there.

    The files appear in `into` when all of them are complete, the model last; otherwise none appears. The model is
    parsed to learn which data it refers to, so call this in a process with limits, where a fold may run.

    Raises:
        ArchiveError: it does not hold one model and exactly its data, or exceeds `limits`.
        ModelError: the model in it is corrupt or unsafe.
        OSError: the archive cannot be read, or `into` cannot be written or already holds a file of the same name.
    """
    with path.open("rb") as file:
        entries = read_directory(file, limits)
        model = _model(entries)
        staging = into / f".{secrets.token_hex(NAME_BYTES)}"
        try:
            staging.mkdir(mode=_OWNER_ONLY)
            _unpack(file, model, staging)
            referred = onnxfile.external_locations(staging / model.name, limits.model)
            data = [entry for entry in entries if entry is not model]
            _require_exactly(referred, data)
            for entry in data:
                _unpack(file, entry, staging)
            _move([entry.name for entry in (*data, model)], staging, into)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return into / model.name


def _model(entries: list[Entry]) -> Entry:
    models = [entry for entry in entries if entry.name.lower().endswith(MODEL_SUFFIX)]
    if len(models) != 1:
        found = f"{len(models)} of them" if models else "none"
        raise ArchiveError(f"the archive must hold exactly one {MODEL_SUFFIX} file, and holds {found}")
    return models[0]


def _require_exactly(referred: tuple[str, ...], data: list[Entry]) -> None:
    """Check that the archive holds exactly the data that the model refers to."""
    held = {entry.name for entry in data}
    for location in referred:
        if location not in held:
            what = "in a sub-folder, which an archive cannot hold" if "/" in location else "which is not in the archive"
            raise ArchiveError(f"the model refers to the external data {shown(location)}, {what}")
    for name in held - set(referred):
        raise ArchiveError(f"the archive's entry {shown(name)} is nothing that the model refers to; leave it out")


def _unpack(file: BinaryIO, entry: Entry, folder: Path) -> None:
    """Write one file; its size and checksum must match the directory."""
    checksum, size = 0, 0
    with (folder / entry.name).open("xb") as target:
        for block in _stored(file, entry) if entry.method == STORED else _inflated(file, entry):
            size += len(block)
            if size > entry.size:
                break
            checksum = zlib.crc32(block, checksum)
            target.write(block)
    if (size, checksum) != (entry.size, entry.crc):
        raise ArchiveError(f"the archive's entry {shown(entry.name)} is not what its header says: {_DAMAGED}")


def _stored(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    file.seek(entry.start)
    left = entry.packed
    while left:
        block = file.read(min(BLOCK, left))
        if not block:
            raise ArchiveError(f"the archive ends within {shown(entry.name)}: {_DAMAGED}")
        left -= len(block)
        yield block


def _inflated(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """The inflated data in blocks; the packed data must end exactly where the deflate stream does."""
    inflater = zlib.decompressobj(_RAW_DEFLATE)
    blocks = _stored(file, entry)
    try:
        while not inflater.eof:
            data = inflater.unconsumed_tail or next(blocks, b"")
            block = inflater.decompress(data, BLOCK)
            if not (data or block):
                raise ArchiveError(f"the archive's entry {shown(entry.name)} ends early: {_DAMAGED}")
            yield block
    except zlib.error:
        raise ArchiveError(f"the archive's entry {shown(entry.name)} cannot be inflated: {_DAMAGED}") from None
    if inflater.unused_data or next(blocks, b""):
        raise ArchiveError(f"the archive's entry {shown(entry.name)} goes on after its end: {_DAMAGED}")


def _move(names: list[str], staging: Path, into: Path) -> None:
    """Move the files into place, all or none; no existing file is replaced."""
    for name in names:
        if os.path.lexists(into / name):
            raise FileExistsError(f"{into / name} is there already")
    moved: list[Path] = []
    try:
        for name in names:
            (staging / name).rename(into / name)
            moved.append(into / name)
    except BaseException:
        for place in moved:
            place.unlink(missing_ok=True)
        raise
