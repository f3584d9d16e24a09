"""Archives: what was packed comes out, what was tampered with does not, and nothing of either leaves its folder."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import subprocess
import tracemalloc
import warnings
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnxfiles import model, names, saved, values

from folding.errors import FoldingError, ModelError
from service import zip_writer
from service.archives import ARCHIVE_LIMITS, ArchiveError, ArchiveLimits, read_archive, write_archive

MIB = 1 << 20
DATA = b"weights " * 100
PEAK = 6 * MIB  # blocks of one, read, inflated and written, and what the model takes
examples = settings(
    max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def referring(*locations: str, nbytes: int = len(DATA)) -> bytes:
    """A model whose weights are in files of these names."""
    made = model()
    for index, location in enumerate(locations):
        tensor = TensorProto(
            name=f"w{index}", data_type=TensorProto.UINT8, dims=[nbytes], data_location=TensorProto.EXTERNAL
        )
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
        made.graph.initializer.append(tensor)
        made.graph.node.append(helper.make_node("Shape", [f"w{index}"], [f"s{index}"]))
    return made.SerializeToString()


MODEL, ALONE = referring("w.bin"), referring()


def info(name: str, **attributes: int) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo("placeholder")
    made.filename = name
    for attribute, value in attributes.items():
        setattr(made, attribute, value)
    return made


def zipped(
    *files: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b""
) -> bytes:
    with io.BytesIO() as buffer, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of names that are there twice
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in files:
                archive.writestr(name, data, compress_type=method)
            archive.comment = comment
        return buffer.getvalue()


def good(method: int = zipfile.ZIP_STORED) -> bytes:
    return zipped(("model.onnx", MODEL), ("w.bin", DATA), method=method)


def unpacked(data: bytes, folder: Path, limits: ArchiveLimits = ARCHIVE_LIMITS) -> dict[str, bytes]:
    """What comes out of an archive: exactly the files of the folder it went to."""
    into = folder / "into"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    path = folder / "upload.zip"
    path.write_bytes(data)
    try:
        found = read_archive(path, into, limits)
    except BaseException:
        assert names(into) == []
        raise
    finally:
        assert names(folder) == ["into", "upload.zip"]
    assert found.parent == into
    assert found.suffix == ".onnx"
    return {entry.name: entry.read_bytes() for entry in into.iterdir()}


# What was packed comes out


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_ordinary_archive_is_unpacked(tmp_path, method):
    assert unpacked(good(method), tmp_path) == {"model.onnx": MODEL, "w.bin": DATA}


def test_a_model_alone_may_be_an_archive_too(tmp_path):
    assert unpacked(zipped(("m.ONNX".lower(), ALONE)), tmp_path) == {"m.onnx": ALONE}


@pytest.mark.parametrize("wide", [False, True])
def test_what_is_written_is_read(tmp_path, monkeypatch, wide):
    if wide:  # as for sizes from 4 GiB on
        monkeypatch.setattr(zip_writer, "_WIDE_FROM", 200)
    path = saved(model(a=values(1), b=values(2)), tmp_path / "größe.onnx", external=True)
    target = tmp_path / "packed.zip"
    write_archive(path, target)
    into = tmp_path / "into"
    into.mkdir()
    assert read_archive(target, into).read_bytes() == path.read_bytes()
    assert (into / "weights.bin").read_bytes() == (tmp_path / "weights.bin").read_bytes()
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["größe.onnx", "weights.bin"]
    if shutil.which("unzip"):
        assert subprocess.run(["unzip", "-tq", target], check=False, capture_output=True).returncode == 0
    assert names(tmp_path) == ["größe.onnx", "into", "packed.zip", "weights.bin"]


def test_the_same_files_give_the_same_bytes(tmp_path):
    path = saved(model(a=values(1)), tmp_path / "model.onnx", external=True)
    write_archive(path, tmp_path / "one.zip")
    os.utime(path, (1, 1))
    write_archive(path, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_archives_that_were_streamed_are_read(tmp_path):
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, block) -> int:
            self.data += bytes(block)
            return len(block)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.onnx", MODEL)
        with archive.open("w.bin", "w", force_zip64=True) as member:
            member.write(DATA)
    assert unpacked(pipe.data, tmp_path) == {"model.onnx": MODEL, "w.bin": DATA}


@pytest.mark.skipif(shutil.which("zip") is None, reason="the zip command is another packer's opinion")
@pytest.mark.parametrize("flags", ["-jq", "-jqfz", "-jqfd", "-jq0"])
def test_archives_of_the_zip_command_are_read(tmp_path, flags):
    (tmp_path / "model.onnx").write_bytes(MODEL)
    (tmp_path / "w.bin").write_bytes(DATA)
    packed = tmp_path / "packed.zip"
    subprocess.run(["zip", flags, packed, tmp_path / "model.onnx", tmp_path / "w.bin"], check=True, capture_output=True)
    with TemporaryDirectory() as folder:
        assert unpacked(packed.read_bytes(), Path(folder)) == {"model.onnx": MODEL, "w.bin": DATA}


PLAIN = st.text("abcXYZ019_-. é", min_size=1, max_size=12).filter(lambda n: not n.endswith((".", " ")) and n.strip("."))


@examples
@given(
    st.dictionaries(PLAIN.filter(lambda n: not n.lower().endswith(".onnx")), st.binary(max_size=300), max_size=5),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    st.randoms(use_true_random=False),
)
def test_random_archives_come_out_as_they_went_in(files, method, random):
    made = model()
    for name, data in files.items():
        tensor = TensorProto(name=f"t{name}", data_type=TensorProto.UINT8, dims=[len(data)])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=name)
        made.graph.initializer.append(tensor)
    held = [("model.onnx", made.SerializeToString()), *files.items()]
    random.shuffle(held)
    with TemporaryDirectory() as folder:
        if len({name.casefold() for name in files}) < len(files):
            with pytest.raises(ArchiveError, match="case"):
                unpacked(zipped(*held, method=method), Path(folder))
        else:
            assert unpacked(zipped(*held, method=method), Path(folder)) == dict(held)


# What was tampered with does not


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


def changed(data: bytes, offset: int, form: str, *to: int) -> bytes:
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


def trailing() -> bytes:
    """A deflate stream that ends before the entry does."""
    packer = zlib.compressobj(wbits=-15)
    stream = packer.compress(ALONE) + packer.flush() + b"more"
    name = b"model.onnx"
    sizes = zlib.crc32(ALONE), len(stream), len(ALONE), len(name)
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 33, *sizes, 0) + name
    central = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 33, *sizes, 0, 0, 0, 0, 0, 0) + name
    start = len(local) + len(stream)
    return local + stream + central + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(central), start, 0)


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
    "trailing data": (trailing(), "goes on"),
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


def test_nothing_that_is_there_is_replaced(tmp_path):
    path, into = tmp_path / "a.zip", tmp_path / "into"
    path.write_bytes(good())
    into.mkdir()
    (into / "model.onnx").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        read_archive(path, into)
    assert names(into) == ["model.onnx"]
    assert (into / "model.onnx").read_bytes() == b"mine"


def test_what_cannot_be_unpacked_is_not_packed(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(DATA)
    (tmp_path / "model.onnx").write_bytes(referring("data/w.bin"))
    with pytest.raises(ArchiveError, match="sub-folder"):
        write_archive(tmp_path / "model.onnx", tmp_path / "a.zip")
    with pytest.raises(ModelError, match="No such file"):
        write_archive(tmp_path / "missing.onnx", tmp_path / "a.zip")
    (tmp_path / "con.onnx").write_bytes(ALONE)
    with pytest.raises(ArchiveError, match="device"):
        write_archive(tmp_path / "con.onnx", tmp_path / "a.zip")
    assert names(tmp_path) == ["con.onnx", "data", "model.onnx"]


def test_a_file_that_changes_while_it_is_packed_is_noticed(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(referring("w.bin"))
    (tmp_path / "w.bin").write_bytes(DATA)
    with zip_writer.packed(path) as archive:
        assert len(b"".join(archive.blocks())) == archive.nbytes
        (tmp_path / "w.bin").write_bytes(DATA.upper())
        with pytest.raises(FoldingError, match="changed while"):
            list(archive.blocks())


def test_external_data_named_with_a_dot_are_the_same_file(tmp_path):
    assert unpacked(zipped(("model.onnx", referring("./w.bin")), ("w.bin", DATA)), tmp_path)["w.bin"] == DATA
    assert onnx.load_from_string(referring("./w.bin")).graph.initializer
