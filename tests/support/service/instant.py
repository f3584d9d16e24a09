"""A process of a fold that takes no time: any model that is not empty is folded, as `folded` says.

One that begins with `SLOW`, seconds and a line takes that time, so that something can happen meanwhile; one that begins
with `HANG` never ends, and one that begins with `BAD` is no model.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from typing import TYPE_CHECKING

from tests.support.waiting import FOREVER

if TYPE_CHECKING:
    from pathlib import Path

SLOW, HANG, BAD = b"SLOW", b"HANG", b"BAD"
AFTER = b"folded"  # what a folded model has at its end: so it is another blob than the model
REPORT = {"version": "0", "bn_before": 1, "bn_after": 0, "changed": True}


def folded(model: bytes) -> bytes:
    """The result for a model."""
    return model + AFTER


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
    if data.startswith(HANG):
        time.sleep(FOREVER)
    if request["sha256"] and hashlib.sha256(data).hexdigest() != request["sha256"]:
        answer = {"slug": "internal", "detail": "the disk damaged the upload; send it again", "damaged": True}
    elif data and not data.startswith(BAD):
        (folder / "out" / "report.json").write_text(json.dumps(REPORT))
        (folder / "out" / "report.html").write_text("<!doctype html>")
        answer = {"report": True}
        if request["kind"] == "fold":
            (folder / "out" / "result").write_bytes(folded(data))
            answer |= {"result": "result", "media": "application/octet-stream"}
    (folder / "out" / "answer.json").write_text(json.dumps(answer))
