"""Views: the JSON form of a job in responses and webhooks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from service.ledger.records import Stage, Status
from service.problems import as_dict

if TYPE_CHECKING:
    from service.ledger.records import Job


class ProblemView(BaseModel):
    """Why a request or a job failed, in the form of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None


class BlobView(BaseModel):
    """A content: its SHA-256 and size."""

    sha256: str
    bytes: int


class ResultView(BlobView):
    """The folded model."""

    href: str


class LinkView(BaseModel):
    """A link."""

    href: str


class LinksView(BaseModel):
    """Links to the parts of a job; null if there is none yet."""

    self: str
    result: str | None
    report: str | None


class JobView(BaseModel):
    """One fold: the request, its progress, and its outcome."""

    id: str
    status: Status
    stage: Stage | None
    progress: float
    created: datetime
    updated: datetime
    attempts: int
    name: str
    input: BlobView
    options: dict[str, Any]
    result: ResultView | None
    report: LinkView | None
    problem: ProblemView | None
    links: LinksView


def job_path(job: Job) -> str:
    """The path of a job's URL."""
    return f"/v1/jobs/{job.id}"


def job_json(job: Job) -> dict[str, Any]:
    """The JSON form of a job; its keys are stable."""
    path, output = job_path(job), job.output
    result = f"{path}/result" if output.result else None
    report = f"{path}/report" if output.report else None
    return {
        "id": job.id,
        "status": job.status,
        "stage": job.stage,
        "progress": round(job.progress, 4),
        "created": _time(job.created),
        "updated": _time(job.updated),
        "attempts": job.attempts,
        "name": job.name,
        "input": {"sha256": job.input.sha256, "bytes": job.input.bytes},
        "options": json.loads(job.options),
        "result": output.result and {"sha256": output.result.sha256, "bytes": output.result.bytes, "href": result},
        "report": report and {"href": report},
        "problem": job.failure and as_dict(job.failure.slug, job.failure.detail, path),
        "links": {"self": path, "result": result, "report": report},
    }


def rooted(body: dict[str, Any], root: str) -> dict[str, Any]:
    """The JSON form of a job with its links under `root`, the path under which a proxy shows the server."""
    if not root:
        return body
    files = {name: body[name] and body[name] | {"href": root + body[name]["href"]} for name in ("result", "report")}
    problem = body["problem"] and body["problem"] | {
        name: root + body["problem"][name] for name in ("type", "instance")
    }
    links = {name: path and root + path for name, path in body["links"].items()}
    return body | files | {"problem": problem, "links": links}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
