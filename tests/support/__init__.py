"""What the tests share: models in a few words, references, rows, random graphs, servers."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of the checkout: processes that tests start find the packages there
TESTS = ROOT / "tests"
