"""Read the files of a zip strictly: every byte belongs to a file or to the directory, and both agree.

A zip stores the facts of a file twice, and readers differ in which copy they use. This reader refuses any
disagreement: no bytes before, between or after the records, no overlapping entries, and no name or size in a local
header that differs from the directory. So another reader cannot see anything that this one does not.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

from folding.archive.records import (
    CENTRAL,
    CENTRAL_MARK,
    DEFLATE_EFFORT,
    DEFLATED,
    DESCRIBED,
    DESCRIPTOR,
    DESCRIPTOR64,
    DESCRIPTOR_MARK,
    ENCRYPTED,
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
    STORED,
    UNICODE_PATH_FIELD,
    UTF8,
    WIDE,
    WIDE_COUNT,
    ZIP64_FIELD,
    Central,
    End,
    End64,
    Local,
    Locator,
)
from folding.archive.rules import ArchiveError, require_plain, same_file, shown

if TYPE_CHECKING:
    from struct import Struct
    from typing import BinaryIO

    from folding.archive.rules import ArchiveLimits

_KNOWN_FLAGS = DESCRIBED | UTF8 | DEFLATE_EFFORT
_DOS_SPECIAL = 0x08 | 0x10 | 0x40 | 0x400  # a volume's label, a folder, a device, a reparse point (link)
_UNICODE_PATH_HEAD = 5  # bytes of that field before the name: a version, and the checksum of the plain name
_WIDE_NAMES = {"directory_bytes", "directory"}  # the 32-bit numbers of the last record
_DAMAGED = "pack it again"


@dataclass(frozen=True)
class Entry:
    """One file of an archive; `start` is where its packed bytes begin."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    start: int


@dataclass(frozen=True)
class _Listed:
    """An entry as the directory lists it, with the wide numbers filled in."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int


def read_directory(file: BinaryIO, limits: ArchiveLimits) -> list[Entry]:
    """Return the files in an archive, in the directory's order, after all headers were checked.

    Raises:
        ArchiveError: it is no zip, or it is damaged, ambiguous, encrypted, split or packed by an unusual method; it
            holds something else than plain files with plain names; or it exceeds `limits`.
    """
    end, records = _end(file)
    limits.hold("entries", end.entries, "the number of files in the archive")
    limits.hold("directory_bytes", end.directory_bytes, "the directory of the archive")
    if end.directory + end.directory_bytes != records:
        raise ArchiveError(f"the archive has bytes that belong to no file, or a wrong directory; {_DAMAGED}")
    listed = _listed(_read(file, end.directory, end.directory_bytes), end.entries)
    _require_distinct(listed)
    _hold_sizes(listed, limits)
    ordered = sorted(listed, key=lambda entry: entry.offset)
    ends = [entry.offset for entry in ordered] + [end.directory]
    if ends[0] != 0:
        raise ArchiveError(f"the archive does not begin with a file; it has other data before it; {_DAMAGED}")
    starts = {entry.name: _start(file, entry, stop) for entry, (_, stop) in zip(ordered, pairwise(ends), strict=True)}
    return [Entry(e.name, e.method, e.crc, e.packed, e.size, starts[e.name]) for e in listed]


def _refuse(name: str, reason: str) -> NoReturn:
    raise ArchiveError(f"the archive's entry {shown(name)} {reason}")


def _read(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    data = file.read(count)
    if len(data) != count:
        raise ArchiveError(f"the archive ends early; {_DAMAGED}")
    return data


def _record(file: BinaryIO, struct: Struct, mark: bytes, offset: int) -> tuple[Any, ...]:
    fields = struct.unpack(_read(file, offset, struct.size)) if offset >= 0 else (None,)
    if fields[0] != mark:
        raise ArchiveError(f"the archive is no zip file, or has data before it, after it or a comment; {_DAMAGED}")
    return fields


def _end(file: BinaryIO) -> tuple[End, int]:
    """The last record with the wide numbers filled in, and where the records after the directory begin."""
    position = file.seek(0, 2) - END.size
    end = End._make(_record(file, END, END_MARK, position))
    if end.comment_bytes:
        raise ArchiveError("the archive has a comment; pack it without")
    if end.directory + end.directory_bytes != position:
        locator_at, record_at = position - LOCATOR.size, position - LOCATOR.size - END64.size
        locator = Locator._make(_record(file, LOCATOR, LOCATOR_MARK, locator_at))
        wide = End64._make(_record(file, END64, END64_MARK, record_at))
        if (locator.disk, locator.offset, wide.rest) != (0, record_at, END64_REST) or locator.disks > 1:
            raise ArchiveError(f"the archive's last records contradict each other; {_DAMAGED}")
        end, position = _widened(end, wide), record_at
    if end.disk or end.directory_disk or end.entries_here != end.entries:
        raise ArchiveError("the archive is one part of several; pack it as one file")
    return end, position


def _widened(end: End, wide: End64) -> End:
    """The last record with the numbers of its wide form, which must not contradict it."""
    names = ("disk", "directory_disk", "entries_here", "entries", "directory_bytes", "directory")
    values = {name: getattr(wide, name) for name in names}
    for name, value in values.items():
        if getattr(end, name) not in {value, WIDE if name in _WIDE_NAMES else WIDE_COUNT}:
            raise ArchiveError(f"the archive's last records contradict each other; {_DAMAGED}")
    return end._replace(**values)


def _listed(directory: bytes, count: int) -> list[_Listed]:
    found, position = [], 0
    for _ in range(count):
        head = directory[position : position + CENTRAL.size]
        if len(head) < CENTRAL.size:
            raise ArchiveError(f"the archive's directory ends early; {_DAMAGED}")
        central = Central._make(CENTRAL.unpack(head))
        position += CENTRAL.size
        parts = []
        for size in (central.name_bytes, central.extra_bytes, central.comment_bytes):
            parts.append(directory[position : position + size])
            position += size
        if central.mark != CENTRAL_MARK or position > len(directory):
            raise ArchiveError(f"the archive's directory is damaged; {_DAMAGED}")
        found.append(_entry(central, parts[0], parts[1]))
    if position != len(directory):
        raise ArchiveError(f"the archive's directory has bytes that belong to no file; {_DAMAGED}")
    return found


def _entry(central: Central, raw_name: bytes, extra: bytes) -> _Listed:
    name = _name(raw_name, central.flags)
    fields = _fields(extra, name)
    _require_one_name(fields, raw_name, name)
    _require_ordinary(central, name)
    wide = [central.size, central.packed, central.offset]
    wide = _wide(wide, fields.get(ZIP64_FIELD, b""), name)
    return _Listed(name, raw_name, central.flags, central.method, central.crc, wide[1], wide[0], wide[2])


def _name(raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & UTF8 else "ascii")
    except UnicodeDecodeError:
        raise ArchiveError(f"the archive has a name that is not marked as UTF-8: {ascii(raw)[1:200]}") from None
    require_plain(name)
    return name


def _fields(extra: bytes, name: str) -> dict[int, bytes]:
    """The extra fields of an entry, by kind."""
    found: dict[int, bytes] = {}
    position = 0
    while position < len(extra):
        if position + FIELD.size > len(extra):
            _refuse(name, f"has damaged extra fields; {_DAMAGED}")
        kind, size = FIELD.unpack_from(extra, position)
        position += FIELD.size
        if position + size > len(extra) or kind in found:
            _refuse(name, f"has damaged extra fields; {_DAMAGED}")
        found[kind] = extra[position : position + size]
        position += size
    return found


def _require_one_name(fields: dict[int, bytes], raw_name: bytes, name: str) -> None:
    if UNICODE_PATH_FIELD in fields and fields[UNICODE_PATH_FIELD][_UNICODE_PATH_HEAD:] != raw_name:
        _refuse(name, f"has a second name; {_DAMAGED}")


def _require_ordinary(central: Central, name: str) -> None:
    if central.flags & ENCRYPTED:
        _refuse(name, "is encrypted; pack it without a password")
    if central.flags & ~_KNOWN_FLAGS:
        _refuse(name, "uses an unusual feature of zip files (its flags); pack it with an ordinary program")
    if central.method not in {STORED, DEFLATED}:
        _refuse(name, f"is packed by method {central.method}; pack it stored or deflated (zip -0 or zip)")
    if central.disk:
        _refuse(name, "is in another part of a split archive; pack it as one file")
    if stat.S_IFMT(central.external >> 16) not in {0, stat.S_IFREG} or central.external & _DOS_SPECIAL:
        _refuse(name, "is a link, a folder or a device; pack plain files (zip -j follows links)")


def _wide(values: list[int], field: bytes, name: str) -> list[int]:
    """The values; those too wide for 32 bits come from the zip64 field, in its order (4.5.3)."""
    actual = []
    for value in values:
        if value == WIDE:
            if len(field) < 8:
                _refuse(name, f"has no size; {_DAMAGED}")
            value, field = int.from_bytes(field[:8], "little"), field[8:]  # noqa: PLW2901  the real value
        actual.append(value)
    return actual


def _require_distinct(listed: list[_Listed]) -> None:
    seen: dict[str, str] = {}
    for entry in listed:
        key = same_file(entry.name)
        if key in seen:
            _refuse(entry.name, f"is there twice, or differs from {shown(seen[key])} in the case of letters only")
        seen[key] = entry.name


def _hold_sizes(listed: list[_Listed], limits: ArchiveLimits) -> None:
    limits.hold("total_bytes", sum(entry.size for entry in listed), "the unpacked size of the archive")
    for entry in listed:
        limits.hold("name_bytes", len(entry.raw_name), f"the name {shown(entry.name)}")
        if entry.method == STORED and entry.size != entry.packed:
            _refuse(entry.name, f"is stored, but its two sizes differ; {_DAMAGED}")
        if entry.size > limits.ratio_free_bytes and entry.size > limits.ratio * entry.packed:
            ratio = -(-entry.size // max(entry.packed, 1))
            limits.hold("ratio", ratio, f"how tightly the archive's entry {shown(entry.name)} is packed")


def _start(file: BinaryIO, entry: _Listed, stop: int) -> int:
    """Where the packed bytes of an entry begin; they and an optional descriptor must end exactly at `stop`."""
    if entry.offset + LOCAL.size > stop:
        _refuse(entry.name, f"overlaps another one; {_DAMAGED}")
    local = Local._make(LOCAL.unpack(_read(file, entry.offset, LOCAL.size)))
    begin = entry.offset + LOCAL.size
    start = begin + local.name_bytes + local.extra_bytes
    if local.mark != LOCAL_MARK or start + entry.packed > stop:
        _refuse(entry.name, f"overlaps another one, or is not where the directory says; {_DAMAGED}")
    if _read(file, begin, local.name_bytes) != entry.raw_name:
        _refuse(entry.name, f"has a second name; {_DAMAGED}")
    fields = _fields(_read(file, begin + local.name_bytes, local.extra_bytes), entry.name)
    _require_one_name(fields, entry.raw_name, entry.name)
    size, packed = _wide([local.size, local.packed], fields.get(ZIP64_FIELD, b""), entry.name)
    written, known = (local.crc, packed, size), (entry.crc, entry.packed, entry.size)
    is_described = bool(entry.flags & DESCRIBED)
    # A packer writes what it does not know yet in the descriptor and leaves zeros here: some (Info-ZIP) or all.
    agrees = all(a == b or (is_described and a == 0) for a, b in zip(written, known, strict=True))
    if not agrees or (local.flags, local.method) != (entry.flags, entry.method):
        _refuse(entry.name, f"is described in two ways; {_DAMAGED}")
    after = start + entry.packed
    if (stop != after) if not is_described else not _is_descriptor(_tail(file, after, stop, entry), known):
        _refuse(entry.name, f"is followed by bytes that belong to no file; {_DAMAGED}")
    return start


def _tail(file: BinaryIO, after: int, stop: int, entry: _Listed) -> bytes:
    if stop - after > len(DESCRIPTOR_MARK) + DESCRIPTOR64.size:
        _refuse(entry.name, f"is followed by bytes that belong to no file; {_DAMAGED}")
    return _read(file, after, stop - after)


def _is_descriptor(data: bytes, known: tuple[int, int, int]) -> bool:
    """Whether these bytes may follow packed data (4.3.9): an optional mark, the checksum, both sizes."""
    fits_32 = max(known[1:]) < WIDE
    forms = [DESCRIPTOR64.pack(*known)] + ([DESCRIPTOR.pack(*known)] if fits_32 else [])
    return data in {mark + form for mark in (b"", DESCRIPTOR_MARK) for form in forms}
