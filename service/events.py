"""Events: what a webhook tells of the end of a job, and their place in the OpenAPI document."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from service.views import JobView, job_json

if TYPE_CHECKING:
    from service.records import Job

events = APIRouter()


class EventView(BaseModel):
    """The end of a job."""

    type: Literal["job.done", "job.failed", "job.cancelled"]
    timestamp: datetime
    data: JobView


def event_body(job: Job) -> str:
    """The body of the request that tells of the end of a job: what is signed, byte for byte."""
    data = job_json(job)
    told: dict[str, Any] = {"type": f"job.{job.status}", "timestamp": data["updated"], "data": data}
    return json.dumps(told, separators=(",", ":"))


@events.post("job-ended", operation_id="job_ended", tags=["webhooks"])
def job_ended(event: EventView) -> None:
    """What is sent to the URL in `webhook` when the job ends, signed as https://www.standardwebhooks.com tells.

    Headers: `webhook-id` (the same with every attempt), `webhook-timestamp`, `webhook-signature`. Answer with any 2xx
    within 15 seconds, or it is sent again; with 410 it is not.
    """
