"""The same model, options and version give the same bytes: whatever the hash seed, the threads and the place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import onnx
import pytest

from tests.support import ROOT
from tests.support.fleets import save
from tests.support.models import Model
from tests.support.rows.row import out, start

if TYPE_CHECKING:
    from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def wide(path: Path) -> None:
    """Many names, several moves, branches, a weight above the size of a block."""
    m = Model(dtype="float32", seed=5)
    x = m.bn(m.conv(start(m, 1, 8, 9, 9), 64), name="first")
    left, right = m.bn(m.conv(x, 64, 1), name="left"), m.bn(x, name="right")
    x = m.op("Relu", m.op("Add", left, right))
    parts = [m.bn(m.conv(x, 16, 1), name=f"part{number}") for number in range(6)]
    x = m.op("Concat", *parts, axis=1)
    out(m, m.per_channel("Mul", m.bn(m.conv(m.op("Relu", x), 600), name="last"), name="scale"))
    onnx.save(m.build(), path)


def everything(folder: Path, *options: str, seed: str, threads: str, name: str) -> dict[str, bytes]:
    """All files that the command writes of two models, in processes of its own, in a folder of this name."""
    place = folder / name
    place.mkdir()
    wide(place / "a.onnx")
    save(place / "c.onnx", 3, stays=True, external="c.weights")
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)} | dict.fromkeys(THREADS, threads)
    for model in ("a", "c"):
        source = f"{model}.onnx"
        commands = [
            ["-o", f"out-{source}", "--digest", "--card"],
            ["-o", "repository", "--triton", "{model}", "--digest"],
        ]
        for command in commands:
            words = [sys.executable, "-m", "folding", "fold", source, *command, "--quiet", *options]
            done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    found = {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    shutil.rmtree(place)
    return found


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--target", "tensorrt-10", "--precision", "fp16"],
        ["--clamp", "always", "--leftover", "conv", "--no-verify"],
    ],
)
def test_the_bytes_are_the_same_everywhere(tmp_path, options):
    one = everything(tmp_path, *options, seed="0", threads="1", name="one")
    other = everything(tmp_path, *options, seed="4711", threads="2", name="another place")
    assert {name for name in one if one[name] != other.get(name)} == set()
    assert sorted(one) == sorted(other)
    assert {
        "out-a.onnx",
        "out-c.onnx.data",
        "out-c.onnx.sha256",
        "repository/a/config.pbtxt",
        "repository/c/SHA256SUMS",
    } <= set(one)
