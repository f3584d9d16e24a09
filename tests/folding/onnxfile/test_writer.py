"""What was changed lands in its place: computed payloads, data files, copies."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, numpy_helper

from folding.errors import FoldingError, ModelError
from folding.onnxfile import Span, copy, from_bytes, layout, read, stream, to_bytes, write
from folding.onnxfile.layout import ALIGNMENTS
from tests.support.hostile.files import with_attribute
from tests.support.onnxfiles import COUNT, Doubled, arrays, double, entries, model, names, saved, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_computed_payloads_land_in_their_places(*, external: bool, in_place: bool, tmp_path: Path) -> None:
    path = saved(model(a=values(1), b=values(2), c=values(3, 100)), tmp_path / "model.onnx", external=external)
    target = path if in_place else tmp_path / "out.onnx"
    with read(path) as file:
        double(file, "b")
        file.model.graph.initializer[0].name = "renamed"
        file.model.graph.node[0].input[1] = "renamed"
        written = write(file, target)
        span = file.payload(file.model.graph.initializer[0])
        assert isinstance(span, Span)
        assert span.read() == values(1).tobytes()
    found = arrays(target)
    np.testing.assert_array_equal(found["renamed"], values(1))
    np.testing.assert_array_equal(found["b"], 2 * values(2))
    np.testing.assert_array_equal(found["c"], values(3, 100))
    data = target.with_name(target.name + ".data")
    assert data.exists() == external
    assert written == target.stat().st_size + (data.stat().st_size if external else 0)
    onnx.checker.check_model(target)


def test_a_removed_weight_is_not_written(tmp_path: Path) -> None:
    with read(saved(model(a=values(1), b=values(2)), tmp_path / "model.onnx")) as file:
        file.model.graph.node[1].input[1] = "a"
        del file.model.graph.initializer[1]
        assert write(file, tmp_path / "out.onnx") < file.nbytes - 4 * COUNT
    assert list(arrays(tmp_path / "out.onnx")) == ["a"]


def test_a_model_in_memory_is_written_to_a_file(tmp_path: Path) -> None:
    file = from_bytes(model(a=values(1)).SerializeToString())
    double(file, "a")
    write(file, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == to_bytes(file)
    np.testing.assert_array_equal(arrays(tmp_path / "out.onnx")["a"], 2 * values(1))


def test_a_marker_at_an_impossible_place(tmp_path: Path) -> None:
    file = from_bytes(model(a=values(1)).SerializeToString())
    file.model.graph.initializer[0].string_data.append(file.model.graph.initializer[0].raw_data)
    with pytest.raises(ValueError, match="where no payload can be"):
        write(file, tmp_path / "out.onnx")
    assert names(tmp_path) == []


def test_two_markers_in_one_attribute(tmp_path: Path) -> None:
    file = from_bytes(with_attribute(type=AttributeProto.STRING, s=b"s" * 9_999).SerializeToString())
    attribute = file.model.graph.node[0].attribute[0]
    attribute.t.raw_data = file.attach(Doubled(values(1)))
    with pytest.raises(ValueError, match="another one in what it contains"):
        write(file, tmp_path / "out.onnx")
    assert names(tmp_path) == []


class Wrong(Doubled):
    def blocks(self) -> Iterator[tuple[int, int]]:
        yield 0, 4096


class Short(Doubled):
    def evaluate(self, start: int, stop: int) -> memoryview:
        return super().evaluate(start, stop - 4)


@pytest.mark.parametrize(("kind", "says"), [(Wrong, "end at 4096"), (Short, "gave 4092 bytes")])
def test_payloads_that_break_their_word(kind: type[Doubled], says: str, tmp_path: Path) -> None:
    file = from_bytes(model(a=values(1)).SerializeToString())
    file.model.graph.initializer[0].raw_data = file.attach(kind(values(1)))
    with pytest.raises(ValueError, match=says):
        write(file, tmp_path / "out.onnx")
    assert names(tmp_path) == []


def no_kernel_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "copy_file_range", raising=False)


def kernel_copy_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> int:
        raise OSError(errno.EXDEV, "cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)


def no_positional_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("copy_file_range", "posix_fallocate", "preadv", "pwrite"):
        monkeypatch.delattr(os, name, raising=False)


def nothing_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)


@pytest.mark.parametrize("platform", [no_kernel_copy, kernel_copy_fails, no_positional_calls, nothing_allocated])
def test_other_platforms(
    platform: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(model(a=values(1, 10**6), b=values(2)), tmp_path / "model.onnx")
    monkeypatch.setattr(stream, "PIECE", 10**5)
    platform(monkeypatch)
    with read(path) as file:
        double(file, "b")
        write(file, tmp_path / "out.onnx")
    np.testing.assert_array_equal(arrays(tmp_path / "out.onnx")["a"], values(1, 10**6))
    np.testing.assert_array_equal(arrays(tmp_path / "out.onnx")["b"], 2 * values(2))


def test_progress_ends_at_the_total_and_stays_in_this_thread(tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    with read(saved(model(a=values(1)), tmp_path / "model.onnx")) as file:
        write(file, tmp_path / "out.onnx", progress=lambda *done: seen.append((*done, threading.get_ident())))
    assert seen[-1] == (file.nbytes, file.nbytes, threading.get_ident())
    assert {ident for *_, ident in seen} == {threading.get_ident()}


# --- one file or two --------------------------------------------------------------------------------------------


def test_external_data_are_aligned_and_shared_once(tmp_path: Path) -> None:
    big = values(1, ALIGNMENTS[0][0])
    path = saved(model(a=big, b=values(2), c=values(3)), tmp_path / "model.onnx", external=True)
    with read(path) as file:
        twin = file.model.graph.initializer.add()
        twin.CopyFrom(file.model.graph.initializer[0])
        twin.name = "twin"
        file.model.graph.node[2].input[1] = "twin"
        assert file.external_locations == ("weights.bin",)
        assert file.nbytes == path.stat().st_size + (tmp_path / "weights.bin").stat().st_size
        write(file, tmp_path / "out.onnx")
    places = entries(tmp_path / "out.onnx")
    assert {entry["location"] for entry in places.values()} == {"out.onnx.data"}
    assert places["a"] == places["twin"] == {"location": "out.onnx.data", "offset": "0", "length": str(big.nbytes)}
    for entry in places.values():
        unit = next(unit for nbytes, unit in ALIGNMENTS if int(entry["length"]) >= nbytes)
        assert int(entry["offset"]) % unit == 0
    np.testing.assert_array_equal(arrays(tmp_path / "out.onnx")["twin"], big)


def test_small_external_data_are_not_padded_to_pages(tmp_path: Path) -> None:
    made = model(a=values(1), b=values(2))
    made.graph.initializer.extend(numpy_helper.from_array(values(n, COUNT + 1), f"extra{n}") for n in range(50))
    path = saved(made, tmp_path / "model.onnx", external=True)
    with read(path) as file:
        write(file, tmp_path / "out.onnx")
    payloads = sum(int(entry["length"]) for entry in entries(tmp_path / "out.onnx").values())
    assert len(entries(tmp_path / "out.onnx")) == 52
    assert (tmp_path / "out.onnx.data").stat().st_size < payloads + 52 * 64


def test_a_model_over_the_limit_of_protobuf_becomes_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MODEL_BYTES_MAX", 3 * 4 * COUNT)
    made = model(a=values(1), b=values(2), c=values(3), d=values(4, 8))
    made.graph.initializer.append(TensorProto(name="f", data_type=1, dims=[COUNT], float_data=values(5)))
    made.graph.initializer.append(TensorProto(name="i", data_type=7, dims=[5000], int64_data=range(5000)))
    path = saved(made, tmp_path / "model.onnx")
    with read(path) as file:
        double(file, "b")
        write(file, tmp_path / "out.onnx")
        with pytest.raises(FoldingError, match="protobuf can hold"):
            to_bytes(file)
    assert set(entries(tmp_path / "out.onnx")) == {"a", "b", "c", "f"}
    found = arrays(tmp_path / "out.onnx")
    np.testing.assert_array_equal(found["b"], 2 * values(2))
    np.testing.assert_array_equal(found["f"], values(5))
    np.testing.assert_array_equal(found["i"], np.arange(5000))


def test_attributes_cannot_be_external(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MODEL_BYTES_MAX", 5000)
    path = saved(with_attribute(type=AttributeProto.STRING, s=b"s" * 9_999), tmp_path / "model.onnx")
    with read(path) as file, pytest.raises(FoldingError, match="without external data"):
        write(file, tmp_path / "out.onnx")
    assert names(tmp_path) == ["model.onnx"]


def test_many_data_files(tmp_path: Path) -> None:
    made = model(**{f"w{index}": values(index) for index in range(100)})
    path = tmp_path / "model.onnx"
    onnx.save(made, path, save_as_external_data=True, all_tensors_to_one_file=False)
    with read(path) as file:
        assert len(file.external_locations) == 100
        write(file, tmp_path / "out.onnx")
        (tmp_path / file.external_locations[-1]).write_bytes(values(0).tobytes())
        with pytest.raises(ModelError, match="was changed"):
            write(file, tmp_path / "other.onnx")
    np.testing.assert_array_equal(arrays(tmp_path / "out.onnx")["w99"], values(99))


# --- copies -----------------------------------------------------------------------------------------------------


def test_a_copy_in_the_same_folder_keeps_the_data_file(tmp_path: Path) -> None:
    path = saved(model(a=values(1)), tmp_path / "model.onnx", external=True)
    with read(path) as file:
        assert copy(file, tmp_path / "out.onnx") == copy(file, path) == file.nbytes
    assert names(tmp_path) == ["model.onnx", "out.onnx", "weights.bin"]
    assert (tmp_path / "out.onnx").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("in_the_way", "expected"),
    [
        (None, ["out.onnx", "weights.bin"]),
        (values(1).tobytes(), ["out.onnx", "weights.bin"]),
        (b"foreign", ["out.onnx", "out.onnx.data", "weights.bin"]),
        (bytes(4 * COUNT), ["out.onnx", "out.onnx.data", "weights.bin"]),
    ],
)
def test_a_copy_in_another_folder(in_the_way: bytes | None, expected: list[str], tmp_path: Path) -> None:
    path = saved(model(a=values(1)), tmp_path / "model.onnx", external=True)
    folder = tmp_path / "folder"
    folder.mkdir()
    if in_the_way is not None:
        (folder / "weights.bin").write_bytes(in_the_way)
    with read(path) as file:
        written = copy(file, folder / "out.onnx")
    assert names(folder) == expected
    np.testing.assert_array_equal(arrays(folder / "out.onnx")["a"], values(1))
    if "out.onnx.data" in expected:
        assert (folder / "weights.bin").read_bytes() == in_the_way
    else:
        assert (folder / "out.onnx").read_bytes() == path.read_bytes()
        assert written == file.nbytes


def test_data_in_a_sub_folder_are_written_anew(tmp_path: Path) -> None:
    (tmp_path / "source" / "data").mkdir(parents=True)
    path = tmp_path / "source" / "model.onnx"
    onnx.save(model(a=values(1)), path, save_as_external_data=True, location="data/w.bin", size_threshold=0)
    with read(path) as file:
        copy(file, tmp_path / "out.onnx")
    assert names(tmp_path) == ["out.onnx", "out.onnx.data", "source"]
    np.testing.assert_array_equal(arrays(tmp_path / "out.onnx")["a"], values(1))
