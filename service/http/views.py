"""Names in the responses about a job: its entity tag, and the file names of downloads."""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from service.http.headers import etag
from service.work import ARCHIVE_TYPE

if TYPE_CHECKING:
    from service.ledger.records import Job


def job_tag(state: dict[str, Any]) -> str:
    """The entity tag of the JSON form of a job; it differs whenever the JSON differs."""
    return etag(hashlib.sha256(json.dumps(state).encode()).hexdigest())


def result_name(job: Job) -> str:
    """The file name of the folded model for downloads."""
    suffix = ".zip" if job.output.media == ARCHIVE_TYPE else PurePath(job.name).suffix or ".onnx"
    return f"{PurePath(job.name).stem}.folded{suffix}"


def disposition(name: str) -> str:
    """A Content-Disposition header that every browser understands, RFC 6266."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
