"""Archives that were tampered with are refused: nothing leaves its folder, and memory is that of a block."""

from __future__ import annotations

import stat
import struct
import tracemalloc
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folding.archive import writer as zip_writer
from folding.archive.reader import ARCHIVE_LIMITS, read_archive
from folding.archive.rules import ArchiveError, ArchiveLimits
from folding.archive.writer import write_archive
from folding.errors import ModelError
from tests.support.archives import ALONE, DATA, MIB, MODEL, examples, good, info, referring, unpacked, zipped

PEAK = 6 * MIB  # blocks of one, read, inflated and written, and what the model takes


@examples
@given(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]), st.data())
def test_a_damaged_archive_is_refused_or_means_the_same(method, data):
    held = bytearray(good(method))
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.integers(0, len(held) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert", "repeat"])):
            case "change":
                held[where] = data.draw(st.integers(0, 255))
            case "cut":
                del held[where : where + data.draw(st.integers(1, 40))]
            case "insert":
                held[where:where] = data.draw(st.binary(min_size=1, max_size=40))
            case "repeat":
                held[where:where] = held[where : where + data.draw(st.integers(1, 200))]
        if not held:
            break
    with TemporaryDirectory() as folder:
        try:
            found = unpacked(bytes(held), Path(folder))
        except (ArchiveError, ModelError):
            return
        assert sorted(found.values()) == sorted([MODEL, DATA])


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_truncation_is_refused(tmp_path, method):
    whole = good(method)
    for end in range(0, len(whole), 7):
        with pytest.raises(ArchiveError):
            unpacked(whole[:end], tmp_path)


def directory(data: bytes) -> int:
    return int(struct.unpack_from("<L", data, len(data) - 6)[0])


def changed(data: bytes, offset: int, form: str, *to: Any) -> bytes:
    made = bytearray(data)
    struct.pack_into(form, made, offset, *to)
    return bytes(made)


def in_both(local: int, central: int, form: str, to: int, data: bytes = good()) -> bytes:
    """A field of the first entry changed where it stands: before the data and in the directory."""
    return changed(changed(data, local, form, to), directory(data) + central, form, to)


def overlapping() -> bytes:
    """Two entries of the directory that mean the same bytes: how 42.zip's successors grow without nesting."""
    first = zipped(("model.onnx", ALONE))
    start = directory(first)
    entry = first[start : start + 46 + len("model.onnx")]
    other = entry.replace(b"model.onnx", b"other.data")
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, 2 * len(entry), start, 0)
    return first[:start] + entry + other + end


def shifted(data: bytes) -> bytes:
    """Bytes before the first file with all positions corrected, as `zip -A` does for a self-extracting archive."""
    before, start = b"#!/bin/sh\n", directory(data)
    second = start + 46 + len("model.onnx")
    for place in (start + 42, second + 42, len(data) - 6):
        data = changed(data, place, "<L", struct.unpack_from("<L", data, place)[0] + len(before))
    return before + data


def with_gap() -> bytes:
    """Bytes between the last file and the directory, as a second payload would hide."""
    whole = good()
    start = directory(whole)
    return changed(whole[:start] + b"hidden" + whole[start:], len(whole), "<L", start + len("hidden"))


def deflated(stream: bytes, *, extra: bytes = b"", disk: int = 0, size: int = len(ALONE)) -> bytes:
    """An archive of the model alone; its headers say what the arguments say."""
    name = b"model.onnx"
    sizes = zlib.crc32(ALONE), len(stream), size, len(name)
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 33, *sizes, 0) + name
    central = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 33, *sizes, len(extra), 0, disk, 0, 0, 0)
    central += name + extra
    start = len(local) + len(stream)
    return local + stream + central + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(central), start, 0)


def stream(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


STREAM = stream(ALONE)


def wide(index: int, value: int) -> bytes:
    """An archive whose last records are the wide ones, one number of them changed."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(zip_writer, "_WIDE_FROM", 1)
        path = Path(folder, "model.onnx")
        path.write_bytes(ALONE)
        write_archive(path, Path(folder, "a.zip"))
        data = Path(folder, "a.zip").read_bytes()
    record = len(data) - 22 - 20 - 56
    fields = list(struct.unpack_from("<4sQ2H2L4Q", data, record))
    fields[index] = value
    return changed(data, record, "<4sQ2H2L4Q", *fields)


SECOND = 30 + len("model.onnx") + len(MODEL)  # where the second local header is
LINK = (stat.S_IFLNK | 0o777) << 16
REFUSED = {
    "nothing": (b"", "no zip"),
    "no zip": (MODEL * 10, "no zip"),
    "no model": (zipped(("w.bin", DATA)), "exactly one"),
    "empty": (zipped(), "exactly one"),
    "two models": (zipped(("a.onnx", ALONE), ("b.ONNX", ALONE)), "exactly one"),
    "data before": (b"#!/bin/sh\n" + good(), "data before"),
    "data after": (good() + b"more", "after it"),
    "data before that is counted": (shifted(good()), "begin with a file"),
    "comment": (zipped(("model.onnx", ALONE), comment=b"hello"), "no zip"),
    "gap": (with_gap(), "belong to no file"),
    "overlap": (overlapping(), "overlaps|two ways|second name"),
    "unexpected": (zipped(("model.onnx", ALONE), ("run.sh", b"")), "nothing that the model refers to"),
    "missing": (zipped(("model.onnx", MODEL)), "not in the archive"),
    "sub-folder": (zipped(("model.onnx", referring("d/w.bin"))), "sub-folder"),
    "link": (zipped((info("model.onnx", external_attr=LINK), b"/etc/passwd")), "link"),
    "fifo": (zipped((info("model.onnx", external_attr=(stat.S_IFIFO | 0o644) << 16), ALONE)), "link"),
    "dos folder": (zipped((info("model.onnx", external_attr=0x10), ALONE)), "link"),
    "encrypted": (in_both(6, 8, "<H", 1), "encrypted"),
    "strongly encrypted": (in_both(6, 8, "<H", 1 << 6), "flags"),
    "bzip2": (zipped(("model.onnx", ALONE), method=zipfile.ZIP_BZIP2), "method 12"),
    "lzma": (zipped(("model.onnx", ALONE), method=zipfile.ZIP_LZMA), "flags|method 14"),
    "twice": (zipped(("model.onnx", MODEL), ("w.bin", DATA), ("w.bin", DATA)), "twice"),
    "case": (zipped(("model.onnx", MODEL), ("w.bin", DATA), ("W.BIN", DATA)), "case"),
    "another local name": (changed(good(), SECOND + 30, "<B", ord("v")), "second name"),
    "another local size": (changed(good(), SECOND + 18, "<L", 1), "two ways"),
    "wrong checksum": (in_both(14, 16, "<L", 1), "not what its header says"),
    "size too small": (in_both(22, 24, "<L", 5, zipped(("model.onnx", ALONE), method=8)), "not what"),
    "size too large": (in_both(22, 24, "<L", 9999, zipped(("model.onnx", ALONE), method=8)), "not what"),
    "stored with two sizes": (in_both(22, 24, "<L", 9999), "two sizes"),
    "no deflate": (in_both(8, 10, "<H", 8), "inflated"),
    "trailing data": (deflated(STREAM + b"more"), "goes on"),
    "trailing block": (deflated(STREAM + bytes(MIB)), "goes on"),
    "half a stream": (deflated(STREAM[:-9]), "ends early"),
    "a bomb that says it is none": (deflated(stream(bytes(50 * MIB))), "not what its header says"),
    "damaged extra field": (deflated(STREAM, extra=b"\1\0\xff\0"), "extra fields"),
    "half an extra field": (deflated(STREAM, extra=b"\1\0\0"), "extra fields"),
    "an extra field twice": (deflated(STREAM, extra=b"\7\7\0\0" * 2), "extra fields"),
    "another name in Unicode": (deflated(STREAM, extra=struct.pack("<2HBL", 0x7075, 6, 1, 0) + b"x"), "second name"),
    "in another part": (deflated(STREAM, disk=1), "split"),
    "no size": (deflated(STREAM, size=0xFFFFFFFF), "no size"),
    "wide records of two opinions": (wide(1, 45), "contradict"),
    "wide records of another directory": (wide(9, 1), "no file"),
    "wide records of two counts": (wide(6, 2), "several"),
    "wide records of many files": (wide(7, 1 << 60), "several"),
    "split": (changed(good(), len(good()) - 18, "<H", 1), "parts|several"),
    "one entry too many": (changed(good(), len(good()) - 14, "<HH", 3, 3), "directory"),
    "one entry too few": (changed(good(), len(good()) - 14, "<HH", 1, 1), "directory"),
    "not UTF-8": (changed(good(), directory(good()) + 46, "<B", 0xFF), "UTF-8"),
    "flags that differ": (changed(good(), SECOND + 6, "<H", 8), "two ways"),
}


@pytest.mark.parametrize(("data", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(tmp_path, data, said):
    with pytest.raises(ArchiveError, match=said):
        unpacked(data, tmp_path)


HOSTILE_NAMES = ["../w.bin", "/w.bin", "a/b", "a\\b", "..\\w.bin", "C:w.bin", "c:\\w", "w.bin:stream", ".", "..", "con"]
HOSTILE_NAMES += ["NUL.bin", "com1", "Lpt9.txt", "COM¹", "aux .x", "w\x01", "w\x1b[31m", "w\u202egnp.exe", "w.", "w "]
HOSTILE_NAMES += ["w\n", "folder/", "a?b", "a*b", "<w>", "w|x", '"w"', "conin$", "\x7f", "w\u200b"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_no_name_leaves_the_folder_or_means_a_device(tmp_path, name):
    with pytest.raises(ArchiveError) as caught:
        unpacked(zipped(("model.onnx", referring(name)), (info(name), DATA)), tmp_path)
    assert str(caught.value).isprintable()


def test_a_name_with_a_nul_is_refused(tmp_path):
    data = good().replace(b"w.bin", b"w\0bin")
    with pytest.raises((ArchiveError, ModelError)):
        unpacked(data, tmp_path)


def test_a_corrupt_model_is_the_models_error(tmp_path):
    with pytest.raises(ModelError):
        unpacked(zipped(("model.onnx", b"not a model")), tmp_path)


LIMITS = {
    "entries": (ArchiveLimits(entries=1), good()),
    "directory_bytes": (ArchiveLimits(directory_bytes=50), good()),
    "total_bytes": (ArchiveLimits(total_bytes=100), good()),
    "name_bytes": (ArchiveLimits(name_bytes=5), good()),
    "ratio": (
        ArchiveLimits(ratio_free_bytes=100),
        zipped(("model.onnx", ALONE), ("w.bin", bytes(MIB)), method=zipfile.ZIP_DEFLATED),
    ),
}


@pytest.mark.parametrize(("name", "limits", "data"), [(name, *row) for name, row in LIMITS.items()])
def test_limits_are_held_and_named(tmp_path, name, limits, data):
    with pytest.raises(ArchiveError, match=f"limit {name} "):
        unpacked(data, tmp_path, limits)


def test_the_limits_of_the_model_are_held(tmp_path):
    strict = replace(ARCHIVE_LIMITS, model=replace(ARCHIVE_LIMITS.model, initializers=0))
    with pytest.raises(ModelError, match="initializers"):
        unpacked(good(), tmp_path, strict)


def test_a_bomb_takes_the_memory_of_a_block(tmp_path):
    size = 64 * MIB
    data = zipped(("model.onnx", referring("w.bin", nbytes=size)), ("w.bin", bytes(size)), method=zipfile.ZIP_DEFLATED)
    path, into = tmp_path / "bomb.zip", tmp_path / "into"
    path.write_bytes(data)
    into.mkdir()
    del data
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match="limit ratio"):
            read_archive(path, into)
        read_archive(path, into, replace(ARCHIVE_LIMITS, ratio=2000))
        assert tracemalloc.get_traced_memory()[1] < PEAK
    finally:
        tracemalloc.stop()
    assert (into / "w.bin").stat().st_size == size
