"""What tests of the command share: a folder of models, and the command as other programs find it."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import ROOT
from tests.support.fleets import fleet

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fleet(tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH that begins with the command `bnfold` of this checkout."""
    place = tmp_path / "bin" / "bnfold"
    place.parent.mkdir()
    place.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -m folding "$@"\n')
    place.chmod(0o755)
    return f"{place.parent}{os.pathsep}{os.environ['PATH']}"
