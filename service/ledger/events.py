"""Events: the body of a webhook that reports the end of a job."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from service.ledger.views import JobView, job_json, rooted

if TYPE_CHECKING:
    from service.ledger.records import Job


class EventView(BaseModel):
    """The end of a job."""

    type: Literal["job.done", "job.failed", "job.cancelled"]
    timestamp: datetime
    data: JobView


def event_body(job: Job) -> str:
    """The body of the webhook for the end of a job. The signature covers these exact bytes."""
    data = job_json(job)
    return _written({"type": f"job.{job.status}", "timestamp": data["updated"], "data": data})


def event_under(body: str, root: str) -> str:
    """The body as it is sent: with its links under `root`, the path under which a proxy shows the server."""
    event: dict[str, Any] = json.loads(body)
    return _written(event | {"data": rooted(event["data"], root)}) if root else body


def _written(event: dict[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":"))
