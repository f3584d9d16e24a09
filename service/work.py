"""The protocol between the server and the process of a fold: a request, an answer, and the files that carry them.

The folder of a fold holds `bounds.json`, `request.json` and `in/`, which the process reads, and `lib/`, where it finds
its packages if Landlock hides the folder that they are in. It writes to `out/`: the folded model, the report in two
forms and, when all of them are complete, `answer.json`. It uses `unpacked/` and `tmp/` itself. The request and the
upload are complete when a byte arrives on its standard input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

BOUNDS, REQUEST, ANSWER = "bounds.json", "request.json", "answer.json"
IN, OUT, TEMPORARY, UNPACKED, LIBRARY = "in", "out", "tmp", "unpacked", "lib"
ARCHIVE = "archive.zip"  # the name of an upload, or of a result, that is a zip
RESULT = "result"  # the name of a result that is not a zip
REPORT, PAGE = "report.json", "report.html"
MODEL_TYPE, ARCHIVE_TYPE = "application/octet-stream", "application/zip"


@dataclass(frozen=True)
class Bounds:
    """What one process may use."""

    seconds: float  # wall clock
    verification: float  # additional seconds, once it verifies
    memory: int  # bytes of address space
    file: int  # bytes of the largest file
    open_files: int
    tasks: int  # processes and their threads, of the whole fold; `memory` is also that of all of them together


@dataclass(frozen=True)
class Request:
    """What the process must do."""

    kind: Literal["fold", "inspect"]
    name: str  # of the model, and of the upload in `in/` unless that is an archive
    archive: bool
    options: dict[str, Any]
    limits: dict[str, int]  # fields of folding.onnxfile.Limits
    bounds: Bounds
    sha256: str = ""  # of the upload, which is checked while it is used; empty: it was checked just now


@dataclass(frozen=True)
class Answer:
    """The outcome. Names of files are names in `out/`."""

    result: str | None = None
    media: str = ""  # the media type of the result
    report: bool = False  # whether both forms of the report exist
    slug: str | None = None  # of the problem that ended the job
    detail: str = ""
    damaged: bool = False  # whether the upload is not what its digest says
