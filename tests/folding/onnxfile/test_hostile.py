"""Every hostile file is refused with one clear sentence, quickly, and nothing is written."""

from __future__ import annotations

import os
import random
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from google.protobuf.message import DecodeError
from onnx import ModelProto

from folding.errors import LimitError, ModelError
from folding.onnxfile import Limits, OnnxFile, from_bytes, read, to_bytes, write
from folding.onnxfile.skeleton import INLINE_BYTES
from tests.support.hostile import files as hostile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NBYTES = 16  # of the external tensor in these tests: four floats
SEED = 20260101


@pytest.mark.parametrize("name", hostile.HOSTILE)
def test_is_refused(name: str, tmp_path: Path) -> None:
    build, says, *limits = hostile.HOSTILE[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(build())
    (tmp_path / "w.bin").write_bytes(bytes(NBYTES))
    with pytest.raises(ModelError) as caught:
        read(path, *limits)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, LimitError) == ("limit " in says)


def test_every_limit_has_a_row() -> None:
    said = " ".join(row[1] for row in hostile.HOSTILE.values())
    elsewhere = {"allow_links", "external_files"}  # below
    assert {field.name for field in fields(Limits) if field.name not in said} == elsewhere


def test_limits_can_be_raised() -> None:
    data = hostile.laughs(6)
    assert len(from_bytes(data, Limits(expanded_nodes=64)).model.functions) == 7


@pytest.mark.parametrize(
    "path", ["missing.onnx", ".", "model\0.onnx", "a" * 300], ids=["missing", "folder", "nul", "long"]
)
def test_unreadable_paths(path: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be opened"):
        read(tmp_path / path)


def accepted(data: bytes) -> OnnxFile | None:
    """The model, None where it is refused; no other outcome."""
    try:
        return from_bytes(data)
    except ModelError:
        return None


def parsed(data: bytes) -> ModelProto | None:
    try:
        return ModelProto.FromString(data)
    except DecodeError:
        return None


def test_every_prefix_means_what_protobuf_says() -> None:
    data = hostile.small().SerializeToString()
    large = range(100, len(data) - 100, 997)  # within the large weight, one is like the other
    for end in [*range(100), *large, *range(len(data) - 100, len(data))]:
        file = accepted(data[:end])
        assert file is None or ModelProto.FromString(to_bytes(file)) == parsed(data[:end])
    assert accepted(data) is not None


def test_bit_flips_are_refused_or_mean_what_protobuf_says() -> None:
    source = hostile.small().SerializeToString()
    at_header = [*range(200), *range(len(source) - 100, len(source))]
    numbers = random.Random(SEED)
    outcomes = set()
    for _ in range(2_000):
        data = bytearray(source)
        data[numbers.choice(at_header)] ^= 1 << numbers.randrange(8)
        file = accepted(bytes(data))
        outcomes.add(file is None)
        assert file is None or ModelProto.FromString(to_bytes(file)) == parsed(bytes(data))
    assert outcomes == {True, False}


# --- external data --------------------------------------------------------------------------------------------


def external_model(folder: Path, **entries: str) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(hostile.with_weight(hostile.external("q", entries)))
    return path


def weights(folder: Path, name: str = "w.bin") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(NBYTES))
    return path


UNSAFE_LOCATIONS = {
    "../w.bin": "leaves the folder",
    "a/../../w.bin": "leaves the folder",
    "a/..": "leaves the folder",
    "/etc/passwd": "is an absolute path",
    "C:\\w.bin": "is an absolute path",
    "c:w.bin": "is an absolute path",
    "..\\w.bin": "no portable file name",
    "w.bin\0": "no portable file name",
    ".": "names no file",
    "model.onnx": "is the model itself",
    "missing.bin": '"missing.bin" is missing; put it beside the model',
    "w.bin/x": "is missing",
    "a" * 300: "cannot be looked up",
    "folder": "is not a regular file",
}


@pytest.mark.parametrize("location", UNSAFE_LOCATIONS)
def test_unsafe_location(location: str, tmp_path: Path) -> None:
    weights(tmp_path)
    weights(tmp_path, "folder/w.bin")
    path = external_model(tmp_path, location=location)
    with pytest.raises(ModelError, match=r"^q: external data") as caught:
        read(path)
    assert UNSAFE_LOCATIONS[location] in str(caught.value)


WRONG_RANGES = [
    ({"offset": "1"}, "take 16 bytes, but"),
    ({"offset": "17"}, "are not in"),
    ({"offset": "8", "length": "16"}, "are not in"),
    ({"length": "17"}, "are not in"),
    ({"length": "8"}, "take 16 bytes, but"),
    ({"offset": str(2**63), "length": "16"}, "are not in"),
    ({"offset": "9" * 30}, "is not a number of bytes"),
    ({"offset": "-1"}, "is not a number of bytes"),
    ({"length": "0x10"}, "is not a number of bytes"),
    ({"length": "\u0661"}, "is not a number of bytes"),
    ({"offset": ""}, "is not a number of bytes"),
]


@pytest.mark.parametrize(("entries", "says"), WRONG_RANGES)
def test_wrong_range(entries: dict[str, str], says: str, tmp_path: Path) -> None:
    weights(tmp_path)
    with pytest.raises(ModelError, match=says):
        read(external_model(tmp_path, location="w.bin", **entries))


def link_to_file(folder: Path) -> None:
    (folder / "w.bin").symlink_to(weights(folder, "other.bin"))


def link_to_folder(folder: Path) -> None:
    weights(folder, "real/w.bin")
    (folder / "part").symlink_to(folder / "real")


def hard_link(folder: Path) -> None:
    (folder / "w.bin").hardlink_to(weights(folder, "other.bin"))


LINKS = [
    (link_to_file, "w.bin", "is a symbolic link"),
    (link_to_folder, "part/w.bin", "is a symbolic link"),
    (hard_link, "w.bin", "is a hard link"),
]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
@pytest.mark.parametrize(("arrange", "location", "says"), LINKS)
def test_links_must_be_allowed(arrange: Callable[[Path], None], location: str, says: str, tmp_path: Path) -> None:
    arrange(tmp_path)
    path = external_model(tmp_path, location=location)
    with pytest.raises(ModelError, match=says):
        read(path)
    with read(path, Limits(allow_links=True)) as file:
        assert file.external_locations == (location,)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
@pytest.mark.parametrize("name", ["model.onnx", "w.bin"])
def test_pipes_do_not_block(name: str, tmp_path: Path) -> None:
    path = external_model(tmp_path, location="w.bin")
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(ModelError, match="not a regular file"):
        read(path, Limits(allow_links=True))


def test_aliases_count_each_time(tmp_path: Path) -> None:
    weights(tmp_path)
    aliases = [hostile.external(f"q{index}", {"location": "w.bin"}) for index in range(100)]
    path = tmp_path / "model.onnx"
    path.write_bytes(hostile.with_weight(*aliases))
    own = 4 * (2 + hostile.LARGE)
    read(path, Limits(tensor_bytes=own + 100 * NBYTES)).close()
    with pytest.raises(LimitError, match="tensor_bytes"):
        read(path, Limits(tensor_bytes=own + 100 * NBYTES - 1))


def test_number_of_files_is_limited(tmp_path: Path) -> None:
    names = [weights(tmp_path, f"w{index}.bin").name for index in range(3)]
    path = tmp_path / "model.onnx"
    path.write_bytes(hostile.with_weight(*(hostile.external(name, {"location": name}) for name in names)))
    with pytest.raises(LimitError, match=r"external_files \(3 > 2\)"):
        read(path, Limits(external_files=2))


def test_external_data_of_a_model_in_memory() -> None:
    with pytest.raises(ModelError, match="give the path of the model instead"):
        from_bytes(hostile.with_weight(hostile.external("q", {"location": "w.bin"})))


def test_a_source_that_got_shorter(tmp_path: Path) -> None:
    path, target = tmp_path / "model.onnx", tmp_path / "out.onnx"
    path.write_bytes(hostile.small().SerializeToString())
    with read(path) as file:
        os.truncate(path, INLINE_BYTES)
        with pytest.raises(ModelError, match="became shorter"):
            write(file, target)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_a_closed_source() -> None:
    file = from_bytes(hostile.small().SerializeToString())
    file.close()
    assert to_bytes(file)  # memory needs no closing
