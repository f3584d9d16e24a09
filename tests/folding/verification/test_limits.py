"""verify keeps within its time and memory: what is free is asked, and slow models get fewer samples."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from folding.verification import compare, originals
from folding.verification.job import ACTIVITY, Job
from folding.verification.parent import available_memory, verify
from folding.verification.samples import UnverifiableError
from tests.support import ROOT
from tests.support.verification import saved
from tests.support.waiting import is_alive, until

GIB = 1 << 30
MEMINFO = "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n"
ENDLESS = """(float[2] x) => (float[2] y) <int64 n = {1000000000000}, bool c = {1}> {
    y = Loop (n, c, x) <body = b (int64 i, bool ci, float[2] xi) => (bool co, float[2] xo) {
        co = Identity(ci) xo = Relu(xi) }> }"""
RELU = "(float[N,4] x) => (float[N,4] y) { y = Relu(x) }"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"MEMINFO": MEMINFO}, 7 * GIB, id="a machine"),
        pytest.param({"MEMINFO": MEMINFO, "CGROUP_LIMIT": "max\n", "CGROUP_USED": "5\n"}, 7 * GIB, id="no limit"),
        pytest.param(
            {"MEMINFO": MEMINFO, "CGROUP_LIMIT": f"{5 * GIB}", "CGROUP_USED": f"{GIB}"}, 4 * GIB, id="a limit"
        ),
        pytest.param({}, None, id="nobody says"),
    ],
)
def test_the_default_is_a_share_of_what_is_free(
    files: dict[str, str], expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MEMINFO", "CGROUP_LIMIT", "CGROUP_USED"):
        monkeypatch.setattr(sys.modules["folding.verification.parent"], name, tmp_path / name)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert available_memory() == expected


def _job(folder: Path) -> Job:
    before, after = map(str, saved(folder, RELU))
    return Job(before, after, inputs=None, label="", seconds=100.0, memory=None, epsilon=2.0**-23, quantizes=False)


@pytest.mark.parametrize(("runs", "samples"), [(originals.RUNS, 3), (10**9, 1)])
def test_a_slow_model_gets_fewer_samples(
    runs: int, samples: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(originals, "RUNS", runs)
    verdict = compare.Comparison(_job(tmp_path), tmp_path, lambda _: None).verdict()
    assert (verdict.status, verdict.samples) == ("verified", samples)


def test_guessing_ends_when_its_share_of_the_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def refused(*arguments: object) -> None:
        tried.append(arguments)
        raise UnverifiableError("too large")

    monkeypatch.setattr(originals, "SHARE_OF_TIME_GUESSING", 0.0)
    monkeypatch.setattr("folding.verification.samples.generate", refused)
    assert compare.Comparison(_job(tmp_path), tmp_path, lambda _: None).verdict().status == "not verified"
    assert len(tried) == 1


@pytest.mark.parametrize("threads", [None, "1", "64"])
def test_the_environment_leaves_the_child_its_address_space(
    threads: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command sets this variable for itself, and a BLAS with more threads would use up a part of the limit."""
    environments: list[dict[str, str]] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            environments.append(named["env"])
            super().__init__(*arguments, **named)

    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if threads is not None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
    monkeypatch.setattr(subprocess, "Popen", Recorded)
    assert verify(*saved(tmp_path, RELU)).status == "verified"
    assert [environment["OPENBLAS_NUM_THREADS"] for environment in environments] == ["1"]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone can tie a process to its parent")
@pytest.mark.parametrize("seconds", [0.0, 1.0])  # before and after the child asked for it
def test_the_child_does_not_outlive_a_parent_that_is_killed(seconds: float, tmp_path: Path) -> None:
    code = "import sys; from folding import verify; verify(*sys.argv[1:])"
    paths = [str(path) for path in saved(tmp_path, ENDLESS)]
    parent = subprocess.Popen([sys.executable, "-c", code, *paths], env=os.environ | {"PYTHONPATH": str(ROOT)})
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    until(children.read_text)
    child = int(children.read_text())
    if seconds:
        until(lambda: _activity(child).is_file())  # it asks before it has any
    parent.kill()
    parent.wait()
    until(lambda: not is_alive(child))


def _activity(child: int) -> Path:
    """Where the process of a verification says what it does: in its folder, the last word of its command."""
    words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
    return Path(*words[-2:-1], ACTIVITY)  # there is no command yet just after the fork
