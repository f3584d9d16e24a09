"""A model and its external data as one zip: unpacked from uploads nobody vouches for, packed for answers.

Nothing of an upload is believed that was not checked. The directory must account for every byte of the file
(`zip_directory`), the names are plain and few, the model is unpacked first and says which others it refers to, and
every file may grow to the size it declared and no further. Memory is a block, whatever the archive.
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
BLOCK = 1 << 20  # bytes that are inflated at once
_RAW_DEFLATE = -zlib.MAX_WBITS  # a zip has no header of zlib's around the data
_OWNER_ONLY = 0o700
_DAMAGED = "it is damaged; pack it again"


def read_archive(path: Path, into: Path, limits: ArchiveLimits = ARCHIVE_LIMITS) -> Path:
    """Unpack an uploaded zip into the folder `into`; the path there of its one .onnx file.

    The files appear in `into` when all of them are complete, the model last, or not at all. The model is parsed to
    learn which data it refers to, so call this where a fold may run: in a process with limits.

    Raises:
        ArchiveError: it is no archive of one model and the data it refers to, or exceeds `limits`.
        ModelError: the model in it is corrupt or unsafe.
        OSError: the archive cannot be read, or `into` not be written, or holds a file of the same name already.
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
    """Check that the archive holds the data that the model refers to, all of it and nothing else."""
    held = {entry.name for entry in data}
    for location in referred:
        if location not in held:
            what = "in a sub-folder, which an archive cannot hold" if "/" in location else "which is not in the archive"
            raise ArchiveError(f"the model refers to the external data {shown(location)}, {what}")
    for name in held - set(referred):
        raise ArchiveError(f"the archive's entry {shown(name)} is nothing that the model refers to; leave it out")


def _unpack(file: BinaryIO, entry: Entry, folder: Path) -> None:
    """Write one file, which must turn out to be what the directory says."""
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
    """Give the files their places, all or none; nothing that is there is replaced."""
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
