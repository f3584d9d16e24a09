"""/v1/uploads: a content in pieces, over as many requests as it takes (tus 1.0, https://tus.io/protocols).

No library does this for an ASGI server with what matters here: bytes that are reserved, quotas and owners, and a kill
of the server between any two steps. A complete upload is a blob of the key, at `Content-Location`.

Until then it is on the disk of the server that began it. In a cluster, that one has to get all requests for it.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from service.http.access import Caller, may
from service.http.headers import claimed_digests, repr_digest
from service.http.uploads import in_time
from service.openapi.answers import OF_KEYS, PIECE_TYPE, Responses, content, problems, without_content
from service.openapi.headers import RESUMABLE, TUS, UPLOAD, UPLOAD_FORM
from service.openapi.uploads import ADDING, BEGINNING
from service.partials import blob_of
from service.problems import Problem
from service.reservations import usage_of
from service.state import Here, Service

if TYPE_CHECKING:
    from service.partials import Partial

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

EXTENSIONS = "creation,expiration,termination"
SPOKEN = {"Tus-Resumable": TUS}
LONGEST = 19  # digits of a number of bytes
UNKNOWN = "this key has no such upload; it may have been removed; begin a new one"
ELSEWHERE = (
    "this server has no such upload of this key: it was removed, or another server of the cluster began it; begin a "
    "new one, and let the load balancer send all requests for /v1/uploads with the same key to the same server"
)
MayFold = Annotated[Caller, Depends(may("fold"))]
Upload = Annotated[
    str, Path(description="the id of an upload", json_schema_extra={"pattern": UPLOAD_FORM}, examples=[UPLOAD])
]

OF_ALL = (*OF_KEYS, "bad-request", "precondition-failed", "digest-mismatch", "insufficient-storage")
STATE = ("Upload-Expires", "Content-Location", "Repr-Digest")
ABLE: dict[str, Any] = {
    "status_code": 204,
    "response_class": Response,
    "responses": {204: content("What is spoken", always=("Tus-Version", "Tus-Extension", "Tus-Max-Size", *SPOKEN))},
}
CREATED: Responses = {
    201: content(
        "The upload has begun; its address is in Location",
        always=("Location", "Upload-Offset", *SPOKEN),
        sometimes=STATE,
    ),
    **problems(*OF_ALL, "too-large", "busy"),
}
FOUND: Responses = {
    200: content(
        "How much has arrived", always=("Upload-Offset", "Upload-Length", "Cache-Control", *SPOKEN), sometimes=STATE
    ),
    **problems(*OF_ALL, "not-found"),
}
ADDED: Responses = {
    204: content(
        "All of it has arrived; when that completes the upload, its content is at Content-Location",
        always=("Upload-Offset", *SPOKEN),
        sometimes=STATE,
    ),
    **problems(
        *OF_ALL, "not-found", "offset-mismatch", "too-large", "unsupported-media-type", "upload-timeout", "busy"
    ),
}
REMOVED: Responses = {204: content("It is removed", always=(*SPOKEN,)), **problems(*OF_ALL, "not-found")}


@router.post(
    "",
    operation_id="upload",
    status_code=201,
    response_class=Response,
    responses=CREATED,
    openapi_extra=BEGINNING,
)
async def create(request: Request, caller: MayFold, here: Here) -> Response:
    """Begin an upload in pieces of `Upload-Length` bytes, which are reserved. `Repr-Digest` is that of the whole.

    The protocol is tus 1.0 with creation, expiration and termination, for which there are clients in most languages.
    """
    _require_version(request)
    length, most = _number(request, "upload-length"), here.settings.max_upload_bytes
    if length > most:
        raise Problem("too-large", f"the upload has {length:,} bytes; at most {most:,} are taken", headers=SPOKEN)
    made = await here.partials.create(caller.key, caller.quota, length, claimed_digests(request.headers))
    return Response(status_code=201, headers={"Location": f"/v1/uploads/{made.id}", **_state(here, made)})


@router.head(
    "/{upload}",
    operation_id="upload_head",
    response_class=Response,
    responses=without_content(FOUND),
    openapi_extra={"parameters": [RESUMABLE]},
)
async def offset(request: Request, upload: Upload, caller: MayFold, here: Here) -> Response:
    """How much of an upload has arrived."""
    _require_version(request)
    partial = _found(here, caller, upload)
    await here.partials.settled(partial)
    headers = _state(here, partial) | {"Upload-Length": str(partial.record.length), "Cache-Control": "no-store"}
    return Response(status_code=200, headers=headers)


@router.patch(
    "/{upload}",
    operation_id="upload_piece",
    status_code=204,
    response_class=Response,
    responses=ADDED,
    openapi_extra=ADDING,
)
async def append(request: Request, upload: Upload, caller: MayFold, here: Here) -> Response:
    """Add what comes after `Upload-Offset` bytes. What has arrived stays, also if the rest does not."""
    _require_version(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != PIECE_TYPE:
        raise Problem("unsupported-media-type", f"a piece of an upload is sent as {PIECE_TYPE}", headers=SPOKEN)
    partial, begins = _found(here, caller, upload), _number(request, "upload-offset")
    usage = await usage_of(here.ledger, caller.key, caller.quota)
    with here.reservations.begun(caller.key, caller.quota, usage):
        before = partial.offset
        try:
            await here.partials.append(partial, begins, in_time(request.stream(), here.settings))
        finally:
            here.metrics.uploaded.inc(max(partial.offset - before, 0))
    return Response(status_code=204, headers=_state(here, partial))


@router.delete(
    "/{upload}",
    operation_id="upload_end",
    status_code=204,
    response_class=Response,
    responses=REMOVED,
    openapi_extra={"parameters": [RESUMABLE]},
)
async def terminate(request: Request, upload: Upload, caller: MayFold, here: Here) -> Response:
    """Remove an upload. What it has become, if it was complete, stays."""
    _require_version(request)
    partial = _found(here, caller, upload)
    await here.partials.settled(partial)
    await here.partials.remove(partial)
    return Response(status_code=204, headers=SPOKEN)


@router.options("", operation_id="upload_options", **ABLE)
async def abilities(here: Here) -> Response:
    """What is spoken here."""
    size = str(here.settings.max_upload_bytes)
    named = {"Tus-Version": TUS, "Tus-Extension": EXTENSIONS, "Tus-Max-Size": size}
    return Response(status_code=204, headers=SPOKEN | named)


@router.options("/{upload}", operation_id="upload_options_one", **ABLE)
async def abilities_of_one(upload: str, here: Here) -> Response:  # noqa: ARG001  the same for each, known or not
    """What is spoken here."""
    return await abilities(here)


def _require_version(request: Request) -> None:
    if request.headers.get("tus-resumable") != TUS:
        detail = f"uploads in pieces are those of tus {TUS}; send Tus-Resumable: {TUS}"
        raise Problem("precondition-failed", detail, headers={"Tus-Version": TUS})


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < LONGEST):
        raise Problem("bad-request", f"{name} must be a number of bytes", headers=SPOKEN)
    return int(text)


def _found(here: Service, caller: Caller, upload: str) -> Partial:
    if (partial := here.partials.find(caller.key, upload)) is None:
        detail = ELSEWHERE if here.settings.engine == "cluster" else UNKNOWN
        raise Problem("not-found", detail, headers=SPOKEN)
    return partial


def _state(here: Service, partial: Partial) -> dict[str, str]:
    seconds = here.partials.remaining(partial)
    headers = SPOKEN | {"Upload-Offset": str(partial.offset)}
    if (blob := blob_of(partial)) is None:
        return headers | {"Upload-Expires": formatdate(time.time() + seconds, usegmt=True)}
    return headers | {"Content-Location": f"/v1/blobs/{blob.sha256}", "Repr-Digest": repr_digest(blob.sha256)}
