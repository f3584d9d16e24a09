"""Large uploads: in pieces that go on where a connection broke (tus 1.0), so that no byte is sent twice."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from folding.client.requests import Attempts, PassingError, unexpected
from folding.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from folding.client.files import Progress, Upload
    from folding.client.requests import Requests

PLACES = "/v1/uploads"
LARGE = 64 << 20  # bytes; a smaller upload is sent again as a whole
SPOKEN = {"Tus-Resumable": "1.0.0"}
PIECE = "application/offset+octet-stream"
LOST = 3  # uploads that the service does not know any more, until the next one is sent as a whole
UNKNOWN = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}  # what an older service answers
MOVED = "offset-mismatch"  # the service has less or more than this client thinks
_ID = re.compile("[0-9a-f]{1,64}")


def sent_in_pieces(requests: Requests, upload: Upload, progress: Progress | None) -> str | None:
    """Send an upload, however often the connection breaks; return its SHA-256, or None if the service cannot do this.

    It cannot where a load balancer sends every request to another server: none of them has what another one began.

    Raises:
        ServiceError: the problem that the service reported, or "unreachable".
    """
    described = upload.headers()
    begin = SPOKEN | {"Upload-Length": str(upload.nbytes), "Repr-Digest": described["Repr-Digest"]}
    attempts, place, before, lost = Attempts(requests.retries), None, 0, 0
    while True:
        try:
            if place is None:
                with requests.once("POST", PLACES, headers=begin) as answer:
                    place = _place(answer.headers.get("Location", ""))
            offset = _offset(requests, place)
            if offset > before:
                attempts.progressed()
                before = offset
            if offset < upload.nbytes:
                _send(requests, place, upload, offset, progress)
            return upload.sha256()
        except PassingError as failure:
            attempts.failed(failure)
        except ServiceError as error:
            lost += error.status == HTTPStatus.NOT_FOUND
            if error.status in UNKNOWN and (place is None or lost == LOST):
                return None
            if error.status == HTTPStatus.NOT_FOUND:  # the response to HEAD has no slug
                place, before = None, 0
            elif error.slug != MOVED:
                raise
            attempts.failed(PassingError(error))


def _offset(requests: Requests, place: str) -> int:
    """How many bytes of an upload have arrived."""
    with requests.once("HEAD", place, headers=SPOKEN) as answer:
        text = answer.headers.get("Upload-Offset", "")
    if not (text.isascii() and text.isdecimal()):
        raise unexpected("does not say how much of the upload has arrived")
    return int(text)


def _send(requests: Requests, place: str, upload: Upload, offset: int, progress: Progress | None) -> None:
    headers = SPOKEN | {
        "Content-Type": PIECE,
        "Upload-Offset": str(offset),
        "Content-Length": str(upload.nbytes - offset),
    }
    with requests.once("PATCH", place, headers=headers, content=_rest(upload, offset, progress)):
        pass


def _rest(upload: Upload, offset: int, progress: Progress | None) -> Iterator[bytes]:
    passed = 0
    for block in upload.observed(progress):
        if passed + len(block) > offset:
            yield block[max(offset - passed, 0) :]
        passed += len(block)


def _place(location: str) -> str:
    name = location.rpartition("/")[2]
    if not _ID.fullmatch(name):
        raise unexpected("names no place for the upload")
    return f"{PLACES}/{name}"
