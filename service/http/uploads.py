"""Uploads: streams the body of a request to a draft, and refuses it as early as possible."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from service.http.forms import OVERHEAD, Form
from service.http.headers import claimed_digest
from service.openapi.answers import FORM_TYPE
from service.problems import Problem
from service.work import ARCHIVE_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from fastapi import Request

    from service.blobs import Draft
    from service.settings import Settings
    from service.state import Service

# Media types that clients send for a model, or for a file of unknown type.
MODEL_TYPES = {
    "",
    "application/octet-stream",
    "binary/octet-stream",
    "application/onnx",
    "application/x-onnx",
    "application/vnd.onnx",
    "application/x-protobuf",
    "application/protobuf",
}
ARCHIVE_TYPES = {ARCHIVE_TYPE, "application/x-zip-compressed", "application/x-zip"}
ZIP_MAGIC = {b"PK\x03\x04", b"PK\x05\x06"}  # no ONNX model begins like this: it would be field 10 of a ModelProto


@asynccontextmanager
async def uploaded(request: Request, here: Service) -> AsyncGenerator[tuple[Draft, bool, Form | None]]:
    """The upload as a draft, whether it is an archive, and its form, if any. Removed afterwards unless committed.

    Raises:
        Problem: unsupported-media-type, too-large, insufficient-storage, upload-timeout, digest-mismatch,
            unsafe-archive, bad-request.
        ClientDisconnect: the client has disconnected.
    """
    media = _media(request)
    form = Form(request.headers["content-type"]) if media == FORM_TYPE else None
    claimed = claimed_digest(request.headers)
    if form is not None and claimed is not None:
        raise Problem("bad-request", "a digest would be that of the whole form, which is not kept; leave it out")
    settings, blobs = here.settings, here.storage.blobs
    coming = int(request.headers.get("content-length", "0"))
    if coming > settings.max_upload_bytes + (0 if form is None else OVERHEAD):
        raise Problem("too-large", f"the upload has {coming:,} bytes; at most {settings.max_upload_bytes:,} are taken")
    blobs.require_space(coming)
    stream = _in_time(request.stream(), settings)
    file = stream if form is None else form.file(stream)
    async with blobs.receive(file, settings.max_upload_bytes) as draft:
        here.metrics.uploaded.inc(draft.blob.bytes)
        if claimed is not None and claimed != draft.blob.sha256:
            detail = f"what arrived has the SHA-256 {draft.blob.sha256}, not {claimed}; send it again"
            raise Problem("digest-mismatch", detail)
        is_archive = draft.magic in ZIP_MAGIC
        if media in ARCHIVE_TYPES and not is_archive:
            raise Problem("unsafe-archive", "this is no zip; send a zip, or a model as application/octet-stream")
        yield draft, is_archive, form


def _media(request: Request) -> str:
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media not in MODEL_TYPES | ARCHIVE_TYPES | {FORM_TYPE}:
        hint = "send the model itself as application/octet-stream, or a zip as application/zip: curl -T model.onnx URL"
        raise Problem("unsupported-media-type", f"{media!r} is not taken; {hint}")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise Problem("unsupported-media-type", f"the content encoding {coding!r} is not taken; send it as it is")
    return media


async def _in_time(stream: AsyncIterator[bytes], settings: Settings) -> AsyncIterator[bytes]:
    """The chunks. Raises Problem (upload-timeout) if they stop, are too slow, or take too long in total."""
    began, arrived = time.monotonic(), 0
    while True:
        elapsed = time.monotonic() - began
        patience = min(settings.upload_stall_seconds, settings.upload_seconds - elapsed)
        slow = elapsed > settings.upload_stall_seconds and arrived / elapsed < settings.upload_rate
        try:
            async with asyncio.timeout(0 if slow else patience):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            elapsed = time.monotonic() - began
            detail = f"after {elapsed:.0f} seconds {arrived:,} bytes had arrived; send it faster, or in a smaller file"
            raise Problem("upload-timeout", detail, headers={"Connection": "close"}) from None
        arrived += len(chunk)
        yield chunk
