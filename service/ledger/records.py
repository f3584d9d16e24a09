"""Records: what the ledger stores, as immutable values."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from service.blobs import Blob

Status = Literal["queued", "running", "done", "failed", "cancelled"]
Stage = Literal["folding", "writing", "verifying"]
OPEN: tuple[Status, ...] = ("queued", "running")

PAUSE, LONGEST_PAUSE = 1.0, 300.0  # seconds after the second death of a server; it doubles
SMALL_BYTES = 16 << 20  # the largest upload that counts as small
NOBODY = ""  # the key id of requests without a key, on loopback


def has_share(key: str, taken: int, free: int) -> bool:
    """Whether a key that has `taken` places may take another one of the `free` ones.

    A key may have as many places as it leaves free: one key takes half of all places, two take a third each, and there
    is always one for the next (dynamic thresholds, Choudhury and Hahne, 1998). Without keys, there is nobody to share.
    """
    return free > 0 and (key == NOBODY or taken < free)


@dataclass(frozen=True)
class Output:
    """The output of a job: blobs that the job's key holds."""

    result: Blob | None = None
    media: str = ""  # the media type of the result
    report: Blob | None = None  # JSON
    page: Blob | None = None  # the report as HTML

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """The blobs that exist."""
        return tuple(blob for blob in (self.result, self.report, self.page) if blob is not None)


@dataclass(frozen=True)
class Failure:
    """Why a job ended without a result: the slug and the detail of a problem."""

    slug: str
    detail: str


@dataclass(frozen=True)
class Job:
    """One fold: `id` is a digest of the request, `key` is the id of the key that sent it."""

    id: str
    key: str
    name: str  # of the model, a plain file name
    input: Blob
    archive: bool  # whether the input is a zip
    options: str  # canonical JSON
    engine: str
    created: float  # seconds since 1970, like all times in this file
    updated: float
    status: Status = "queued"
    stage: Stage | None = None
    progress: float = 0.0
    attempts: int = 0  # starts
    crashes: int = 0  # attempts in which its process was seen to die
    kills: int = 0  # attempts in which something else killed its process
    interruptions: int = 0  # attempts in which the server or the worker died
    waited: float = 0.0  # seconds before the attempt that `start` or `take` began; not stored
    run: str = ""  # the attempt that runs now: only who has its name may change the job
    worker: int | None = None  # that has it now, of several
    parked: bool = False  # it waits until an operator lets it go on
    output: Output = field(default_factory=Output)
    failure: Failure | None = None
    traceparent: str | None = None  # where its spans belong, see service.tracing

    @property
    def is_open(self) -> bool:
        """Whether the job has not ended."""
        return self.status in OPEN

    @property
    def is_large(self) -> bool:
        """Whether small jobs do not wait for this one."""
        return self.input.bytes > SMALL_BYTES

    @property
    def pause(self) -> float:
        """Seconds that it waits before it is queued again: not after the first death of a server, then ever longer."""
        doubled: int = 2 ** max(self.interruptions - 1, 0) - 1
        return min(PAUSE * doubled, LONGEST_PAUSE)

    @property
    def is_suspect(self) -> bool:
        """Whether the job may be the reason why a server or its process was killed: it runs alone then."""
        return self.kills + self.interruptions > 0


def job_id(sha256: str, name: str, options: str, engine: str) -> str:
    """The id of a fold: a SHA-256 (hex) of the model's digest, its name, the options and the engine.

    The name is included because reports and problems contain it.
    """
    return hashlib.sha256(json.dumps([sha256, name, options, engine]).encode()).hexdigest()


@dataclass(frozen=True)
class Quota:
    """What one key may use; None means no limit."""

    rate: str | None = None  # in the notation of `limits`: "60/minute"
    open_jobs: int | None = None
    bytes: int | None = None  # stored for the key
    weight: int = 1  # its turns, for each turn of a key with weight 1


@dataclass(frozen=True)
class Room:
    """How much may wait: jobs, and the seconds that the oldest one of a key has waited when the key gets no more."""

    jobs: int
    seconds: float = math.inf


@dataclass(frozen=True)
class Usage:
    """What a key uses: its jobs that have not ended, and the bytes that are stored for it."""

    open_jobs: int
    bytes: int


class Place(NamedTuple):
    """Where a job stands in the list of its key's jobs: by the time of its creation, then by its id."""

    created: float
    job: str


@dataclass(frozen=True)
class Overview:
    """What a key has: blobs and their bytes, jobs by status, and webhooks by state."""

    blobs: int
    bytes: int
    jobs: dict[str, int]
    webhooks: dict[str, int]


@dataclass(frozen=True)
class Open:
    """The open jobs of one status and one size class: how many, and when the oldest was created."""

    status: Status
    size: str
    count: int
    oldest: float


@dataclass(frozen=True)
class Standing:
    """The open jobs of one key."""

    key: str
    waiting: int
    running: int
    parked: int
    since: float | None  # when the one that waits longest began to wait


@dataclass(frozen=True)
class Load:
    """What the ledger has to do: open jobs, of which some are suspects, and webhooks that are due."""

    jobs: tuple[Open, ...]  # without those that are parked
    suspects: int
    parked: int
    webhooks: int
    late: float  # seconds since the webhook that waits longest for its next attempt was due


@dataclass(frozen=True)
class Key:
    """An API key. The secret itself is not stored."""

    id: str
    name: str
    hash: str  # SHA-256 of the secret, hex
    scopes: tuple[str, ...]
    quota: Quota
    created: float
    revoked: float | None = None
    expires: float | None = None
    previous: str | None = None  # the hash of the secret before the last rotation
    previous_until: float | None = None  # when that secret is refused
    erasing: bool = False  # whether all that is stored for the key is to be erased

    def has_ended(self, now: float) -> bool:
        """Whether the key is refused."""
        return self.revoked is not None or (self.expires is not None and self.expires <= now)


@dataclass(frozen=True)
class Idempotency:
    """The Idempotency-Key that a client gave a request, and a digest of that request."""

    token: str
    fingerprint: str


@dataclass(frozen=True)
class Holding:
    """A blob that a key holds, and when it was last used."""

    key: str
    blob: Blob
    used: float


@dataclass(frozen=True)
class Damage:
    """What the loss of blobs did to jobs: how many are folded again, were removed, and failed."""

    again: int
    removed: int
    failed: int


@dataclass(frozen=True)
class Webhook:
    """An event to deliver; its id and body are the same at every attempt."""

    id: str
    key: str
    job: str
    url: str
    receiver: str  # the host and port of the URL
    body: str
    attempts: int  # failed attempts
    traceparent: str | None = None


@dataclass(frozen=True)
class Occupied:
    """Webhooks, keys and receivers for which no further delivery may start now."""

    ids: frozenset[str] = frozenset()  # of webhooks that are being delivered
    keys: frozenset[str] = frozenset()
    receivers: frozenset[tuple[str, str]] = frozenset()  # pairs of key and receiver


@dataclass(frozen=True)
class Worker:
    """A worker: a process that folds, on any machine."""

    id: int
    name: str  # its machine and process
    engine: str  # its version of bnfold
    slots: int  # folds at the same time
    began: float
    draining: bool  # it takes no more jobs, and ends
    age: float | None  # seconds since it was alive, as the database measures; None if it is gone
    jobs: tuple[str, ...] = ()  # keys and ids of what it folds now


@dataclass(frozen=True)
class Beat:
    """What a worker learns when it reports that it is alive."""

    is_known: bool  # False: it was taken for dead, and its jobs are given to others
    draining: bool
    runs: dict[str, tuple[str, str]]  # the attempts that are its own, with the keys and ids of their jobs
