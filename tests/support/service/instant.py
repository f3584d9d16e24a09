"""A process of a fold that takes no time: any model that is not empty is its own folded model."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

REPORT = {"version": "0", "bn_before": 1, "bn_after": 0, "changed": True}


def load() -> None:
    """Nothing: it needs none of the packages."""


def main(folder: Path, _: str) -> None:
    if not sys.stdin.buffer.read(1):
        return
    request = json.loads((folder / "request.json").read_text())
    (upload,) = (folder / "in").iterdir()
    answer: dict[str, object] = {"slug": "invalid-model", "detail": "this is no model"}
    if upload.stat().st_size:
        (folder / "out" / "report.json").write_text(json.dumps(REPORT))
        (folder / "out" / "report.html").write_text("<!doctype html>")
        answer = {"report": True}
        if request["kind"] == "fold":
            shutil.copy(upload, folder / "out" / "result")
            answer |= {"result": "result", "media": "application/octet-stream"}
    (folder / "out" / "answer.json").write_text(json.dumps(answer))
