"""The webhooks in the OpenAPI document: the event that is sent when a job ends."""

from __future__ import annotations

from fastapi import APIRouter

from service.ledger.events import EventView

events = APIRouter()


@events.post("job-ended", operation_id="job_ended", tags=["webhooks"])
def job_ended(event: EventView) -> None:
    """The event sent to the URL in `webhook` when the job ends, signed as https://www.standardwebhooks.com says.

    Headers: `webhook-id` (the same at every attempt), `webhook-timestamp`, `webhook-signature`. Respond with any 2xx
    within 15 seconds, or the event is sent again; after 410 it is not sent again.
    """
