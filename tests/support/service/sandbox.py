"""The sandboxes that tests run folds in: bubblewrap, which `make packages` installs, and Landlock, of the kernel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from service.process import landlock, seccomp
from service.process.sandbox import PACKAGES, Sandbox, find_sandbox
from tests.support import TESTS

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACES = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "true"]


def required(kind: str, folder: Path) -> Sandbox:
    """The sandbox of a kind, in which tests can be imported, too.

    Skips where it is not installed or the kernel has nothing of the kind, fails where only it does not work.
    """
    if sys.platform != "linux":
        pytest.skip("the sandboxes are those of Linux")
    with pytest.MonkeyPatch.context() as patch:
        if kind == "bubblewrap":
            if shutil.which("bwrap") is None:
                pytest.skip("this test needs bubblewrap, and it is not installed: `make packages` says how to get it")
            if subprocess.run(NAMESPACES, check=False, capture_output=True).returncode:
                pytest.skip("this kernel makes no namespaces for bubblewrap")
        else:
            if landlock.version() < landlock.OLDEST or not seccomp.is_known():
                pytest.skip("this kernel has no Landlock")
            patch.setattr("shutil.which", lambda _: None)
        sandbox = find_sandbox("require", folder)
    assert sandbox is not None
    assert sandbox.kind == kind
    return replace(sandbox, readable=(*PACKAGES, TESTS))
