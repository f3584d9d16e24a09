"""Records: what the ledger remembers, as immutable values."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from service.blobs import Blob

Status = Literal["queued", "running", "done", "failed", "cancelled"]
Stage = Literal["folding", "writing", "verifying"]
OPEN: tuple[Status, ...] = ("queued", "running")

NOBODY = ""  # the key of requests without one, on loopback


@dataclass(frozen=True)
class Output:
    """What a job leaves: each is the address of a blob of the job's key."""

    result: Blob | None = None
    media: str = ""  # the media type of the result
    report: Blob | None = None  # JSON
    page: Blob | None = None  # the report as HTML

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Those that are there."""
        return tuple(blob for blob in (self.result, self.report, self.page) if blob is not None)


@dataclass(frozen=True)
class Failure:
    """Why a job ended without a result: the slug of a problem and a sentence."""

    slug: str
    detail: str


@dataclass(frozen=True)
class Job:
    """One fold: the content address `id` is what was asked, `key` is who asked."""

    id: str
    key: str
    name: str  # of the model, a plain file name
    input: Blob
    archive: bool  # whether the input is a zip
    options: str  # canonical
    engine: str
    created: float  # seconds since 1970, as all times here
    updated: float
    status: Status = "queued"
    stage: Stage | None = None
    progress: float = 0.0
    attempts: int = 0
    output: Output = field(default_factory=Output)
    failure: Failure | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.status in OPEN


def job_id(sha256: str, name: str, options: str, engine: str) -> str:
    """The content address of a fold: the same model, options and engine have the same one.

    So has the name, which reports and refusals tell.
    """
    return hashlib.sha256(json.dumps([sha256, name, options, engine]).encode()).hexdigest()


@dataclass(frozen=True)
class Quota:
    """What one key may use; None is no bound."""

    rate: str | None = None  # as `limits` writes it: "60/minute"
    open_jobs: int | None = None
    bytes: int | None = None  # kept for the key


@dataclass(frozen=True)
class Key:
    """Who may ask: the secret itself is not remembered."""

    id: str
    name: str
    hash: str  # SHA-256 of the secret, hex
    scopes: tuple[str, ...]
    quota: Quota
    created: float
    revoked: float | None = None


@dataclass(frozen=True)
class Idempotency:
    """A client's own name for one request, and what that request was."""

    token: str
    fingerprint: str


@dataclass(frozen=True)
class Holding:
    """A blob of a key, and when it was last used."""

    key: str
    blob: Blob
    used: float


@dataclass(frozen=True)
class Webhook:
    """An event to deliver: the same id and body with every attempt."""

    id: str
    key: str
    job: str
    url: str
    receiver: str  # the host and port of the URL
    body: str
    attempts: int  # that failed


@dataclass(frozen=True)
class Occupied:
    """What takes no further delivery now."""

    ids: frozenset[str] = frozenset()  # of webhooks that are on their way
    keys: frozenset[str] = frozenset()
    receivers: frozenset[tuple[str, str]] = frozenset()  # each with a key
