"""/v1/jobs and /v1/usage: what the caller's key has."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from service.http.access import Caller, may
from service.ledger.records import Place
from service.ledger.views import JobView, job_json, rooted
from service.openapi.answers import LISTED, OF_KEYS, problems
from service.state import Here
from service.threads import in_thread

router = APIRouter(prefix="/v1", tags=["jobs"])

MOST = 100  # jobs of one page
PLACE = r"^([0-9]{1,12}\.[0-9]{1,9}~[0-9a-f]{64})?$"
MayRead = Annotated[Caller, Depends(may("read"))]
Limit = Annotated[int, Query(ge=1, le=MOST, description="the most jobs of one page")]
Before = Annotated[str, Query(pattern=PLACE, description="where the page before ended; `next` has it")]


class JobsView(BaseModel):
    """Jobs, newest first, and the path of the next page; null after the last one."""

    jobs: list[JobView]
    next: str | None


class QuotaView(BaseModel):
    """What the key may use; null where nothing limits it."""

    rate: str | None
    open_jobs: int | None
    bytes: int | None


class UsageView(BaseModel):
    """What the key has: blobs and their bytes, jobs by status, webhooks by state, and its quota."""

    blobs: int
    bytes: int
    jobs: dict[str, int]
    webhooks: dict[str, int]
    quota: QuotaView


@router.get(
    "/jobs",
    operation_id="jobs",
    response_model=JobsView,
    responses={200: LISTED, **problems(*OF_KEYS, "invalid-option")},
)
async def list_jobs(caller: MayRead, here: Here, limit: Limit = MOST, before: Before = "") -> JSONResponse:
    """The jobs of this key, newest first."""
    jobs = await in_thread(here.ledger.jobs_of, caller.key, _place(before), limit + 1)
    shown = jobs[:limit]
    following = None
    if len(jobs) > limit:
        following = f"{here.settings.root_path}/v1/jobs?limit={limit}&before={shown[-1].created!r}~{shown[-1].id}"
    listed: dict[str, Any] = {
        "jobs": [rooted(job_json(here.engine.live(job)), here.settings.root_path) for job in shown],
        "next": following,
    }
    return JSONResponse(listed, headers={"Cache-Control": "no-store"})


@router.get("/usage", operation_id="usage", response_model=UsageView, responses=problems(*OF_KEYS))
async def usage(caller: MayRead, here: Here) -> JSONResponse:
    """How much this key has, and how much it may have."""
    found, quota = await in_thread(here.ledger.overview, caller.key), caller.quota
    usage_view = UsageView(
        blobs=found.blobs,
        bytes=found.bytes,
        jobs=found.jobs,
        webhooks=found.webhooks,
        quota=QuotaView(rate=quota.rate, open_jobs=quota.open_jobs, bytes=quota.bytes),
    )
    return JSONResponse(usage_view.model_dump(), headers={"Cache-Control": "no-store"})


def _place(text: str) -> Place | None:
    created, _, job = text.partition("~")
    return Place(float(created), job) if text else None
