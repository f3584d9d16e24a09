"""Bodies and responses in the OpenAPI document, beyond what the types of the operations say."""

from __future__ import annotations

from typing import Any

from service.openapi.headers import ADDRESS, headers
from service.problems import KINDS, MEDIA_TYPE, as_dict
from service.work import ARCHIVE_TYPE, MODEL_TYPE

JSON_TYPE, HTML_TYPE, EVENTS_TYPE = "application/json", "text/html", "text/event-stream"
FORM_TYPE, PIECE_TYPE = "multipart/form-data", "application/offset+octet-stream"
Responses = dict[int | str, dict[str, Any]]

BINARY = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
FILES = {MODEL_TYPE: BINARY, ARCHIVE_TYPE: BINARY}
TEXT = {"schema": {"type": "string"}}
PROBLEM = {"$ref": "#/components/schemas/ProblemView"}
JOB = {"$ref": "#/components/schemas/JobView"}

RESULT = f"/v1/jobs/{ADDRESS}/result"
REPORT = f"/v1/jobs/{ADDRESS}/report"
QUEUED = {
    "id": ADDRESS,
    "status": "queued",
    "stage": None,
    "progress": 0.0,
    "created": "2026-01-01T12:00:00.000Z",
    "updated": "2026-01-01T12:00:01.250Z",
    "attempts": 0,
    "name": "model.onnx",
    "input": {"sha256": ADDRESS, "bytes": 361_250},
    "options": {"keep": [], "leftover": "keep", "verify": True},
    "result": None,
    "report": None,
    "problem": None,
    "links": {"self": f"/v1/jobs/{ADDRESS}", "result": None, "report": None},
}
DONE = QUEUED | {
    "status": "done",
    "progress": 1.0,
    "attempts": 1,
    "result": {"sha256": ADDRESS, "bytes": 354_700, "href": RESULT},
    "report": {"href": REPORT},
    "links": {"self": f"/v1/jobs/{ADDRESS}", "result": RESULT, "report": REPORT},
}
FOLD_REPORT = {"schema": {"type": "object", "required": ["version", "bn_before", "bn_after", "changed"]}}

ALWAYS_THERE = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    412: ("Tus-Version",),
    416: ("Content-Range",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
SOMETIMES_THERE = {
    409: ("Bnfold-Job", "Link", "Retry-After", "Upload-Offset"),
    413: ("Bnfold-Job",),
    422: ("Bnfold-Job", "Link"),
}


def problems(*slugs: str) -> Responses:
    """The responses for these problems by status, with an example of each problem."""
    responses: Responses = {}
    for slug in slugs:
        kind = KINDS[slug]
        answer = responses.setdefault(kind.status, _problem(kind.status))
        answer["description"] = "; ".join(filter(None, (answer["description"], kind.title)))
        answer["content"][MEDIA_TYPE]["examples"][slug] = {
            "value": as_dict(slug, f"{kind.title[:1].lower()}{kind.title[1:]}; {kind.advice}")
        }
    return responses


def _problem(status: int) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": PROBLEM, "examples": {}}}
    names = headers(*ALWAYS_THERE.get(status, ()), sometimes=SOMETIMES_THERE.get(status, ()))
    return {"description": "", "headers": names, "content": content}


def content(
    description: str, *media: str, always: tuple[str, ...] = (), sometimes: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A response with one of these media types, and its headers."""
    kinds = FILES | {JSON_TYPE: FOLD_REPORT, HTML_TYPE: TEXT, EVENTS_TYPE: TEXT}
    names = headers(*always, sometimes=sometimes)
    return {"description": description, "headers": names, "content": {name: kinds[name] for name in media}}


OF_A_FILE = ("ETag", "Repr-Digest", "Cache-Control")
PART = ("Accept-Ranges", "Content-Range", *OF_A_FILE)


def file(description: str, *media: str, sometimes: tuple[str, ...] = ()) -> Responses:
    """The responses for a file: whole, a range, not modified, or range not satisfiable."""
    return {
        200: content(description, *media, always=("Accept-Ranges", *OF_A_FILE), sometimes=sometimes),
        206: content("The part that was asked for", *media, always=PART, sometimes=sometimes)
        | {"content": dict.fromkeys(media, BINARY)},
        304: content("The client has it already", always=OF_A_FILE, sometimes=sometimes),
        **problems("range-not-satisfiable"),
    }


def without_content(responses: Responses) -> Responses:
    """The same responses for HEAD, which have no content."""
    return {
        status: {name: part for name, part in answer.items() if name != "content"}
        for status, answer in responses.items()
        if status not in {206, 416}
    }


OF_ALL = ("forbidden",)
OF_KEYS = ("unauthorized", "forbidden", "quota-exceeded", "unavailable")
OF_WORK = (
    "too-large",
    "invalid-model",
    "unsafe-archive",
    "invalid-option",
    "nothing-to-fold",
    "target-refused",
    "verification-failed",
    "timed-out",
    "out-of-memory",
    "crashed",
    "killed",
    "cancelled",
    "insufficient-storage",
)
OF_UPLOADS = (
    *OF_KEYS,
    "bad-request",
    "digest-mismatch",
    "upload-timeout",
    "idempotency-conflict",
    "unsupported-media-type",
    "busy",
    *OF_WORK,
)
OF_BATCHES = (*OF_KEYS, "bad-request", "upload-timeout", "unsupported-media-type", "too-large", "invalid-option")


def _links(*operations: str, job: str) -> dict[str, Any]:
    """Links from a response to operations on the job whose id is at a runtime expression (OpenAPI 3.1, 4.8.20)."""
    return {name: {"operationId": name, "parameters": {"job_id": job}} for name in operations}


OF_A_JOB = ("job", "result", "report")
ACCEPTED: Responses = {
    202: content(
        "The job goes on; its address is in Location",
        JSON_TYPE,
        always=("Location", "Bnfold-Job"),
        sometimes=("Preference-Applied",),
    )
    | {"content": {JSON_TYPE: {"schema": JOB}}, "links": _links(*OF_A_JOB, job="$response.header.Bnfold-Job")}
}
FOLDED: Responses = {
    200: content(
        "The folded model; with `Accept: application/json` its report",
        *FILES,
        JSON_TYPE,
        always=(*OF_A_FILE, "Bnfold-Job", "Link", "Content-Location"),
        sometimes=("Content-Disposition", "Preference-Applied"),
    )
    | {"links": _links(*OF_A_JOB, job="$response.header.Bnfold-Job")},
    **ACCEPTED,
}
ONE_JOB: Responses = {
    200: {
        "description": "The job",
        "headers": headers("Cache-Control", sometimes=("ETag", "Vary")),
        "content": {JSON_TYPE: {"schema": JOB}, EVENTS_TYPE: TEXT},
        "links": _links("result", "report", job="$response.body#/id"),
    },
    304: content("The job is as the client knows it", always=("ETag", "Cache-Control", "Vary")),
}
LISTED: dict[str, Any] = {"links": _links(*OF_A_JOB, job="$response.body#/jobs/0/id")}
