"""Archives: what was packed comes out, by whomever it was packed, and nothing is in anybody's way."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from folding.archive import writer as zip_writer
from folding.archive.reader import read_archive
from folding.archive.rules import ArchiveError
from folding.archive.writer import write_archive
from folding.errors import FoldingError, ModelError
from tests.support.archives import ALONE, DATA, MODEL, examples, good, referring, unpacked, zipped
from tests.support.onnxfiles import model, names, saved, values


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


@pytest.mark.skipif(
    shutil.which("zip") is None,
    reason="this test needs zip, and it is not installed: `make packages` says how to get it",
)
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


def test_files_take_their_places_together_or_not_at_all(tmp_path, monkeypatch):
    def rename(self: Path, target: Path) -> Path:
        if self.suffix == ".onnx":
            raise OSError(28, "No space left on device")
        return move(self, target)

    move = Path.rename
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="No space"):
        unpacked(good(), tmp_path)
