"""What the server and the process of a fold tell each other: a request, an answer, and the files they go through.

The folder of a fold holds `bounds.json`, `request.json` and `in/`, which the process reads, and `out/`, where it leaves
the folded model, the report in two forms and, when all of them are complete, `answer.json`; `unpacked/` and `tmp/` are
its own. The request and the upload are there when a byte arrives on its standard input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

BOUNDS, REQUEST, ANSWER = "bounds.json", "request.json", "answer.json"
IN, OUT, TEMPORARY, UNPACKED = "in", "out", "tmp", "unpacked"
ARCHIVE = "archive.zip"  # the name of an upload and of a result that is a zip
RESULT = "result"  # of one that is not
REPORT, PAGE = "report.json", "report.html"
MODEL_TYPE, ARCHIVE_TYPE = "application/octet-stream", "application/zip"


@dataclass(frozen=True)
class Bounds:
    """What one process may take."""

    seconds: float  # of wall clock
    verification: float  # seconds more once it verifies
    memory: int  # bytes of address space
    file: int  # bytes
    open_files: int


@dataclass(frozen=True)
class Request:
    """What is to be done."""

    kind: Literal["fold", "inspect"]
    name: str  # of the model; the upload is `in/` this, unless it is an archive
    archive: bool
    options: dict[str, Any]
    limits: dict[str, int]  # of folding.onnxfile.Limits
    bounds: Bounds


@dataclass(frozen=True)
class Answer:
    """What was done. The names are of files in `out/`."""

    result: str | None = None
    media: str = ""  # of the result
    report: bool = False  # whether it is there, in both forms
    slug: str | None = None  # of the problem that ended it
    detail: str = ""
