"""Inference in a process of its own finds what it finds here, and its death is an error like any other."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.hostile import models as hostile_models
from tests.support.waiting import PATIENCE

# In an interpreter without threads, as it must be.
CODE = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
import onnx
from folding.analysis import inference
model = onnx.ModelProto.FromString(sys.stdin.buffer.read())
if sys.argv[1] == "here":
    print(inference.inferred(model).SerializeToString(deterministic=True).hex())
    sys.exit()
inference.keep_apart(1)
try:
    print(inference.inferred(model).SerializeToString(deterministic=True).hex())
except inference.InferenceError as error:
    print("error:", error)
"""


def inferred(data: bytes, where: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CODE, where], input=data, capture_output=True, check=True, timeout=PATIENCE
    )
    return done.stdout.decode().strip()


def test_it_is_the_same() -> None:
    data = hostile_models.folds("y = Relu(z)")
    assert inferred(data, "apart") == inferred(data, "here")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        # It dies, or on a busy machine uses up its time before.
        ("an axis before", "error: the process that inferred shapes "),
        ("a match of nothing", "error: the process that inferred shapes "),
        ("a list of 2 ** 40 sizes", "error: "),
        ("2 ** 31 parts", "error: "),
    ],
)
def test_its_death_is_an_error(name: str, says: str) -> None:
    assert inferred(hostile_models.ROWS[name][0](), "apart").startswith(says)
