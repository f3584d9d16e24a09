"""/v1/uploads: a content in pieces, over as many requests as it takes (tus 1.0, https://tus.io/protocols).

No library does this for an ASGI server with what matters here: bytes that are reserved, quotas and owners, and a kill
of the server between any two steps. The OpenAPI document leaves it out, because the protocol has documents of its own.
A complete upload is a blob of the key, at `Content-Location`.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Request, Response

from service.http.access import Caller, may
from service.http.headers import claimed_digests, repr_digest
from service.http.uploads import in_time
from service.partials import blob_of
from service.problems import Problem
from service.state import Here, Service  # noqa: TC001  FastAPI reads the annotations
from service.threads import in_thread

if TYPE_CHECKING:
    from service.partials import Partial

router = APIRouter(prefix="/v1/uploads", include_in_schema=False)

VERSION, EXTENSIONS = "1.0.0", "creation,expiration,termination"
SPOKEN = {"Tus-Resumable": VERSION}
PIECE = "application/offset+octet-stream"
LONGEST = 19  # digits of a number of bytes
MayFold = Annotated[Caller, Depends(may("fold"))]


@router.options("")
@router.options("/{upload}")
async def abilities(here: Here) -> Response:
    """What is spoken here."""
    size = str(here.settings.max_upload_bytes)
    named = {"Tus-Version": VERSION, "Tus-Extension": EXTENSIONS, "Tus-Max-Size": size}
    return Response(status_code=204, headers=SPOKEN | named)


@router.post("")
async def create(request: Request, caller: MayFold, here: Here) -> Response:
    """Begin an upload of `Upload-Length` bytes. `Repr-Digest` is that of the whole."""
    _require_version(request)
    length, most = _number(request, "upload-length"), here.settings.max_upload_bytes
    if length > most:
        raise Problem("too-large", f"the upload has {length:,} bytes; at most {most:,} are taken", headers=SPOKEN)
    made = await here.partials.create(caller.key, caller.quota, length, claimed_digests(request.headers))
    return Response(status_code=201, headers={"Location": f"/v1/uploads/{made.id}", **_state(here, made)})


@router.head("/{upload}")
async def offset(request: Request, upload: str, caller: MayFold, here: Here) -> Response:
    """How much of it has arrived."""
    _require_version(request)
    partial = _found(here, caller, upload)
    await here.partials.settled(partial)
    headers = _state(here, partial) | {"Upload-Length": str(partial.record.length), "Cache-Control": "no-store"}
    return Response(status_code=200, headers=headers)


@router.patch("/{upload}")
async def append(request: Request, upload: str, caller: MayFold, here: Here) -> Response:
    """Add what comes after `Upload-Offset` bytes."""
    _require_version(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != PIECE:
        raise Problem("unsupported-media-type", f"a piece of an upload is sent as {PIECE}", headers=SPOKEN)
    partial, begins = _found(here, caller, upload), _number(request, "upload-offset")
    usage = await in_thread(here.ledger.usage, caller.key)
    with here.reservations.begun(caller.key, caller.quota, usage):
        before = partial.offset
        try:
            await here.partials.append(partial, begins, in_time(request.stream(), here.settings))
        finally:
            here.metrics.uploaded.inc(max(partial.offset - before, 0))
    return Response(status_code=204, headers=_state(here, partial))


@router.delete("/{upload}")
async def terminate(request: Request, upload: str, caller: MayFold, here: Here) -> Response:
    """Remove it. What it has become, if it was complete, stays."""
    _require_version(request)
    partial = _found(here, caller, upload)
    await here.partials.settled(partial)
    await here.partials.remove(partial)
    return Response(status_code=204, headers=SPOKEN)


def _require_version(request: Request) -> None:
    if request.headers.get("tus-resumable") != VERSION:
        detail = f"uploads in pieces are those of tus {VERSION}; send Tus-Resumable: {VERSION}"
        raise Problem("precondition-failed", detail, headers={"Tus-Version": VERSION})


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < LONGEST):
        raise Problem("bad-request", f"{name} must be a number of bytes", headers=SPOKEN)
    return int(text)


def _found(here: Service, caller: Caller, upload: str) -> Partial:
    if (partial := here.partials.find(caller.key, upload)) is None:
        raise Problem(
            "not-found", "this key has no such upload; it may have been removed; begin a new one", headers=SPOKEN
        )
    return partial


def _state(here: Service, partial: Partial) -> dict[str, str]:
    seconds = here.partials.remaining(partial)
    headers = SPOKEN | {"Upload-Offset": str(partial.offset)}
    if (blob := blob_of(partial)) is None:
        return headers | {"Upload-Expires": formatdate(time.time() + seconds, usegmt=True)}
    return headers | {"Content-Location": f"/v1/blobs/{blob.sha256}", "Repr-Digest": repr_digest(blob.sha256)}
