"""The sandbox that folds run in: what it shows, and how it is chosen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from service.engine.sandbox import find_sandbox
from service.work import IN
from tests.support.service.sandbox import required


def test_a_sandbox_shows_nothing_but_the_fold(tmp_path):
    sandbox = required(tmp_path)
    (tmp_path / "secret").write_text("of another job")
    (tmp_path / "job" / IN).mkdir(parents=True)
    (tmp_path / "job" / IN / "model").write_text("mine")
    code = f"""
import os, socket
from pathlib import Path
assert not Path({str(tmp_path / "secret")!r}).exists() and not Path("/etc/passwd").exists()
assert Path("/fold/in/model").read_text() == "mine"
for path in ("/fold/in/model", "/fold/in/new", "/usr/new", {str(Path(sys.prefix) / "new")!r}):
    try: Path(path).write_text("x"); raise SystemExit(path)
    except OSError: pass
try: socket.create_connection(("127.0.0.1", 1), 1); raise SystemExit("network")
except OSError: pass
assert len([p for p in os.listdir("/proc") if p.isdigit()]) <= 3
Path("/fold/out").write_text("done")
"""
    done = subprocess.run(
        sandbox.command(tmp_path / "job", [sys.executable, "-I", "-c", code]),
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "job" / "out").read_text() == "done"


def test_the_choice_of_a_sandbox(tmp_path, monkeypatch):
    assert find_sandbox("off", tmp_path) is None
    monkeypatch.setattr("shutil.which", lambda _: "/bin/false")
    assert find_sandbox("auto", tmp_path) is None
    with pytest.raises(RuntimeError, match="cannot make namespaces here"):
        find_sandbox("require", tmp_path)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(RuntimeError, match="it is not installed"):
        find_sandbox("require", tmp_path)
