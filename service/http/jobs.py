"""/v1/jobs: the state, the result and the report of a job, and its cancellation."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from folding.report.html import POLICY
from service.auth.audit import audit
from service.blobs import Blob, is_digest
from service.changes import Address
from service.http.access import Caller, may
from service.http.delivery import GONE, deliver
from service.http.headers import matches, preferred
from service.http.middleware import log_fields
from service.http.views import disposition, job_tag, result_name
from service.ledger.views import JobView, job_json, job_path, rooted
from service.openapi.answers import (
    EVENTS_TYPE,
    HTML_TYPE,
    JSON_TYPE,
    OF_KEYS,
    OF_WORK,
    ONE_JOB,
    file,
    problems,
    without_content,
)
from service.openapi.headers import ADDRESS, DIGEST_FORM, IF_RANGE, NONE_MATCH, RANGE, accept
from service.problems import Problem
from service.state import Here, Service
from service.threads import in_thread
from service.work import ARCHIVE_TYPE, MODEL_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.ledger.records import Job

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

ALIVE_EVERY = 15.0  # seconds between two comments that keep a stream without events alive
ALIVE = b": still there\n\n"
# A report contains names from a model: the page may not run scripts or load anything.
VARIES = {"Vary": "Accept"}
HTML_HEADERS = {**VARIES, "Content-Security-Policy": f"{POLICY}; frame-ancestors 'self'; sandbox"}
OF_JOBS = problems(*OF_KEYS, "not-found")
OF_RESULTS = problems(*OF_KEYS, *OF_WORK, "not-found", "not-ready")
RESULT = {**file("The folded model", MODEL_TYPE, ARCHIVE_TYPE, sometimes=("Content-Disposition",)), **OF_RESULTS}
REPORT = {**file("What was done", JSON_TYPE, HTML_TYPE, sometimes=("Vary",)), **OF_RESULTS}
CONDITIONS = {"parameters": [NONE_MATCH, RANGE, IF_RANGE]}

JobId = Annotated[
    str,
    Path(description="the id of a job", json_schema_extra={"pattern": DIGEST_FORM}, examples=[ADDRESS]),
]
Wait = Annotated[
    float,
    Query(
        ge=0, allow_inf_nan=False, description="seconds to wait for a change; the server has a bound", examples=[0.5]
    ),
]
Until = Annotated[
    Literal["change", "done"],
    Query(description="what `wait` waits for: the next change of the job, or its end"),
]
Erase = Annotated[
    bool,
    Query(description="remove the job with all that it left: its input, result, report and webhooks"),
]
MayRead = Annotated[Caller, Depends(may("read"))]
MayDelete = Annotated[Caller, Depends(may("delete"))]


@router.get(
    "",
    operation_id="job",
    response_model=JobView,
    responses={**ONE_JOB, **OF_JOBS, **problems("invalid-option")},
    openapi_extra={"parameters": [accept(JSON_TYPE, EVENTS_TYPE), NONE_MATCH]},
)
async def read_job(
    request: Request, job_id: JobId, caller: MayRead, here: Here, wait: Wait = 0, until: Until = "change"
) -> Response:
    """The state of a job: at once, at its next change or its end (`wait`), or at every change as a stream of events.

    With `If-None-Match` the server waits for a state that the client does not have, so no change between two requests
    is missed; 304 means that there was none.
    """
    address = Address(caller.key, job_id)
    if preferred(request.headers.get("accept"), (JSON_TYPE, EVENTS_TYPE)) == EVENTS_TYPE:
        await _found(here, address)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if request.method == "HEAD":  # which waits for no event
            return Response(None, 200, headers, EVENTS_TYPE)
        return StreamingResponse(_events(here, address), 200, headers, EVENTS_TYPE)
    known = request.headers.get("if-none-match")
    wait = min(wait, here.settings.wait_seconds)
    if until == "done":
        await waited(here, await _found(here, address), wait)
        wait = 0
    state = await _state(here, address, known, wait)
    tag = job_tag(state)
    headers = {"Cache-Control": "no-store", "ETag": tag, **VARIES}
    return Response(None, 304, headers) if matches(known, tag) else JSONResponse(state, headers=headers)


@router.delete(
    "",
    operation_id="cancel",
    status_code=204,
    response_class=Response,
    responses={**OF_JOBS, **problems("invalid-option")},
)
async def cancel(
    request: Request,
    job_id: JobId,
    caller: MayDelete,
    here: Here,
    erase: Erase = False,  # noqa: FBT002
) -> None:
    """Cancel a job and end its process. A job that has ended stays as it is, unless it is to be erased."""
    address = Address(caller.key, job_id)
    await _found(here, address)
    await here.engine.cancel(address)
    audit(here.settings.data, "job cancelled", job=job_id, **log_fields(request.scope))
    if erase:
        await here.storage.erase_job(*address)
        audit(here.settings.data, "job erased", job=job_id, **log_fields(request.scope))


@router.head(
    "/result",
    operation_id="result_head",
    response_class=Response,
    responses=without_content(RESULT),
    openapi_extra={"parameters": [NONE_MATCH]},
)
@router.get("/result", operation_id="result", response_class=Response, responses=RESULT, openapi_extra=CONDITIONS)
async def read_result(request: Request, job_id: JobId, caller: MayRead, here: Here) -> Response:
    """The folded model, or a range of it."""
    job = await _ended(here, Address(caller.key, job_id))
    if job.output.result is None:
        raise ended_badly(job)
    headers = {"Content-Disposition": disposition(result_name(job))}
    return await deliver(request, here, job.output.result, job.output.media, headers)


@router.get(
    "/report",
    operation_id="report",
    response_class=Response,
    responses=REPORT,
    openapi_extra={"parameters": [accept(JSON_TYPE, HTML_TYPE), *CONDITIONS["parameters"]]},
)
async def read_report(request: Request, job_id: JobId, caller: MayRead, here: Here) -> Response:
    """The report: what was folded, what stays and why. JSON, or a page with `Accept: text/html`."""
    job = await _ended(here, Address(caller.key, job_id))
    if job.output.report is None or job.output.page is None:
        raise ended_badly(job)
    if preferred(request.headers.get("accept"), (JSON_TYPE, HTML_TYPE)) == HTML_TYPE:
        return await deliver(request, here, job.output.page, HTML_TYPE, {**HTML_HEADERS, "Vary": "Accept"})
    return await deliver(request, here, job.output.report, JSON_TYPE, {"Vary": "Accept"})


async def waited(here: Service, job: Job, seconds: float) -> Job:
    """The job once it has ended, after `seconds`, or when the server shuts down."""
    end, address = time.monotonic() + seconds, Address(job.key, job.id)
    while True:
        changed = here.changes.next(address)
        job = await _found(here, address)
        left = end - time.monotonic()
        if not job.is_open or left <= 0 or here.changes.closing:
            return job
        await _within(changed, left)


def view(here: Service, job: Job) -> dict[str, Any]:
    """The JSON form of a job, with its latest progress."""
    return rooted(job_json(here.engine.live(job)), here.settings.root_path)


async def healed(here: Service, job: Job) -> Job:
    """The job; if it has ended and the disk lost its output, it is folded again, for which this waits a while.

    Raises:
        Problem: not-found: the upload is gone, too.
    """
    if job.is_open:
        return job
    whole = await here.engine.healed(job)
    if whole is None:
        raise Problem("not-found", GONE)
    return whole if whole is job else await waited(here, whole, here.settings.sync_seconds)


def ended_badly(job: Job) -> Problem:
    """The problem of a job that ended without the requested output."""
    links = {"Link": f'<{job_path(job)}/report>; rel="describedby"'} if job.output.report else {}
    headers = {"Bnfold-Job": job.id, **links}
    if job.failure is None:
        return Problem("not-found", "this job left nothing of the kind", instance=job_path(job), headers=headers)
    return Problem(job.failure.slug, job.failure.detail, instance=job_path(job), headers=headers)


async def _state(here: Service, address: Address, known: str | None, seconds: float) -> dict[str, Any]:
    """The state of a job: at once if the client does not have it, else at a change, or after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        changed = here.changes.next(address)
        job = await _found(here, address)
        state = view(here, job)
        tag, left = job_tag(state), end - time.monotonic()
        known = known or tag
        if not matches(known, tag) or not job.is_open or left <= 0 or here.changes.closing:
            return state
        await _within(changed, left)


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
    job = await healed(here, await _found(here, address))
    if job.is_open:
        detail = f"the job is {job.status}; wait for it with GET {here.settings.root_path}{job_path(job)}?wait=30"
        raise Problem("not-ready", detail, headers={"Retry-After": "1"})
    used: list[Blob] = list(job.output.blobs)
    await in_thread(here.ledger.use, job.key, [blob.sha256 for blob in used])
    return job


async def _events(here: Service, address: Address) -> AsyncIterator[bytes]:
    """Server-sent events with the state of a job, one at each change, until the job has ended."""
    last, sent_at = b"", time.monotonic()
    while True:
        changed = here.changes.next(address)
        job = await in_thread(here.ledger.job, *address)
        if job is None:
            return
        event = b"event: job\ndata: " + json.dumps(view(here, job)).encode() + b"\n\n"
        if event != last:
            last, sent_at = event, time.monotonic()
            yield event
        elif time.monotonic() - sent_at >= ALIVE_EVERY:
            sent_at = time.monotonic()
            yield ALIVE
        if not job.is_open or here.changes.closing:
            return
        await _within(changed, ALIVE_EVERY)
