"""Uploads: streams the body of a request to a draft, and refuses it as early as possible."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from service.http.forms import OVERHEAD, Form
from service.http.headers import claimed_digests
from service.openapi.answers import FORM_TYPE
from service.problems import Problem
from service.reservations import STEP, usage_of
from service.work import ARCHIVE_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from fastapi import Request

    from service.blobs import Draft
    from service.http.access import Caller
    from service.reservations import Reservation
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
STORED_BY = "sha-256"  # the digest that is computed anyway, because it is the address of a blob
ARCHIVE_TYPES = {ARCHIVE_TYPE, "application/x-zip-compressed", "application/x-zip"}
MOST_FILES = 100  # of a batch
OF_A_FORM = "a digest would be that of the whole form, which is not kept; leave it out"
ZIP_MAGIC = {b"PK\x03\x04", b"PK\x05\x06"}  # no ONNX model begins like this: it would be field 10 of a ModelProto


@asynccontextmanager
async def uploaded(request: Request, here: Service, caller: Caller) -> AsyncGenerator[tuple[Draft, bool, Form | None]]:
    """The upload as a draft, whether it is an archive, and its form, if any. Removed afterwards unless committed.

    Raises:
        Problem: busy, quota-exceeded, unsupported-media-type, too-large, insufficient-storage, upload-timeout,
            digest-mismatch, unsafe-archive, bad-request.
        ClientDisconnect: the client has disconnected.
    """
    media = _media(request)
    form = Form(request.headers["content-type"]) if media == FORM_TYPE else None
    claimed = claimed_digests(request.headers)
    if form is not None and claimed:
        raise Problem("bad-request", OF_A_FORM)
    settings = here.settings
    coming = int(request.headers.get("content-length", "0"))
    if coming > settings.max_upload_bytes + (0 if form is None else OVERHEAD):
        raise Problem("too-large", f"the upload has {coming:,} bytes; at most {settings.max_upload_bytes:,} are taken")
    usage = await usage_of(here.ledger, caller.key, caller.quota)
    with here.reservations.begun(caller.key, caller.quota, usage) as reservation:
        await _reserve(here, reservation, coming if form is None else max(coming - OVERHEAD, 0))
        stream = in_time(request.stream(), settings)
        file = _counted(stream if form is None else form.file(stream), here, reservation)
        others = {name: hashlib.new(name.replace("-", "")) for name in claimed.keys() - {STORED_BY}}
        file = _hashed(file, list(others.values())) if others else file
        async with _spooled(request, here, file, reservation) as draft:
            arrived = {name: found.hexdigest() for name, found in others.items()} | {STORED_BY: draft.blob.sha256}
            for name, stated in claimed.items():
                if arrived[name] != stated:
                    detail = f"what arrived has the {name} {arrived[name]}, not {stated}; send it again"
                    raise Problem("digest-mismatch", detail)
            is_archive = draft.magic in ZIP_MAGIC
            if media in ARCHIVE_TYPES and not is_archive:
                raise Problem("unsafe-archive", "this is no zip; send a zip, or a model as application/octet-stream")
            yield draft, is_archive, form


@asynccontextmanager
async def batch(
    request: Request, here: Service, caller: Caller
) -> AsyncGenerator[tuple[Form, Sequence[Draft | Problem]]]:
    """The files of a form, in its order: each as a draft, or the problem for which it was refused.

    Each counts as one upload. Nothing is accepted before all have arrived, so a form that breaks off leaves nothing.

    Raises:
        Problem: unsupported-media-type, bad-request, too-large, upload-timeout: of the form as a whole.
        ClientDisconnect: the client has disconnected.
    """
    if _media(request) != FORM_TYPE:
        detail = "a batch is a form with several files: curl -F model=@a.onnx -F model=@b.onnx URL"
        raise Problem("unsupported-media-type", detail)
    if claimed_digests(request.headers):
        raise Problem("bad-request", OF_A_FORM)
    form = Form(request.headers["content-type"], MOST_FILES)
    found: list[Draft | Problem] = []
    coming = int(request.headers.get("content-length", STEP + 1))
    async with AsyncExitStack() as stack:
        async for _, file in form.files(in_time(request.stream(), here.settings)):
            one = _one_of_many(request, here, caller, file, step=STEP if coming > STEP else 0)
            try:
                found.append(await stack.enter_async_context(one))
            except Problem as problem:
                if form.is_broken:
                    raise
                found.append(problem)
        yield form, found


@asynccontextmanager
async def _one_of_many(
    request: Request, here: Service, caller: Caller, file: AsyncIterator[bytes], step: int
) -> AsyncGenerator[Draft]:
    usage = await usage_of(here.ledger, caller.key, caller.quota)
    with here.reservations.begun(caller.key, caller.quota, usage) as reservation:
        async with _spooled(request, here, _counted(file, here, reservation, step), reservation) as draft:
            reservation.bytes = draft.blob.bytes  # no more than that, for those that come after it
            yield draft


@asynccontextmanager
async def _spooled(
    request: Request, here: Service, file: AsyncIterator[bytes], reservation: Reservation
) -> AsyncGenerator[Draft]:
    """A file as a draft, for which there is a reservation."""
    async with AsyncExitStack() as stack:
        span = stack.enter_context(here.traces.span("upload", request.state.span.traceparent))
        draft = await stack.enter_async_context(here.storage.blobs.receive(file, here.settings.max_upload_bytes))
        reservation.is_complete = True
        here.metrics.uploaded.inc(draft.blob.bytes)
        span.note({"bnfold.bytes": draft.blob.bytes})
        span.end()
        yield draft


async def _reserve(here: Service, reservation: Reservation, size: int) -> None:
    """Let an upload have `size` bytes: of the quota of its key, and on the disk."""
    usage = await usage_of(here.ledger, reservation.key, reservation.quota)
    here.reservations.grow(reservation, size, usage)
    await here.storage.make_room(here.reservations.coming)


async def _hashed(file: AsyncIterator[bytes], hashes: Sequence[Any]) -> AsyncIterator[bytes]:
    async for chunk in file:
        for one in hashes:
            one.update(chunk)
        yield chunk


async def _counted(
    file: AsyncIterator[bytes], here: Service, reservation: Reservation, step: int = STEP
) -> AsyncIterator[bytes]:
    """The chunks of an upload, which reserves `step` bytes more when more arrives than it announced."""
    most = reservation.quota.bytes
    async for chunk in file:
        reservation.arrived += len(chunk)
        if reservation.arrived > reservation.bytes:
            ahead = reservation.arrived + step
            await _reserve(here, reservation, ahead if most is None else max(reservation.arrived, min(ahead, most)))
        yield chunk


def _media(request: Request) -> str:
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media not in MODEL_TYPES | ARCHIVE_TYPES | {FORM_TYPE}:
        hint = "send the model itself as application/octet-stream, or a zip as application/zip: curl -T model.onnx URL"
        raise Problem("unsupported-media-type", f"{media!r} is not taken; {hint}")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise Problem("unsupported-media-type", f"the content encoding {coding!r} is not taken; send it as it is")
    return media


async def in_time(stream: AsyncIterator[bytes], settings: Settings) -> AsyncIterator[bytes]:
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
