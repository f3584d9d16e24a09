"""All or nothing: a failure leaves the target as it was, and no trace of the attempt."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from folding.errors import FoldingError
from folding.onnxfile import read, write
from tests.support.onnxfiles import arrays, double, model, names, saved, values

if TYPE_CHECKING:
    from collections.abc import Callable


class BoomError(Exception):
    pass


def boom(*args: object) -> None:
    raise BoomError


def existing_pair(folder: Path) -> tuple[Path, dict[str, bytes]]:
    """A target that is a model with a data file; and both as they are."""
    target = saved(model(a=values(9)), folder / "model.onnx", external=True)
    with read(target) as file:
        write(file, target)
    (folder / "weights.bin").unlink()
    return target, {name: (folder / name).read_bytes() for name in ("model.onnx", "model.onnx.data")}


@pytest.mark.parametrize("error", [BoomError("x"), KeyboardInterrupt(), FoldingError("overflow"), OSError(5, "mine")])
def test_an_error_while_computing_reaches_the_caller_as_it_is(error: BaseException, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    path = saved(model(a=values(1), b=values(2)), tmp_path / "source" / "model.onnx", external=True)
    target, before = existing_pair(tmp_path)
    with read(path) as file:
        double(file, "b", fail=error)
        with pytest.raises(type(error)) as caught:
            write(file, target)
    assert caught.value is error
    assert names(tmp_path) == ["model.onnx", "model.onnx.data", "source"]
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def interrupt(*args: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("callbacks", "error"),
    [
        ({"before_commit": boom}, BoomError),
        ({"before_commit": interrupt}, KeyboardInterrupt),
        ({"progress": boom}, BoomError),
        ({"progress": interrupt}, KeyboardInterrupt),
    ],
)
def test_callbacks_that_raise(callbacks: dict[str, Any], error: type[BaseException], tmp_path: Path) -> None:
    target, before = existing_pair(tmp_path)
    with read(target) as file:
        double(file, "a")
        with pytest.raises(error):
            write(file, target, **callbacks)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_the_staged_model_can_be_loaded(tmp_path: Path) -> None:
    target, before = existing_pair(tmp_path)
    seen = {}

    def look(staged: Path) -> None:
        seen.update(arrays(staged))
        assert staged.name == target.name
        assert (tmp_path / "model.onnx").read_bytes() == before["model.onnx"]

    with read(target) as file:
        double(file, "a")
        write(file, target, before_commit=look, durable=True)
    np.testing.assert_array_equal(seen["a"], 2 * values(9))
    np.testing.assert_array_equal(arrays(target)["a"], 2 * values(9))
    assert names(tmp_path) == ["model.onnx", "model.onnx.data"]


class Renames:
    """Counts renames and raises in place of, or right after, one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException, *, after: bool = False) -> None:
        self.at, self.error, self.after = at, error, after
        self.calls = 0
        for name in ("rename", "replace"):
            real = getattr(Path, name)
            monkeypatch.setattr(Path, name, lambda one, other, real=real: self.call(real, one, other))

    def call(self, real: Callable[[Path, Path], Path], one: Path, other: Path) -> Path:
        self.calls += 1
        if self.calls != self.at:
            return real(one, other)
        if self.after:
            real(one, other)
        raise self.error


@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("error", [OSError(5, "broken"), KeyboardInterrupt()])
def test_a_rename_that_fails_is_rolled_back(
    step: int, error: BaseException, *, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, before = existing_pair(tmp_path)
    with read(target) as file:
        double(file, "a")
        Renames(monkeypatch, step, error, after=after)
        with pytest.raises(FoldingError if isinstance(error, OSError) else KeyboardInterrupt):
            write(file, target)
    if step == 4 and after:  # the model is in its place: nothing to roll back
        assert names(tmp_path) == sorted(before)
        np.testing.assert_array_equal(arrays(target)["a"], 2 * values(9))
    else:
        assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_a_new_data_file_is_rolled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").mkdir()
    target = saved(model(a=values(9)), tmp_path / "model.onnx")
    before = target.read_bytes()
    with read(saved(model(a=values(1)), tmp_path / "source" / "model.onnx", external=True)) as file:
        Renames(monkeypatch, 2, OSError(5, "broken"))
        with pytest.raises(FoldingError, match="broken"):
            write(file, target)
    assert names(tmp_path) == ["model.onnx", "source"]
    assert target.read_bytes() == before


@pytest.mark.parametrize("name", ["model.onnx.data", "weights.bin"])
def test_weights_of_the_source_are_not_overwritten(name: str, tmp_path: Path) -> None:
    path = tmp_path / "source.onnx"
    onnx.save(model(a=values(1)), path, save_as_external_data=True, location=name, size_threshold=0)
    target = tmp_path / name.removesuffix(".data")
    with read(path) as file, pytest.raises(FoldingError, match="belongs to the source model"):
        write(file, target)
    assert names(tmp_path) == sorted([name, "source.onnx"])


def test_a_link_is_written_through(tmp_path: Path) -> None:
    path = saved(model(a=values(1)), tmp_path / "model.onnx")
    (tmp_path / "folder").mkdir()
    link = tmp_path / "folder" / "link.onnx"
    link.symlink_to(path)
    with read(path) as file:
        double(file, "a")
        write(file, link)
    assert link.is_symlink()
    np.testing.assert_array_equal(arrays(path)["a"], 2 * values(1))


@pytest.mark.skipif(os.name == "nt", reason="no such permissions there")
def test_permissions(tmp_path: Path) -> None:
    path, target, fresh = (
        saved(model(a=values(1)), tmp_path / "model.onnx"),
        tmp_path / "out.onnx",
        tmp_path / "new.onnx",
    )
    target.write_bytes(b"old")
    target.chmod(0o640)
    plain = tmp_path / "plain"
    plain.touch()
    with read(path) as file:
        write(file, target)
        write(file, fresh)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert fresh.stat().st_mode == plain.stat().st_mode


def to_folder(folder: Path) -> Path:
    return folder


def to_missing_folder(folder: Path) -> Path:
    return folder / "missing" / "out.onnx"


def to_file_as_folder(folder: Path) -> Path:
    return folder / "model.onnx" / "out.onnx"


def to_device(_folder: Path) -> Path:
    return Path(os.devnull)


def to_long_name(folder: Path) -> Path:
    return folder / ("n" * 300)


def to_strange_name(folder: Path) -> Path:
    return folder / "a\\b\n.onnx"


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (to_folder, "is a folder; give the name"),
        (to_missing_folder, "does not exist; create it first"),
        (to_file_as_folder, "is a file, not a folder; choose another name"),
        (to_device, "is not a regular file"),
        (to_long_name, "cannot be written"),
        (to_strange_name, "no name that a model can refer to"),
    ],
)
def test_impossible_targets(place: Callable[[Path], Path], says: str, tmp_path: Path) -> None:
    with read(saved(model(a=values(1)), tmp_path / "model.onnx")) as file, pytest.raises(FoldingError, match=says):
        write(file, place(tmp_path))
    assert names(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_full_disk(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full, raising=False)
    path = saved(model(a=values(1)), tmp_path / "model.onnx")
    with read(path) as file, pytest.raises(FoldingError, match=r"out\.onnx cannot be written: No space left on device"):
        write(file, tmp_path / "out.onnx")
    assert names(tmp_path) == ["model.onnx"]
