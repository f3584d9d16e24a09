"""A process of a fold that takes no time: any model that is not empty is its own folded model."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

REPORT = {"version": "0", "bn_before": 1, "bn_after": 0, "changed": True}


def main(folder: Path) -> None:
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


if __name__ == "__main__" and sys.stdin.buffer.read(1):
    main(Path(sys.argv[1]))
