"""/v1/blobs: contents by their SHA-256. Only a key that uploaded or produced a content can read it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from service.auth.audit import audit
from service.blobs import Blob, is_digest
from service.http.access import Caller, may
from service.http.delivery import deliver
from service.http.middleware import log_fields
from service.openapi.answers import OF_KEYS, file, problems, without_content
from service.openapi.headers import ADDRESS, DIGEST_FORM, IF_RANGE, NONE_MATCH, RANGE
from service.problems import Problem
from service.state import Here, Service
from service.threads import in_thread
from service.work import MODEL_TYPE

router = APIRouter(prefix="/v1/blobs/{sha256}", tags=["blobs"])

OF_BLOBS = problems(*OF_KEYS, "not-found")
FILE = {**file("The content", MODEL_TYPE, sometimes=("Content-Disposition",)), **OF_BLOBS}

Sha256 = Annotated[
    str,
    Path(description="the SHA-256 of the content", json_schema_extra={"pattern": DIGEST_FORM}, examples=[ADDRESS]),
]
MayRead = Annotated[Caller, Depends(may("read"))]
MayDelete = Annotated[Caller, Depends(may("delete"))]


@router.head(
    "",
    operation_id="blob_head",
    response_class=Response,
    responses=without_content(FILE),
    openapi_extra={"parameters": [NONE_MATCH]},
)
@router.get(
    "",
    operation_id="blob",
    response_class=Response,
    responses=FILE,
    openapi_extra={"parameters": [NONE_MATCH, RANGE, IF_RANGE]},
)
async def read_blob(request: Request, sha256: Sha256, caller: MayRead, here: Here) -> Response:
    """The content of a blob, or a range of it."""
    blob = await _held(here, caller, sha256)
    await in_thread(here.ledger.use, caller.key, [sha256])
    return await deliver(request, here, blob, MODEL_TYPE, {"Content-Disposition": "attachment"})


@router.delete(
    "",
    operation_id="delete_blob",
    status_code=204,
    response_class=Response,
    responses={**OF_BLOBS, **problems("in-use")},
)
async def delete_blob(request: Request, sha256: Sha256, caller: MayDelete, here: Here) -> None:
    """Delete a blob, and the jobs that produced it. While a job that has not ended needs it: 409."""
    await _held(here, caller, sha256)
    await here.storage.release(caller.key, sha256)
    audit(here.settings.data, "blob deleted", blob=sha256, **log_fields(request.scope))


async def _held(here: Service, caller: Caller, sha256: str) -> Blob:
    blob = await in_thread(here.ledger.holding, caller.key, sha256) if is_digest(sha256) else None
    if blob is None:
        raise Problem("not-found", "this key has no such content")
    return blob
