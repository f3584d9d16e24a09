"""Pack a model and its data as a zip. The layout comes first: the size is known, and it can be streamed repeatedly."""

from __future__ import annotations

import os
import secrets
import stat
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from folding import onnxfile
from folding.archive.records import (
    CENTRAL,
    CENTRAL_MARK,
    END,
    END64,
    END64_MARK,
    END64_REST,
    END_MARK,
    FIELD,
    LOCAL,
    LOCAL_MARK,
    LOCATOR,
    LOCATOR_MARK,
    PLAIN_VERSION,
    STORED,
    UNIX,
    UTF8,
    WIDE,
    WIDE_COUNT,
    ZIP64_FIELD,
    ZIP64_VERSION,
)
from folding.archive.rules import MODEL_SUFFIX, NAME_BYTES, ArchiveError, require_plain, same_file, shown
from folding.errors import ModelError
from folding.onnxfile import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK = 1 << 20
MIDNIGHT, FIRST_OF_1980 = 0, 1 << 5 | 1  # the earliest time in MS-DOS format, used for every file
_MODE = (stat.S_IFREG | 0o644) << 16
_WIDE_FROM = WIDE  # from this size or offset on, numbers go to a zip64 field


@dataclass(frozen=True)
class Member:
    """One file of the zip: its bytes, their checksum and their offset in the zip."""

    name: str
    source: FileSource
    crc: int
    offset: int

    @property
    def raw_name(self) -> bytes:
        """The name as bytes, as the zip stores it."""
        return self.name.encode()

    @property
    def is_wide(self) -> bool:
        """Whether its size or offset does not fit 32 bits."""
        return max(self.source.size, self.offset) >= _WIDE_FROM

    @property
    def head(self) -> bytes:
        """The local header before the file's bytes."""
        size = WIDE if self.is_wide else self.source.size
        extra = self._wide(self.source.size, self.source.size)
        mark = LOCAL_MARK, self._version, self._flags, STORED, MIDNIGHT, FIRST_OF_1980
        return LOCAL.pack(*mark, self.crc, size, size, len(self.raw_name), len(extra)) + self.raw_name + extra

    @property
    def listing(self) -> bytes:
        """The file's entry in the directory."""
        size, offset = (WIDE, WIDE) if self.is_wide else (self.source.size, self.offset)
        extra = self._wide(self.source.size, self.source.size, self.offset)
        mark = CENTRAL_MARK, UNIX << 8 | self._version, self._version, self._flags, STORED, MIDNIGHT, FIRST_OF_1980
        lengths = len(self.raw_name), len(extra), 0
        record = CENTRAL.pack(*mark, self.crc, size, size, *lengths, 0, 0, _MODE, offset)
        return record + self.raw_name + extra

    @property
    def _version(self) -> int:
        return ZIP64_VERSION if self.is_wide else PLAIN_VERSION

    @property
    def _flags(self) -> int:
        return 0 if self.name.isascii() else UTF8

    def _wide(self, *values: int) -> bytes:
        if not self.is_wide:
            return b""
        return FIELD.pack(ZIP64_FIELD, 8 * len(values)) + b"".join(value.to_bytes(8, "little") for value in values)


class PackedModel:
    """A zip that is not written yet: `nbytes` is its size, and its bytes can be read any number of times."""

    def __init__(self, sources: dict[str, FileSource]) -> None:
        members, offset = [], 0
        for name, source in sources.items():
            member = Member(name, source, _checksum(source), offset)
            members.append(member)
            offset += len(member.head) + source.size
        self._members = tuple(members)
        self._end = _directory(self._members, offset)
        self.nbytes = offset + len(self._end)

    def blocks(self) -> Iterator[bytes]:
        """The bytes of the zip, one block at a time.

        Raises:
            ModelError: a file changed after the layout was computed.
        """
        for member in self._members:
            yield member.head
            checksum = 0
            for block in _blocks(member.source):
                checksum = zlib.crc32(block, checksum)
                yield block
            if checksum != member.crc:
                raise ModelError(f"{member.source.path.name} was changed while it was packed; start again")
        yield self._end


def write_archive(model: Path, target: Path) -> None:
    """Pack a model and its external data into the zip `target`, uncompressed; the same files give the same bytes.

    `target` appears complete or not at all. The memory used is one block.

    Raises:
        ArchiveError: a file has a name that an archive cannot hold, or lies in a sub-folder.
        ModelError: the model is missing, corrupt or unsafe, or changes while it is packed.
        OSError: `target` cannot be written.
    """
    with packed(model) as archive:
        _write(archive, target)


def write_folder(folder: Path, target: Path) -> None:
    """Pack all files of a folder and its folders into the zip `target`, as `write_archive` packs a model.

    Raises:
        ModelError: a file changes while it is packed.
        OSError: a file cannot be read, or `target` cannot be written.
    """
    with ExitStack() as stack:
        sources = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            source = FileSource(path, follow_links=False)
            stack.callback(source.close)
            sources[path.relative_to(folder).as_posix()] = source
        _write(PackedModel(sources), target)


def _write(archive: PackedModel, target: Path) -> None:
    part = target.with_name(f".{secrets.token_hex(NAME_BYTES)}.part")
    try:
        with part.open("xb") as file:
            for block in archive.blocks():
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def packed(model: Path) -> Iterator[PackedModel]:
    """A model and its external data as a zip that can be read while the context is open.

    Raises:
        ArchiveError: a file has a name that an archive cannot hold, or lies in a sub-folder.
        ModelError: the model is missing, corrupt or unsafe, or changes while the context is open.
    """
    with onnxfile.read(model) as file:
        assert isinstance(file.source, FileSource)  # noqa: S101  the model was read from a path
        sources = {_model_name(model.name): file.source}
        for location, source in file.external_sources.items():
            name = "/".join(PurePosixPath(location).parts)
            if "/" in name:
                raise ArchiveError(
                    f"the external data {shown(name)} lie in a sub-folder, which an archive cannot hold; "
                    "save the model with its data beside it"
                )
            sources[name] = source
        _require_packable(sources)
        yield PackedModel(sources)


def _model_name(name: str) -> str:
    return name if name.lower().endswith(MODEL_SUFFIX) else f"{name}{MODEL_SUFFIX}"


def _require_packable(sources: dict[str, FileSource]) -> None:
    for name in sources:
        require_plain(name)
    if len({same_file(name) for name in sources}) < len(sources):
        raise ArchiveError("two files of the model have the same name but for the case of letters; rename one")


def _blocks(source: FileSource) -> Iterator[bytes]:
    for start in range(0, source.size, BLOCK):
        block = bytearray(min(BLOCK, source.size - start))
        source.read_into(memoryview(block), start)
        yield bytes(block)


def _checksum(source: FileSource) -> int:
    checksum = 0
    for block in _blocks(source):
        checksum = zlib.crc32(block, checksum)
    return checksum


def _directory(members: tuple[Member, ...], offset: int) -> bytes:
    """The directory, which begins at `offset`, and the final records of the zip."""
    listing = b"".join(member.listing for member in members)
    count, size = len(members), len(listing)
    end = END_MARK, 0, 0, count, count, size, offset, 0
    if count < WIDE_COUNT and offset < _WIDE_FROM:
        return listing + END.pack(*end)
    versions = UNIX << 8 | ZIP64_VERSION, ZIP64_VERSION
    wide = END64.pack(END64_MARK, END64_REST, *versions, 0, 0, count, count, size, offset)
    locator = LOCATOR.pack(LOCATOR_MARK, 0, offset + size, 1)
    return listing + wide + locator + END.pack(END_MARK, 0, 0, WIDE_COUNT, WIDE_COUNT, WIDE, WIDE, 0)
