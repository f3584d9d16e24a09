"""Views: the JSON that a client sees of a job, in answers and in webhooks."""

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
    """Why something did not work, as RFC 9457 tells it."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None


class BlobView(BaseModel):
    """A content by its address."""

    sha256: str
    bytes: int


class ResultView(BlobView):
    """The folded model."""

    href: str


class LinkView(BaseModel):
    """Where something is."""

    href: str


class LinksView(BaseModel):
    """Where the parts of a job are; null where there is none yet."""

    self: str
    result: str | None
    report: str | None


class JobView(BaseModel):
    """One fold: what was asked, how far it is, and what came of it."""

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
    """Where a job is."""
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


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
