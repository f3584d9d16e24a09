"""Programs of the system that tests run, installed or unpacked by `make packages`."""

from __future__ import annotations

import shutil

import pytest

from tests.support import ROOT

PLACES = ("", ROOT / ".cache/programs/usr/sbin", ROOT / ".cache/programs/usr/bin")


def program(name: str) -> str:
    """Where a program is; without it the test is skipped."""
    for place in PLACES:
        if found := shutil.which(f"{place}/{name}" if place else name):
            return found
    pytest.skip(f"this test needs {name}, and it is not there: `make packages` fetches it")
