"""The webhooks of the OpenAPI document: what is sent when a job ends."""

from __future__ import annotations

from fastapi import APIRouter

from service.ledger.events import EventView

events = APIRouter()


@events.post("job-ended", operation_id="job_ended", tags=["webhooks"])
def job_ended(event: EventView) -> None:
    """What is sent to the URL in `webhook` when the job ends, signed as https://www.standardwebhooks.com tells.

    Headers: `webhook-id` (the same with every attempt), `webhook-timestamp`, `webhook-signature`. Answer with any 2xx
    within 15 seconds, or it is sent again; with 410 it is not.
    """
