"""What the OpenAPI document says of requests and answers beyond what their types do."""

from __future__ import annotations

from typing import Any

from service.problems import KINDS, MEDIA_TYPE, as_dict
from service.views import JobView, ProblemView
from service.work import ARCHIVE_TYPE, MODEL_TYPE

JSON_TYPE, HTML_TYPE, EVENTS_TYPE = "application/json", "text/html", "text/event-stream"
Responses = dict[int | str, dict[str, Any]]

BINARY = {"schema": {"type": "string", "format": "binary"}}
FILES = {MODEL_TYPE: BINARY, ARCHIVE_TYPE: BINARY}
BODY = {"requestBody": {"required": True, "description": "The model, or a zip of it", "content": FILES}}

ADDRESS = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
JOB = {
    "id": ADDRESS,
    "status": "done",
    "stage": None,
    "progress": 1.0,
    "created": "2026-01-01T12:00:00.000Z",
    "updated": "2026-01-01T12:00:01.250Z",
    "attempts": 1,
    "name": "model.onnx",
    "input": {"sha256": ADDRESS, "bytes": 361_250},
    "options": {"keep": [], "leftover": "keep", "verify": True},
    "result": {"sha256": ADDRESS, "bytes": 354_700, "href": f"/v1/jobs/{ADDRESS}/result"},
    "report": {"href": f"/v1/jobs/{ADDRESS}/report"},
    "problem": None,
    "links": {
        "self": f"/v1/jobs/{ADDRESS}",
        "result": f"/v1/jobs/{ADDRESS}/result",
        "report": f"/v1/jobs/{ADDRESS}/report",
    },
}


def problems(*slugs: str) -> Responses:
    """The answers to requests that end in one of these problems, with an example of each."""
    told: Responses = {}
    for slug in slugs:
        kind = KINDS[slug]
        answer = told.setdefault(
            kind.status, {"model": ProblemView, "description": "", "content": {MEDIA_TYPE: {"examples": {}}}}
        )
        answer["description"] = "; ".join(filter(None, (answer["description"], kind.title)))
        answer["content"][MEDIA_TYPE]["examples"][slug] = {"value": as_dict(slug, f"{kind.title}; what to do.")}
    return told


def content(description: str, *media: str) -> Responses:
    """An answer of a content of one of these types."""
    return {200: {"description": description, "content": {name: BINARY if name in FILES else {} for name in media}}}


def part() -> Responses:
    """The answers to requests with conditions and ranges."""
    return {
        206: {"description": "The part that was asked for"},
        304: {"description": "The client has it already"},
        **problems("range-not-satisfiable"),
    }


OF_ALL = ("unauthorized", "forbidden", "quota-exceeded", "invalid-option")
OF_UPLOADS = (
    *OF_ALL,
    "bad-request",
    "digest-mismatch",
    "upload-timeout",
    "too-large",
    "unsupported-media-type",
    "invalid-model",
    "unsafe-archive",
    "nothing-to-fold",
    "verification-failed",
    "timed-out",
    "out-of-memory",
    "crashed",
    "idempotency-conflict",
    "cancelled",
    "busy",
    "insufficient-storage",
)
ACCEPTED: Responses = {
    202: {
        "model": JobView,
        "description": "The job goes on; its address is in Location",
        "content": {JSON_TYPE: {"example": JOB | {"status": "queued", "progress": 0.0, "result": None}}},
    }
}
FOLDED = {
    **content("The folded model; with `Accept: application/json` its report", MODEL_TYPE, ARCHIVE_TYPE, JSON_TYPE),
    **ACCEPTED,
}
ONE_JOB: Responses = {200: {"description": "The job", "content": {JSON_TYPE: {"example": JOB}, EVENTS_TYPE: {}}}}
