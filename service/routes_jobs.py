"""/v1/jobs: how far a fold is, what came of it, and the end of one that is not wanted any more."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from folding.report_html import POLICY
from service.access import Caller, may
from service.blobs import Blob, is_digest
from service.changes import Address
from service.delivery import deliver
from service.docs import EVENTS_TYPE, HTML_TYPE, JSON_TYPE, OF_UPLOADS, ONE_JOB, content, part, problems
from service.headers import preferred
from service.problems import Problem
from service.state import Here, Service
from service.threads import in_thread
from service.views import JobView, disposition, job_json, job_path, result_name
from service.work import ARCHIVE_TYPE, MODEL_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.records import Job

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

ALIVE_EVERY = 15.0  # seconds between two signs of life of a stream in which nothing happens
ALIVE = b": still there\n\n"
# A report shows names from a model: the page may do nothing but show itself.
VARIES = {"Vary": "Accept"}
HTML_HEADERS = {**VARIES, "Content-Security-Policy": f"{POLICY}; frame-ancestors 'self'; sandbox"}
OF_JOBS = problems("unauthorized", "forbidden", "not-found", "invalid-option", "quota-exceeded")
FILE, REPORT = content("The folded model", MODEL_TYPE, ARCHIVE_TYPE), content("What was done", JSON_TYPE, HTML_TYPE)
OF_RESULTS = {**problems(*OF_UPLOADS, "not-found", "not-ready"), **part()}

MayRead = Annotated[Caller, Depends(may("read"))]
MayDelete = Annotated[Caller, Depends(may("delete"))]


@router.get("", operation_id="job", response_model=JobView, responses={**ONE_JOB, **OF_JOBS})
async def read_job(
    request: Request,
    job_id: str,
    caller: MayRead,
    here: Here,
    wait: Annotated[float, Query(ge=0, allow_inf_nan=False, description="seconds to wait for a change")] = 0,
) -> Response:
    """A job: at once, when it changes (`wait`), or every time it changes (`Accept: text/event-stream`)."""
    address = Address(caller.key, job_id)
    changed = here.changes.next(address)
    job = await _found(here, address)
    if preferred(request.headers.get("accept"), (JSON_TYPE, EVENTS_TYPE)) == EVENTS_TYPE:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_events(here, address), 200, headers, EVENTS_TYPE)
    if wait and job.is_open and not here.changes.closing:
        await _within(changed, min(wait, here.settings.wait_seconds))
        job = await _found(here, address)
    return JSONResponse(job_json(here.engine.live(job)), headers={"Cache-Control": "no-store"})


@router.delete("", operation_id="cancel", status_code=204, response_class=Response, responses=OF_JOBS)
async def cancel(job_id: str, caller: MayDelete, here: Here) -> None:
    """End a job that has not ended, and the process that works on it. One that has ended stays as it is."""
    address = Address(caller.key, job_id)
    await _found(here, address)
    await here.engine.cancel(address)


@router.head("/result", include_in_schema=False)
@router.get("/result", operation_id="result", response_class=Response, responses={**FILE, **OF_RESULTS})
async def read_result(request: Request, job_id: str, caller: MayRead, here: Here) -> Response:
    """The folded model, or a part of it."""
    job = await _ended(here, Address(caller.key, job_id))
    if job.output.result is None:
        raise ended_badly(job)
    headers = {"Content-Disposition": disposition(result_name(job))}
    return await deliver(request, here.storage.blobs, job.output.result, job.output.media, headers)


@router.get("/report", operation_id="report", response_class=Response, responses={**REPORT, **OF_RESULTS})
async def read_report(request: Request, job_id: str, caller: MayRead, here: Here) -> Response:
    """What was folded, what stays and why: as JSON, or as a page with `Accept: text/html`."""
    job = await _ended(here, Address(caller.key, job_id))
    if job.output.report is None or job.output.page is None:
        raise ended_badly(job)
    if preferred(request.headers.get("accept"), (JSON_TYPE, HTML_TYPE)) == HTML_TYPE:
        return await deliver(
            request, here.storage.blobs, job.output.page, HTML_TYPE, {**HTML_HEADERS, "Vary": "Accept"}
        )
    return await deliver(request, here.storage.blobs, job.output.report, JSON_TYPE, {"Vary": "Accept"})


async def waited(here: Service, job: Job, seconds: float) -> Job:
    """The job when it has ended, or after so long, or when the server ends."""
    end, address = time.monotonic() + seconds, Address(job.key, job.id)
    while True:
        changed = here.changes.next(address)
        job = await _found(here, address)
        left = end - time.monotonic()
        if not job.is_open or left <= 0 or here.changes.closing:
            return job
        await _within(changed, left)


def ended_badly(job: Job) -> Problem:
    """The problem of a job that ended without what was asked for."""
    links = {"Link": f'<{job_path(job)}/report>; rel="describedby"'} if job.output.report else {}
    headers = {"Bnfold-Job": job.id, **links}
    if job.failure is None:
        return Problem("not-found", "this job left nothing of the kind", instance=job_path(job), headers=headers)
    return Problem(job.failure.slug, job.failure.detail, instance=job_path(job), headers=headers)


async def _within(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return


async def _found(here: Service, address: Address) -> Job:
    job = await in_thread(here.ledger.job, *address) if is_digest(address.job) else None
    if job is None:
        raise Problem("not-found", "there is no such job; it may have been removed after a while without use")
    return job


async def _ended(here: Service, address: Address) -> Job:
    job = await _found(here, address)
    if job.is_open:
        said = f"the job is {job.status}; wait for it with GET {job_path(job)}?wait=30"
        raise Problem("not-ready", said, headers={"Retry-After": "1"})
    used: list[Blob] = list(job.output.blobs)
    await in_thread(here.ledger.use, job.key, [blob.sha256 for blob in used])
    return job


async def _events(here: Service, address: Address) -> AsyncIterator[bytes]:
    """The job each time it changes, until it has ended."""
    told, spoken = b"", time.monotonic()
    while True:
        changed = here.changes.next(address)
        job = await in_thread(here.ledger.job, *address)
        if job is None:
            return
        event = b"event: job\ndata: " + json.dumps(job_json(here.engine.live(job))).encode() + b"\n\n"
        if event != told:
            told, spoken = event, time.monotonic()
            yield event
        elif time.monotonic() - spoken >= ALIVE_EVERY:
            spoken = time.monotonic()
            yield ALIVE
        if not job.is_open or here.changes.closing:
            return
        await _within(changed, ALIVE_EVERY)
