"""Problems (RFC 9457): every way in which a request or a job can fail. Statuses and titles are defined only here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse

TYPE = "/problems/"  # of this server, where each has a page; RFC 9457 allows references
MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """What all problems with one slug share."""

    status: int
    title: str
    advice: str  # what to do about it


KINDS = {
    "invalid-model": Kind(
        422,
        "The model cannot be read",
        "check that the file arrived whole and that onnx.checker accepts it, or export it once more",
    ),
    "unsafe-archive": Kind(
        422,
        "The archive is not safe to unpack",
        "pack one .onnx file and the data files it names, without folders: zip -j0 ...",
    ),
    "too-large": Kind(
        413,
        "It is larger than this server takes",
        "fold it on your own machine, or ask the operator to raise the limit that the detail names",
    ),
    "unsupported-media-type": Kind(
        415,
        "This content type is not taken",
        "send the model as application/octet-stream, or a zip of it and its data as application/zip",
    ),
    "invalid-option": Kind(
        422, "An option is not valid", "change the option that the detail names; /docs lists all of them"
    ),
    "verification-failed": Kind(
        422,
        "The folded model differs from the original",
        "keep the original, and please report the model: this should not happen",
    ),
    "nothing-to-fold": Kind(
        422,
        "Nothing could be folded",
        "read the report, which says why each node stays, or leave out require_change to get the model back",
    ),
    "target-refused": Kind(
        422,
        "The target does not run the folded model as a whole",
        "read the report, which says what the target refuses, or send allow_fallback to get the file all the same",
    ),
    "timed-out": Kind(422, "It took too long", "fold it on your own machine, or ask the operator for more time"),
    "out-of-memory": Kind(
        422,
        "It took too much memory",
        "fold it on your own machine, or without verification, which takes most of the memory",
    ),
    "crashed": Kind(422, "The process that folded the model died", "please report the model, if you can share it"),
    "cancelled": Kind(409, "The job was cancelled", "send the model again if you still want it folded"),
    "in-use": Kind(
        409,
        "It is needed by a job that has not ended",
        "wait until the job that needs it has ended, or cancel that job",
    ),
    "idempotency-conflict": Kind(
        422, "This idempotency key was used for another request", "use a new Idempotency-Key for each request"
    ),
    "digest-mismatch": Kind(400, "What arrived is not what was sent", "send the file again: it changed on its way"),
    "bad-request": Kind(400, "The request cannot be understood", "read the detail, and correct the request"),
    "unauthorized": Kind(
        401,
        "An API key is needed",
        "send Authorization: Bearer bnf_..., with a key that the operator makes with bnfold keys add",
    ),
    "forbidden": Kind(403, "This is not allowed", "ask the operator for a key that may do this"),
    "not-found": Kind(
        404,
        "There is nothing here",
        "check the address; results are removed after a while, and sending the model again makes them anew",
    ),
    "method-not-allowed": Kind(405, "This method is not allowed here", "use a method that the header Allow names"),
    "upload-timeout": Kind(408, "The upload took too long", "try again over a faster connection"),
    "not-ready": Kind(
        409, "The job has not ended yet", "wait for the end of the job: GET /v1/jobs/ID?wait=30&until=done"
    ),
    "offset-mismatch": Kind(
        409, "The upload does not end there", "ask with HEAD how many bytes it has, and go on from there"
    ),
    "precondition-failed": Kind(
        412, "This version of the protocol is not spoken here", "send Tus-Resumable: 1.0.0, as https://tus.io describes"
    ),
    "range-not-satisfiable": Kind(416, "There is no such range", "fetch the file from its beginning"),
    "quota-exceeded": Kind(
        429, "The quota of this key is used up", "wait as Retry-After says, or delete what is no longer needed"
    ),
    "internal": Kind(
        500, "The server made a mistake", "try again; if it stays so, report the X-Request-ID to the operator"
    ),
    "busy": Kind(
        503, "The server has no room for another job now", "wait as Retry-After says, and send the request again"
    ),
    "insufficient-storage": Kind(
        507, "The server has no disk space left", "try later; the operator can free disk space"
    ),
    "killed": Kind(
        422, "The process that folded the model was killed", "send the model again, or fold it on your machine"
    ),
    "unavailable": Kind(503, "The server cannot use its records now", "wait as Retry-After says, and send it again"),
}

# A retry can end differently: jobs that ended in these problems run again when they are submitted again.
WORTH_A_RETRY = {
    "cancelled",
    "timed-out",
    "out-of-memory",
    "crashed",
    "killed",
    "too-large",
    "insufficient-storage",
    "internal",
}


class Problem(Exception):  # noqa: N818  the name in RFC 9457
    """Ends a request: a slug, and a detail, which is a sentence that says what is wrong, why, and what to do."""

    def __init__(
        self, slug: str, detail: str, *, instance: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.slug, self.detail, self.instance = slug, detail, instance
        self.headers = headers or {}

    def as_dict(self) -> dict[str, Any]:
        """The JSON form, RFC 9457."""
        return as_dict(self.slug, self.detail, self.instance)


def as_dict(slug: str, detail: str, instance: str | None = None) -> dict[str, Any]:
    """The JSON form of a problem; `instance` is omitted if there is none."""
    kind = KINDS[slug]
    fields = {"type": TYPE + slug, "title": kind.title, "status": kind.status, "detail": detail}
    return fields if instance is None else fields | {"instance": instance}


def problem_json(problem: Problem, root: str = "") -> dict[str, Any]:
    """The JSON form of a problem; `root` is the path under which a proxy shows the server."""
    body = problem.as_dict()
    return body | {name: root + body[name] for name in ("type", "instance") if name in body}


def respond(problem: Problem, root: str = "") -> JSONResponse:
    """The response that reports a problem; `root` as in `problem_json`."""
    body = problem_json(problem, root)
    return JSONResponse(body, body["status"], problem.headers, MEDIA_TYPE)
