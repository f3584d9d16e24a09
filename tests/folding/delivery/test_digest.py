"""The digest file: `sha256sum -c` takes it, it covers what was written, and it comes with the model or not at all."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import onnx
import pytest

import folding
from folding import FoldingError, Options
from folding.delivery.digest import hashed, written
from tests.support.fleets import save

DIGEST = Options(digest=True)


def checked(path: Path) -> list[str]:
    """The files that `sha256sum -c` finds right."""
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", path.name], cwd=path.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [line.removesuffix(": OK") for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("external", "expected"), [("", ["b.onnx"]), ("w.bin", ["b.onnx", "b.onnx.data"])])
def test_it_covers_what_was_written(tmp_path, external, expected):
    save(tmp_path / "a.onnx", external=external)
    report = folding.fold(tmp_path / "a.onnx", tmp_path / "b.onnx", DIGEST)
    assert checked(tmp_path / "b.onnx.sha256") == expected
    assert [one.name for one in report.digests] == expected
    assert [one["name"] for one in report.as_dict()["digests"]] == expected
    assert folding.Report.from_dict(report.as_dict()).digests == report.digests
    (tmp_path / expected[-1]).write_bytes(b"damaged")
    with pytest.raises(AssertionError):
        checked(tmp_path / "b.onnx.sha256")


@pytest.mark.parametrize("external", ["", "w.bin"])
@pytest.mark.parametrize("target", ["a.onnx", "b.onnx", "other/a.onnx"])
def test_it_covers_a_copy_and_the_data_that_stay_where_they_are(tmp_path, external, target):
    save(tmp_path / "a.onnx", external=external)
    (tmp_path / "other").mkdir()
    report = folding.fold(tmp_path / "a.onnx", tmp_path / target, Options(digest=True, keep=["*"]))
    place = tmp_path / target
    expected = sorted([place.name, *([external] if external else [])])
    assert checked(place.with_name(f"{place.name}.sha256")) == expected
    assert [one.name for one in report.digests] == expected
    assert (tmp_path / "a.onnx").read_bytes() == place.read_bytes()


def test_without_it_there_is_none(tmp_path):
    save(tmp_path / "a.onnx")
    assert folding.fold(tmp_path / "a.onnx", tmp_path / "b.onnx").digests == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


def test_an_older_one_is_replaced_with_the_model_or_stays_with_it(tmp_path, monkeypatch):
    save(tmp_path / "a.onnx", 1)
    save(tmp_path / "c.onnx", 2)
    folding.fold(tmp_path / "a.onnx", tmp_path / "b.onnx", DIGEST)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    rename = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if self.name == "b.onnx":
            raise OSError("no")
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(
            Path, "replace", lambda self, target: failing(self, target) if "new" in str(self) else rename(self, target)
        )
        with pytest.raises(FoldingError):
            folding.fold(tmp_path / "c.onnx", tmp_path / "b.onnx", DIGEST)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    folding.fold(tmp_path / "c.onnx", tmp_path / "b.onnx", DIGEST)
    assert (tmp_path / "b.onnx.sha256").read_bytes() != before["b.onnx.sha256"]
    assert checked(tmp_path / "b.onnx.sha256") == ["b.onnx"]


@pytest.mark.parametrize(("target", "keep"), [("b.onnx", ()), ("b.onnx", ("*",)), ("a.onnx", ("*",))])
def test_weights_of_the_source_are_not_written_over(tmp_path, target, keep):
    save(tmp_path / "a.onnx", external=f"{target}.sha256")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FoldingError, match="would be overwritten"):
        folding.fold(tmp_path / "a.onnx", tmp_path / target, Options(digest=True, keep=keep))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_names_are_escaped_as_sha256sum_does(tmp_path):
    odd = 'a \\ b\nc"ä.onnx'
    (tmp_path / odd).write_bytes(b"x")
    (tmp_path / "plain").write_bytes(b"y")
    ours = written(hashed({name: tmp_path / name for name in (odd, "plain")}))
    theirs = subprocess.run(["sha256sum", odd, "plain"], cwd=tmp_path, capture_output=True, check=True).stdout
    assert ours == theirs
    (tmp_path / "sums").write_bytes(ours)
    assert subprocess.run(["sha256sum", "-c", "sums"], cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_a_folder_for_triton_is_covered_as_a_whole_wherever_it_goes(tmp_path):
    save(tmp_path / "a.onnx", external="w.bin")
    folding.fold(tmp_path / "a.onnx", tmp_path / "r", Options(digest=True, triton="m"))
    shutil.move(tmp_path / "r" / "m", tmp_path / "elsewhere")
    assert checked(tmp_path / "elsewhere" / "SHA256SUMS") == ["1/model.onnx", "1/model.onnx.data", "config.pbtxt"]
    onnx.checker.check_model(tmp_path / "elsewhere" / "1" / "model.onnx")
