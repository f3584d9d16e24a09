"""The process of a verification is started early, used once, and outlives nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from folding import ModelError, Options, fold, verify
from folding.verification import standby
from tests.support import ROOT
from tests.support.models import Model
from tests.support.rows.row import out, start
from tests.support.waiting import FOREVER, is_alive, until

if TYPE_CHECKING:
    from collections.abc import Iterator

PARENT = (
    "import time; from folding.verification import standby; standby.prepare(); "
    "print(standby._ready[0]._child.pid, flush=True); "
)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Every process that verification starts."""
    found: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def remembered(*args: object, **kwargs: object) -> subprocess.Popen[bytes]:
        found.append(popen(*args, **kwargs))  # type: ignore[call-overload]
        return found[-1]

    monkeypatch.setattr(standby.subprocess, "Popen", remembered)
    return found


def model(folder: Path, *, folds: bool = True) -> Path:
    m = Model(dtype=np.float32)
    out(m, m.bn(m.conv(start(m), 6), name="bn") if folds else m.conv(start(m), 6))
    path = folder / "model.onnx"
    path.write_bytes(m.build().SerializeToString())
    return path


def test_the_one_that_is_ready_is_taken(tmp_path, started):
    path = model(tmp_path)
    with standby.prepared():
        assert verify(path, path).status == "verified"
        assert len(started) == 1
        assert verify(path, path).status == "verified"
        assert len(started) == 2  # each is used once


def test_it_may_be_a_copy_of_this_process(tmp_path):
    """In one that has a single thread and has imported all it needs, as the service's folds do."""
    path = model(tmp_path)
    done = subprocess.run([sys.executable, "-c", COPY, path], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True,
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout.split() == ["0", "verified", "verified", "[]"]


COPY = """
import sys
import folding.verification.child as child
from folding import verify
from folding.verification import standby
standby.prepare(child.main)
one = standby._ready[0]._child
print(int(hasattr(one, "args")))
print(verify(sys.argv[1], sys.argv[1]).status)
assert one.returncode == 0
standby.prepare(child.main)
print(verify(sys.argv[1], sys.argv[1]).status)
print(standby._ready)
"""


def test_a_copy_that_is_not_needed_or_takes_too_long_is_ended(tmp_path):
    done = subprocess.run([sys.executable, "-c", UNUSED], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True,
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout.split() == ["None", "-9", "False", "-9"]


UNUSED = f"""
import time
from folding.verification.standby import Standby
slow = Standby(lambda _: time.sleep({FOREVER}))
print(slow.run(0.05))
slow.close()
print(slow._child.returncode, slow.folder.exists())
unused = Standby(print)
unused.close()
print(unused._child.returncode)
"""


@pytest.mark.parametrize(
    ("folds", "verifies", "target", "expected"),
    [(True, True, True, 1), (False, True, True, 1), (True, False, True, 0), (True, True, False, 0)],
)
def test_nothing_is_left_of_it(tmp_path, started, folds, verifies, target, expected):
    fold(model(tmp_path, folds=folds), tmp_path / "folded.onnx" if target else None, Options(verify=verifies))
    assert len(started) == expected
    assert all(process.returncode is not None for process in started)
    assert all(not Path(process.args[-1]).exists() for process in started)
    assert not standby._ready


def test_it_reports_the_model_to_nobody(tmp_path, monkeypatch):
    """ONNX Runtime leaves a file in the home folder where it sends what it learns of models."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):  # it is silent there
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    path = model(tmp_path)
    assert verify(path, path).status == "verified"
    assert not list(home.iterdir())


def test_it_ends_with_an_error(tmp_path, started):
    (tmp_path / "model.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match=r"model\.onnx"):
        fold(tmp_path / "model.onnx", tmp_path / "folded.onnx")
    assert [process.returncode is not None for process in started] == [True]


def test_one_that_died_while_it_waited_says_so(tmp_path, started):
    path = model(tmp_path)
    with standby.prepared():
        os.killpg(started[0].pid, signal.SIGKILL)
        verdict = verify(path, path)
    assert (verdict.status, verdict.reason.split(" (")[0]) == (
        "not verified",
        "the process died while starting ONNX Runtime",
    )


def test_it_does_not_outlive_a_parent_that_is_killed():
    command = [sys.executable, "-c", PARENT + f"time.sleep({FOREVER})"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    until(lambda: not is_alive(child))
