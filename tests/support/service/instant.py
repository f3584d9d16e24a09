"""A process of a fold that takes no time: any model that is not empty is its own folded model.

One that begins with `SLOW`, seconds and a line takes that time, so that something can happen meanwhile.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SLOW = b"SLOW"
REPORT = {"version": "0", "bn_before": 1, "bn_after": 0, "changed": True}


def load() -> None:
    """Nothing: it needs none of the packages."""


def main(folder: Path, _: str) -> None:
    if not sys.stdin.buffer.read(1):
        return
    request = json.loads((folder / "request.json").read_text())
    (upload,) = (folder / "in").iterdir()
    answer: dict[str, object] = {"slug": "invalid-model", "detail": "this is no model"}
    data = upload.read_bytes()
    if data.startswith(SLOW):
        time.sleep(float(data.split(b"\n")[0].removeprefix(SLOW)))
    if data:
        (folder / "out" / "report.json").write_text(json.dumps(REPORT))
        (folder / "out" / "report.html").write_text("<!doctype html>")
        answer = {"report": True}
        if request["kind"] == "fold":
            shutil.copy(upload, folder / "out" / "result")
            answer |= {"result": "result", "media": "application/octet-stream"}
    (folder / "out" / "answer.json").write_text(json.dumps(answer))
