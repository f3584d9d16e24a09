"""The sandbox that tests run folds in: bubblewrap, which `make packages` installs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from service.engine.sandbox import Sandbox, find_sandbox

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACES = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "true"]


def required(folder: Path) -> Sandbox:
    """The sandbox; skips where it is not installed or the kernel makes no namespaces, fails where only it does not."""
    if shutil.which("bwrap") is None:
        pytest.skip(
            "the tests of the sandbox need bubblewrap, and it is not installed: `make packages` says how to get it"
        )
    if sys.platform != "linux" or subprocess.run(NAMESPACES, check=False, capture_output=True).returncode:
        pytest.skip("this kernel makes no namespaces for bubblewrap")
    sandbox = find_sandbox("require", folder)
    assert sandbox is not None
    return sandbox
