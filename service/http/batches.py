"""/v1/batches: several models in one request, each a job of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from service.http.access import Caller, may
from service.http.fold import accept, asked
from service.http.forms import plain_name
from service.http.jobs import healed, view
from service.http.uploads import ZIP_MAGIC, batch
from service.ledger.views import JobView, ProblemView
from service.openapi.answers import OF_BATCHES, problems
from service.openapi.uploads import BATCH
from service.options import WebhookQuery
from service.problems import Problem, problem_json
from service.state import Here, Service

if TYPE_CHECKING:
    from service.blobs import Draft
    from service.http.forms import Form

router = APIRouter(prefix="/v1", tags=["fold"])

MayFold = Annotated[Caller, Depends(may("fold"))]
WithWebhook = Annotated[WebhookQuery, Query()]


class FileView(BaseModel):
    """The outcome of one file: its job, or the problem for which it was refused."""

    name: str
    job: JobView | None
    problem: ProblemView | None


class BatchView(BaseModel):
    """The outcome of each file, in their order."""

    files: list[FileView]


@router.post(
    "/batches",
    operation_id="batch",
    status_code=202,
    response_model=BatchView,
    responses=problems(*OF_BATCHES),
    openapi_extra=BATCH,
)
async def fold_batch(request: Request, query: WithWebhook, caller: MayFold, here: Here) -> JSONResponse:
    """Fold several models: the files of a form, up to 100, with the same options. Each of them becomes a job.

    Each file is one upload, as if it came alone: where one is refused, its problem is in the list, and the others go
    on. A request that breaks off leaves nothing.
    """
    asked(here, query)
    here.webhooks.checked(query.webhook)
    async with batch(request, here, caller) as (form, found):
        form.query(query)  # invalid options are those of all files
        files = [await _file(request, here, caller, form, number, query, one) for number, one in enumerate(found)]
    return JSONResponse({"files": files}, 202)


async def _file(
    request: Request,
    here: Service,
    caller: Caller,
    form: Form,
    number: int,
    query: WebhookQuery,
    found: Draft | Problem,
) -> dict[str, Any]:
    """The outcome of one file."""
    name = plain_name(form.names[number])
    try:
        if isinstance(found, Problem):
            raise found
        own, is_archive = form.query(query, number), found.magic in ZIP_MAGIC
        job, is_new = await accept(request, here, caller, own, found, None, is_archive=is_archive)
        if is_new:
            here.engine.submit(job, caller.quota.weight)
        else:
            job = await healed(here, job)
    except Problem as problem:
        here.metrics.refusals.labels(problem.slug).inc()
        return {"name": name, "job": None, "problem": problem_json(problem, here.settings.root_path)}
    return {"name": name, "job": view(here, job), "problem": None}
