"""Problems (RFC 9457): every way in which a request or a job can fail. Statuses and titles are defined only here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse

TYPE = "https://bnfold.dev/problems/"
MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """What all problems with one slug share."""

    status: int
    title: str


KINDS = {
    "invalid-model": Kind(422, "The model cannot be read"),
    "unsafe-archive": Kind(422, "The archive is not safe to unpack"),
    "too-large": Kind(413, "It is larger than this server takes"),
    "unsupported-media-type": Kind(415, "This content type is not taken"),
    "invalid-option": Kind(422, "An option is not valid"),
    "verification-failed": Kind(422, "The folded model differs from the original"),
    "nothing-to-fold": Kind(422, "Nothing could be folded"),
    "target-refused": Kind(422, "The target does not run the folded model as a whole"),
    "timed-out": Kind(422, "It took too long"),
    "out-of-memory": Kind(422, "It took too much memory"),
    "crashed": Kind(422, "The process that folded the model died"),
    "killed": Kind(422, "The process that folded the model was killed"),
    "cancelled": Kind(409, "The job was cancelled"),
    "in-use": Kind(409, "It is needed by a job that has not ended"),
    "idempotency-conflict": Kind(422, "This idempotency key was used for another request"),
    "digest-mismatch": Kind(400, "What arrived is not what was sent"),
    "bad-request": Kind(400, "The request cannot be understood"),
    "unauthorized": Kind(401, "An API key is needed"),
    "forbidden": Kind(403, "This is not allowed"),
    "not-found": Kind(404, "There is nothing here"),
    "method-not-allowed": Kind(405, "This method is not allowed here"),
    "upload-timeout": Kind(408, "The upload took too long"),
    "not-ready": Kind(409, "The job has not ended yet"),
    "range-not-satisfiable": Kind(416, "There is no such range"),
    "quota-exceeded": Kind(429, "The quota of this key is used up"),
    "internal": Kind(500, "The server made a mistake"),
    "unavailable": Kind(503, "The server cannot use its records now"),
    "busy": Kind(503, "The server has no room for another job now"),
    "insufficient-storage": Kind(507, "The server has no disk space left"),
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


def respond(problem: Problem, root: str = "") -> JSONResponse:
    """The response that reports a problem; `root` is the path under which a proxy shows the server."""
    body = problem.as_dict()
    if "instance" in body:
        body["instance"] = root + body["instance"]
    return JSONResponse(body, body["status"], problem.headers, MEDIA_TYPE)
