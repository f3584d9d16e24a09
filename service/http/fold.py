"""/v1/fold and /v1/inspect: take a model, and return the folded model or the report."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from service.blobs import is_digest
from service.http.access import Caller, may
from service.http.blobs import Sha256
from service.http.delivery import deliver
from service.http.headers import Preferences, preferences, preferred
from service.http.jobs import HTML_HEADERS, ended_badly, healed, view, waited
from service.http.uploads import ZIP_MAGIC, uploaded
from service.http.views import disposition, result_name
from service.ledger.records import Idempotency, Job, Room, job_id
from service.ledger.views import job_path
from service.left import content as content_left
from service.openapi.answers import FOLDED, HTML_TYPE, JSON_TYPE, OF_UPLOADS, content, problems
from service.openapi.headers import TOKEN_FORM, TOKEN_LENGTH
from service.openapi.uploads import FOLDING, FOLDING_BLOB, INSPECTING
from service.options import FoldQuery, WebhookQuery, canonical
from service.problems import Problem
from service.state import Here, Service
from service.threads import in_thread
from service.work import OUT, PAGE, REPORT

if TYPE_CHECKING:
    from service.blobs import Blob, Draft

router = APIRouter(prefix="/v1", tags=["fold"])

ANSWERS = {**FOLDED, **problems(*OF_UPLOADS)}
INSPECTED = {
    200: content("The report of what a fold would do", JSON_TYPE, HTML_TYPE, sometimes=("Vary",)),
    **problems(*OF_UPLOADS),
}

MAGIC_BYTES = 4  # which distinguish a zip from a model
NOT_HELD = "this key has no such content; send the model"
Query_ = Annotated[FoldQuery, Query()]
WithWebhook = Annotated[WebhookQuery, Query()]
MayFold = Annotated[Caller, Depends(may("fold"))]


@router.post("/fold", operation_id="fold", openapi_extra=FOLDING, response_class=Response, responses=ANSWERS)
async def fold(request: Request, query: WithWebhook, caller: MayFold, here: Here) -> Response:
    """Fold a model: the body is an ONNX file, or a zip of one with its external data.

    The response is the folded model, or a job if the fold takes too long for one request or if the request has
    `Prefer: respond-async`. The same model with the same options is folded once: sending it again is free.
    """
    wishes, token = preferences(request.headers.get("prefer")), _token(request)
    asked(here, query)  # invalid options are refused before the upload
    here.webhooks.checked(query.webhook)
    async with uploaded(request, here, caller) as (draft, is_archive, form):
        query = query if form is None else form.query(query)
        job, is_new = await accept(request, here, caller, query, draft, token, is_archive=is_archive)
    return await _answered(request, here, caller, job, wishes, is_new=is_new)


async def accept(
    request: Request,
    here: Service,
    caller: Caller,
    query: WebhookQuery,
    draft: Draft,
    token: str | None,
    *,
    is_archive: bool,
) -> tuple[Job, bool]:
    """The job of an upload, and whether it is new. Raises the errors of its options, its webhook and the ledger."""
    name, chosen = asked(here, query)
    webhook = here.webhooks.checked(query.webhook)
    job = _job(here, caller, name, draft.blob, chosen, is_archive=is_archive)
    job = replace(job, traceparent=request.state.span.traceparent)
    marked = None if token is None else Idempotency(token, _fingerprint(job.id, name, webhook))
    room = Room(here.settings.max_queue, here.settings.max_queue_seconds)
    return await here.storage.accept(draft, job, caller.quota, room, marked, webhook)


@router.post(
    "/blobs/{sha256}/fold",
    operation_id="fold_blob",
    openapi_extra=FOLDING_BLOB,
    response_class=Response,
    responses=ANSWERS | problems(*OF_UPLOADS, "not-found"),
)
async def fold_blob(request: Request, sha256: Sha256, query: WithWebhook, caller: MayFold, here: Here) -> Response:
    """Fold a content that this key holds: an upload that is complete, or one that was folded with other options."""
    wishes, token = preferences(request.headers.get("prefer")), _token(request)
    name, chosen = asked(here, query)
    webhook = here.webhooks.checked(query.webhook)
    blob = await in_thread(here.ledger.holding, caller.key, sha256) if is_digest(sha256) else None
    if blob is None or not await here.engine.has_whole(blob):
        raise Problem("not-found", NOT_HELD)
    magic = b"".join([block async for block in here.storage.blobs.read(sha256, 0, min(MAGIC_BYTES, blob.bytes))])
    job = _job(here, caller, name, blob, chosen, is_archive=magic in ZIP_MAGIC)
    job = replace(job, traceparent=request.state.span.traceparent)
    marked = None if token is None else Idempotency(token, _fingerprint(job.id, name, webhook))
    room = Room(here.settings.max_queue, here.settings.max_queue_seconds)
    accepted = await here.storage.accept_held(job, caller.quota, room, marked, webhook)
    if accepted is None:
        raise Problem("not-found", NOT_HELD)
    return await _answered(request, here, caller, accepted[0], wishes, is_new=accepted[1])


async def _answered(
    request: Request, here: Service, caller: Caller, job: Job, wishes: Preferences, *, is_new: bool
) -> Response:
    """The response for a job that was accepted: its result, or where it will be."""
    if is_new:
        here.engine.submit(job, caller.quota.weight, is_urgent=not wishes.respond_async)
    else:
        job = await healed(here, job)
        if not wishes.respond_async:
            here.engine.hurry(job)
    bound = here.settings.sync_seconds
    if not wishes.respond_async:
        job = await waited(here, job, bound if wishes.wait is None else min(wishes.wait, bound))
    applied = wishes.applied(bound)
    if wishes.respond_async or job.is_open:
        return _accepted(here, job, applied)
    return await _folded(request, here, job, applied)


@router.put("/fold", operation_id="fold_put", openapi_extra=FOLDING, response_class=Response, responses=ANSWERS)
async def fold_put(request: Request, query: WithWebhook, caller: MayFold, here: Here) -> Response:
    """Fold a model, like POST; for `curl -T model.onnx`."""
    return await fold(request, query, caller, here)


@router.post("/inspect", operation_id="inspect", openapi_extra=INSPECTING, response_class=Response, responses=INSPECTED)
async def inspect(request: Request, query: Query_, caller: MayFold, here: Here) -> Response:
    """Report what folding this model would do, and why the rest would stay. Nothing is stored."""
    asked(here, query)
    async with uploaded(request, here, caller) as (draft, is_archive, form):
        name, chosen = asked(here, query if form is None else form.query(query))
        job = _job(here, caller, name, draft.blob, chosen, is_archive=is_archive)
        inspected = here.engine.inspected(draft, here.engine.request(job), caller.key, caller.quota)
        async with inspected as (answer, folder):
            if answer.slug is not None and not answer.report:
                raise Problem(answer.slug, answer.detail)
            html = preferred(request.headers.get("accept"), (JSON_TYPE, HTML_TYPE)) == HTML_TYPE
            data = await in_thread(content_left, folder / OUT / (PAGE if html else REPORT))
    return Response(data, 200, HTML_HEADERS if html else None, HTML_TYPE if html else JSON_TYPE)


@router.put(
    "/inspect", operation_id="inspect_put", openapi_extra=INSPECTING, response_class=Response, responses=INSPECTED
)
async def inspect_put(request: Request, query: Query_, caller: MayFold, here: Here) -> Response:
    """Report what folding this model would do, like POST; for `curl -T model.onnx`."""
    return await inspect(request, query, caller, here)


def asked(here: Service, query: FoldQuery) -> tuple[str, str]:
    """The name of the model and the canonical options. Raises the errors of both."""
    return query.file_name(), canonical(query.options(here.settings.verify_seconds))


def _job(here: Service, caller: Caller, name: str, blob: Blob, options: str, *, is_archive: bool) -> Job:
    now, engine = time.time(), here.engine_version
    made = job_id(blob.sha256, name, options, engine)
    return Job(made, caller.key, name, blob, is_archive, options, engine, created=now, updated=now)


def _token(request: Request) -> str | None:
    token = request.headers.get("idempotency-key")
    if token is not None and not re.fullmatch(TOKEN_FORM, token):
        raise Problem("bad-request", f"Idempotency-Key must have 1 to {TOKEN_LENGTH} visible ASCII characters")
    return token


def _fingerprint(*parts: str | None) -> str:
    return hashlib.sha256(" ".join(filter(None, parts)).encode()).hexdigest()


def _accepted(here: Service, job: Job, applied: dict[str, str]) -> Response:
    headers = {"Location": job_path(job), "Bnfold-Job": job.id, **applied}
    return JSONResponse(view(here, job), 202, headers)


async def _folded(request: Request, here: Service, job: Job, applied: dict[str, str]) -> Response:
    """The result of a job that has ended, or its report if the client prefers that."""
    path, output = job_path(job), job.output
    headers = {
        "Bnfold-Job": job.id,
        "Link": f'<{path}/report>; rel="describedby"',
        "Content-Location": f"{path}/result",
        **applied,
    }
    if output.result is None:
        raise ended_badly(job)
    await in_thread(here.ledger.use, job.key, [blob.sha256 for blob in output.blobs])
    if output.report and preferred(request.headers.get("accept"), (output.media, JSON_TYPE)) == JSON_TYPE:
        located = headers | {"Content-Location": f"{path}/report"}
        return await deliver(request, here, output.report, JSON_TYPE, located)
    named = {"Content-Disposition": disposition(result_name(job)), "Content-Location": f"{path}/result"}
    return await deliver(request, here, output.result, output.media, headers | named)
