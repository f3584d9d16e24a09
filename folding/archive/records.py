"""The records of a zip file (PKWARE APPNOTE 6.3.10), little endian, and the numbers in them that matter."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

STORED, DEFLATED = 0, 8  # 4.4.5, compression methods
ENCRYPTED, DESCRIBED, UTF8 = 1 << 0, 1 << 3, 1 << 11  # 4.4.4, general purpose flags
DEFLATE_EFFORT = 1 << 1 | 1 << 2  # the packer's compression effort
WIDE = 0xFFFFFFFF  # placeholder for a number in the zip64 record or field
WIDE_COUNT = 0xFFFF
ZIP64_FIELD, UNICODE_PATH_FIELD = 0x0001, 0x7075  # 4.5.3 and 4.6.9, extra fields
UNIX = 3  # 4.4.2, the system that made an entry; its attributes are a file mode << 16
PLAIN_VERSION, ZIP64_VERSION = 20, 45  # 4.4.3, the version needed to unpack

LOCAL = Struct("<4s5H3L2H")
LOCAL_MARK = b"PK\x03\x04"
CENTRAL = Struct("<4s6H3L5H2L")
CENTRAL_MARK = b"PK\x01\x02"
END = Struct("<4s4H2LH")
END_MARK = b"PK\x05\x06"
END64 = Struct("<4sQ2H2L4Q")
END64_MARK = b"PK\x06\x06"
END64_REST = END64.size - 12  # the record's size field counts the bytes after it
LOCATOR = Struct("<4sLQL")
LOCATOR_MARK = b"PK\x06\x07"
FIELD = Struct("<2H")  # the head of an extra field: its kind, its size
DESCRIPTOR_MARK = b"PK\x07\x08"
DESCRIPTOR, DESCRIPTOR64 = Struct("<3L"), Struct("<L2Q")


class Local(NamedTuple):
    """4.3.7, before the data of each file."""

    mark: bytes
    needed: int
    flags: int
    method: int
    time: int
    date: int
    crc: int
    packed: int
    size: int
    name_bytes: int
    extra_bytes: int


class Central(NamedTuple):
    """4.3.12, the same facts in the directory."""

    mark: bytes
    made: int
    needed: int
    flags: int
    method: int
    time: int
    date: int
    crc: int
    packed: int
    size: int
    name_bytes: int
    extra_bytes: int
    comment_bytes: int
    disk: int
    internal: int
    external: int
    offset: int


class End(NamedTuple):
    """4.3.16, the last record of a file."""

    mark: bytes
    disk: int
    directory_disk: int
    entries_here: int
    entries: int
    directory_bytes: int
    directory: int
    comment_bytes: int


class End64(NamedTuple):
    """4.3.14, the last record with wide numbers."""

    mark: bytes
    rest: int
    made: int
    needed: int
    disk: int
    directory_disk: int
    entries_here: int
    entries: int
    directory_bytes: int
    directory: int


class Locator(NamedTuple):
    """4.3.15, where the record with wide numbers is."""

    mark: bytes
    disk: int
    offset: int
    disks: int
