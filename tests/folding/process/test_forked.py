"""Work in a fork: its result comes back, what it raises comes back as text, and its death is an error."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.waiting import PATIENCE

GIB = 1 << 30
# In an interpreter without threads, as it must be.
CODE = """
import os, signal
from folding.process.forked import forked
def fail():
    raise ValueError("no such axis")
def burn():
    while True:
        pass
try:
    print(forked({work}, "counted", seconds=1, memory={memory}))
except RuntimeError as error:
    print("error:", error)
"""


def said(work: str, memory: int = GIB) -> str:
    code = CODE.format(work=work, memory=memory)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=environment, timeout=PATIENCE
    )
    return done.stdout.decode().strip()


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        ("lambda: b'seven'", "b'seven'"),
        ("lambda: b'x' * 1_000_000 and b'more than a pipe holds'", "b'more than a pipe holds'"),
        ("fail", "error: no such axis"),
        ("lambda: os.kill(os.getpid(), signal.SIGSEGV)", "error: the process that counted died"),
        ("lambda: os._exit(3)", "error: the process that counted died"),
        ("burn", "error: the process that counted used its 1 s of processor time"),
    ],
)
def test_what_comes_back(work: str, expected: str) -> None:
    assert said(work) == expected


def test_memory_is_bounded() -> None:
    assert said("lambda: bytes(2 << 30)[:1]") == "error: the process that counted died"
    assert said("lambda: bytes(2 << 30)[:1]", 8 * GIB) == "b'\\x00'"
