"""What holds for all tests: who fails is named while the others still run, and no example has a deadline."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import settings

from tests.support import ROOT
from tests.support.waiting import PATIENCE

# The second test waits for the end of its input, which comes when the first one has been named.
TESTS = """
import sys
def test_that_fails():
    assert False
def test_that_comes_later(request):
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        sys.__stdin__.read()
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_who_fails_is_named_at_once(tmp_path, workers):
    (tmp_path / "test_them.py").write_text(TESTS if workers == "0" else TESTS.partition("def test_that_comes")[0])
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-q", "-s", "-n", workers, "-c", os.devnull]
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        named = next(line for line in process.stdout if "test_that_fails" in line)
        process.communicate(timeout=PATIENCE)
    assert named == "FAILED test_them.py::test_that_fails (call)\n"
    assert process.returncode == 1


def test_no_example_has_a_deadline():
    assert settings().deadline is None
    assert settings().derandomize
