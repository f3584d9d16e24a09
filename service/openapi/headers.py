"""The headers of requests and responses in the OpenAPI document."""

from __future__ import annotations

import re
from typing import Any

Header = dict[str, Any]

ADDRESS = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
DIGEST_FORM = "^[0-9a-f]{64}$"
DIGEST = "sha-256=:n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=:"
JOB_PATH = f"/v1/jobs/{ADDRESS}"
UPLOAD = "5d2c41402abc4b2a76b9719d911017c5"
UPLOAD_FORM = "^[0-9a-f]{32}$"
PLACE_FORM = "^(/[^/?#]+)*/v1/(jobs/[0-9a-f]{64}|uploads/[0-9a-f]{32})$"
TUS = "1.0.0"  # the version that is spoken here
APPLIED_FORM = r"^(respond-async|wait=\d+)$"
RANGE_FORM = r"^bytes (\d+-\d+|\*)/\d+$"


def _response(description: str, example: str, pattern: str = "^[ -~]+$") -> Header:
    return {"description": description, "schema": {"type": "string", "pattern": pattern}, "example": example}


OF_ANSWERS = {
    "Accept-Ranges": _response("What parts can be asked for in", "bytes", "^bytes$"),
    "Allow": _response("What is allowed here", "GET, HEAD, DELETE"),
    "Bnfold-Job": _response("The id of the job", ADDRESS, DIGEST_FORM),
    "Cache-Control": _response("How it may be kept", "private, no-cache"),
    "Content-Disposition": _response("What a download is called", 'attachment; filename="model.folded.onnx"'),
    "Content-Location": _response("Where the same can be had again", f"{JOB_PATH}/result"),
    "Content-Range": _response("Which part this is, or how many bytes there are", "bytes 0-99/354700", RANGE_FORM),
    "ETag": _response("Another one where the answer is; of a file, its SHA-256", f'"{ADDRESS}"', '^"[0-9a-f]{64}"$'),
    "Link": _response("Where its report is", f'<{JOB_PATH}/report>; rel="describedby"'),
    "Location": _response("Where the job is, or the upload", JOB_PATH, PLACE_FORM),
    "Preference-Applied": _response("The preferences that were followed", "respond-async", APPLIED_FORM),
    "Repr-Digest": _response("The SHA-256 of the whole, RFC 9530", DIGEST, "^sha-256=:[A-Za-z0-9+/]{43}=:$"),
    "Retry-After": _response("Seconds after which to ask again", "30", "^[0-9]+$"),
    "Tus-Extension": _response("The extensions that are spoken here", "creation,expiration,termination"),
    "Tus-Max-Size": _response("The largest upload", "8589934592", "^[0-9]+$"),
    "Tus-Resumable": _response("The version of tus", TUS, f"^{re.escape(TUS)}$"),
    "Tus-Version": _response("The versions of tus that are spoken here", TUS),
    "Upload-Expires": _response("When it is removed if nothing more arrives", "Thu, 01 Jan 2026 12:00:00 GMT"),
    "Upload-Length": _response("The bytes of the whole", "361250", "^[0-9]+$"),
    "Upload-Offset": _response("The bytes that arrived", "262144", "^[0-9]+$"),
    "Vary": _response("What else the answer depends on", "Accept"),
    "WWW-Authenticate": _response("How to send a key", 'Bearer realm="bnfold"'),
    "X-Request-ID": _response("Names this request in the log", "7c9e6679b5a1f3d2", "^[A-Za-z0-9._-]{1,64}$"),
}


def headers(*always: str, sometimes: tuple[str, ...] = ()) -> dict[str, Header]:
    """The headers of a response: those that it always has, and those that it sometimes has."""
    return {name: OF_ANSWERS[name] | ({"required": True} if name in always else {}) for name in (*always, *sometimes)}


def _sent(name: str, description: str, example: str | int, *, required: bool = False, **schema: Any) -> Header:
    """A request header. A value of another form counts as not sent, unless the schema says more."""
    header = {"name": name, "in": "header", "required": required, "description": description, "example": example}
    return header | {"schema": {"type": "string", **schema}}


TOKEN_LENGTH = 255
TOKEN_FORM = f"^[!-~]{{1,{TOKEN_LENGTH}}}$"  # of an Idempotency-Key
REQUEST_ID = _sent(
    "X-Request-ID", "a name for this request in the server's log: up to 64 of A-Z a-z 0-9 . _ -", "mine-1"
)
TRACEPARENT = _sent(
    "traceparent",
    "the trace that this request belongs to, W3C Trace Context: the job and its webhook continue it",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)
PREFER = _sent("Prefer", "`respond-async`: answer with 202 at once; `wait=N`: after N seconds", "wait=10")
IDEMPOTENCY = _sent(
    "Idempotency-Key",
    "the client's own name for this request; a second one of the name must ask for the same",
    "6f1c1f0e-8f55-4a3c-9d6a-52a8f2f4c0a1",
    pattern=TOKEN_FORM,
)
CLAIMED = _sent("Repr-Digest", "the SHA-256 of the body, RFC 9530: another body is refused", DIGEST)
NONE_MATCH = _sent("If-None-Match", "the ETag of what the client has: 304 where that is all there is", f'"{ADDRESS}"')
RANGE = _sent("Range", "one range of bytes; for several, all are sent", "bytes=0-99")
IF_RANGE = _sent("If-Range", "the ETag of what the client has a part of: of anything else, all is sent", f'"{ADDRESS}"')
RESUMABLE = _sent("Tus-Resumable", "the version of tus, https://tus.io", TUS, required=True, enum=[TUS])
BYTES: dict[str, Any] = {"type": "integer", "minimum": 0}
LENGTH = _sent("Upload-Length", "the bytes of the whole", 361_250, required=True, **BYTES)
OFFSET = _sent("Upload-Offset", "the bytes that arrived, after which this piece begins", 0, required=True, **BYTES)


def accept(*offered: str) -> Header:
    """The Accept header of an operation with several media types; without it, the first one is sent."""
    return _sent("Accept", f"one of {', '.join(offered)}; the first unless another is preferred", offered[-1])
