"""Delivery: a blob as a streamed response, whole or a range, with its digest as the entity tag."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Response
from fastapi.responses import StreamingResponse

from service.blobs import DamagedError
from service.http.headers import etag, matches, repr_digest, requested_range
from service.problems import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import Request

    from service.blobs import Blob
    from service.state import Service
    from service.tracing.spans import Attributes

GONE = "the disk of the server lost this content; send the model again"
KEPT_BY_CLIENT_ONLY = {"Cache-Control": "private, no-cache"}  # stored, but revalidated by its entity tag
SAFE = {"GET", "HEAD"}


async def deliver(
    request: Request, here: Service, blob: Blob, media: str, headers: dict[str, str] | None = None
) -> Response:
    """The response with a blob, for any method. Conditions apply to GET and HEAD, ranges to GET.

    Raises:
        Problem: not-found (the disk lost the blob), range-not-satisfiable.
    """
    tag = etag(blob.sha256)
    fields = {"ETag": tag, "Repr-Digest": repr_digest(blob.sha256), **KEPT_BY_CLIENT_ONLY, **(headers or {})}
    if request.method in SAFE and matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=fields)
    if not await here.engine.has_whole(blob):
        raise Problem("not-found", GONE)
    start, end, status = 0, blob.bytes, 200
    if request.method in SAFE:
        fields["Accept-Ranges"] = "bytes"
        part = requested_range(request.headers, blob.bytes, tag) if request.method == "GET" else None
        if part is not None:
            start, end, status = *part, 206
            fields["Content-Range"] = f"bytes {start}-{end - 1}/{blob.bytes}"
    fields["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=fields, media_type=media)
    content = _content(here, blob, start, end, request.state.span.traceparent)
    return StreamingResponse(content, status, fields, media)


async def _content(here: Service, blob: Blob, start: int, end: int, traceparent: str | None) -> AsyncIterator[bytes]:
    """The bytes of a blob. If they are not those of its digest, the response breaks off before its end."""
    about: Attributes = {"bnfold.bytes": end - start}
    try:
        with here.traces.span("delivery", traceparent, attributes=about):
            async for block in here.storage.blobs.read(blob.sha256, start, end):
                yield block
    except DamagedError:
        await here.engine.has_whole(blob, by_content=True)
        raise
