"""Delivery: a blob as a response, whole or in part, with its address as entity tag; streamed in blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Response
from fastapi.responses import StreamingResponse

from service.http.headers import etag, matches, repr_digest, requested_range
from service.problems import Problem

if TYPE_CHECKING:
    from fastapi import Request

    from service.blobs import Blob, BlobStore

GONE = "the content is not here any more; fold the model again"
KEPT_BY_CLIENT_ONLY = {"Cache-Control": "private, no-cache"}  # kept, but asked for again with its entity tag
SAFE = {"GET", "HEAD"}


async def deliver(
    request: Request, blobs: BlobStore, blob: Blob, media: str, headers: dict[str, str] | None = None
) -> Response:
    """The response with a blob, to any method: conditions and ranges count for GET and HEAD.

    Raises:
        Problem: not-found (it was removed), range-not-satisfiable.
    """
    tag = etag(blob.sha256)
    told = {"ETag": tag, "Repr-Digest": repr_digest(blob.sha256), **KEPT_BY_CLIENT_ONLY, **(headers or {})}
    if request.method in SAFE and matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=told)
    if await blobs.size(blob.sha256) is None:
        raise Problem("not-found", GONE)
    start, end, status = 0, blob.bytes, 200
    if request.method in SAFE:
        told["Accept-Ranges"] = "bytes"
        part = requested_range(request.headers, blob.bytes, tag) if request.method == "GET" else None
        if part is not None:
            start, end, status = *part, 206
            told["Content-Range"] = f"bytes {start}-{end - 1}/{blob.bytes}"
    told["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=told, media_type=media)
    return StreamingResponse(blobs.read(blob.sha256, start, end), status, told, media)
