"""Settings: what an operator can choose. Each has a default, and an environment variable BNFOLD_NAME."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import fields
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from folding.onnxfile import Limits
from service import machine
from service.work import Bounds

MIB, GIB = 1 << 20, 1 << 30
DAY = 24 * 60 * 60
ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")
MEMORY_SHARE = 0.75  # of the machine's memory, for all folds together; the rest is for the server and the page cache
LEAST_CHILD_MEMORY = 2 * GIB  # with less, ONNX Runtime cannot load a model of ordinary size


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself: localhost, or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Settings(BaseSettings):
    """The configuration of the service.

    Raises:
        ValueError: (as pydantic's ValidationError) a value is not valid; the message names the setting.
    """

    model_config = SettingsConfigDict(env_prefix="BNFOLD_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="the port to listen on; 0 takes a free one")
    data: Path = Field(Path("bnfold-data"), description="the folder that holds the blobs and the ledger")
    engine: Literal["local", "cluster"] = Field(
        "local", description="where folds run: in this server, or in `bnfold worker` processes on any machines"
    )
    database_url: str = Field(
        "", description="the PostgreSQL database of the ledger, by its URL; default: a file in `data`", repr=False
    )
    blobs_url: str = Field(
        "", description="the object store of the blobs, such as s3://BUCKET/PREFIX; default: a folder in `data`"
    )
    secrets: Path | None = Field(
        None, description="the folder with the file `secret`, the same for all servers of a cluster; default: `data`"
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="names under which clients reach the server; empty: on loopback its own names, else any"
    )
    require_keys: bool | None = Field(
        None, description="ask for an API key; default: unless only this machine can reach the server"
    )
    oidc_issuer: str = Field(
        "", description="an OpenID Connect issuer whose bearer tokens are taken beside API keys, by its URL"
    )
    oidc_audience: str = Field("bnfold", description="the audience that such a token must be for")
    trusted_proxies: tuple[str, ...] = Field(
        (), description="addresses or networks of reverse proxies whose X-Forwarded-For names the client"
    )
    root_path: str = Field("", description="the path under which a reverse proxy shows the server, such as /fold")

    tracing: bool = Field(
        default=False, description="send traces, as the variables OTEL_* of OpenTelemetry say; extra `tracing`"
    )

    workers: int = Field(default_factory=machine.cores, ge=1, description="folds that run at the same time")
    spares: int = Field(
        2,
        ge=0,
        description="processes that wait, ready for the next folds; two, and what they are copied from, take 60 MiB",
    )
    inspections: int = Field(
        default_factory=machine.cores, ge=1, description="inspections that run at the same time, beside the folds"
    )
    heartbeat_seconds: float = Field(1, gt=0, description="time between two signs of life of a worker")
    stall_seconds: float = Field(
        5,
        gt=0,
        description="a worker without a sign of life for so long is taken for dead, and its jobs are given away",
    )
    cache_bytes: int = Field(
        10 * GIB, ge=0, description="of models out of the object store, kept on the disk of a worker"
    )
    metrics_port: int = Field(0, ge=0, le=65535, description="where a worker shows its metrics; 0: nowhere")
    max_queue: int = Field(1000, ge=1, description="jobs that may wait; more are refused as busy")
    max_queue_seconds: float = Field(
        900, gt=0, description="a key whose oldest job waits longer than this gets no further ones: 429"
    )
    attempts: int = Field(3, ge=1, description="deaths of a job's process before it counts as failed: crashed")
    sandbox: Literal["auto", "require", "off"] = Field(
        "auto", description="run folds in bubblewrap or with Landlock, where one works"
    )
    fold_seconds: float = Field(600, gt=0, description="wall clock of a fold, verification not counted")
    verify_seconds: float = Field(300, gt=0, description="the longest verify_timeout a request may ask for")
    child_memory_bytes: int = Field(
        0,
        ge=0,
        description="memory of a fold, and address space of each process of it; 0: 3/4 of the machine over `workers`",
    )
    child_file_bytes: int = Field(16 * GIB, ge=MIB, description="the largest file that a fold may write")
    child_tasks: int = Field(256, ge=64, description="processes and threads of a fold, all together")
    child_open_files: int = Field(4096, ge=64, description="files that a fold may have open")
    limits: dict[str, int] = Field({}, description="bounds of folding.onnxfile.Limits to raise, by name, as JSON")

    max_uploads: int = Field(64, ge=1, description="uploads at the same time; a key may have as many as it leaves free")
    max_upload_bytes: int = Field(8 * GIB, ge=1, description="the largest upload")
    upload_seconds: float = Field(3600, gt=0, description="an upload that takes longer is refused")
    upload_stall_seconds: float = Field(30, gt=0, description="an upload of which nothing arrives so long is refused")
    upload_rate: float = Field(1024, ge=0, description="an upload of fewer bytes a second than this is refused")
    resume_seconds: float = Field(
        DAY, gt=0, description="an upload in pieces of which nothing arrives so long is removed"
    )
    client_seconds: float = Field(
        20,
        gt=0,
        description="a client that takes longer to send the head of a request, or to take an answer, is cut off",
    )
    low_water_bytes: int = Field(
        GIB, ge=0, description="free disk space that is kept: what is least used goes, and then nothing is accepted"
    )

    sync_seconds: float = Field(25, gt=0, description="a request is answered with 202 after waiting so long")
    wait_seconds: float = Field(30, gt=0, description="the longest wait of a long poll")
    shutdown_seconds: float = Field(20, ge=0, description="running folds may take so long when the server ends")

    ttl_seconds: float = Field(7 * DAY, gt=0, description="what was not used for so long is removed")
    cap_bytes: int | None = Field(
        None,
        ge=0,
        description="more than this is not kept: who holds most loses what it used least recently; default: "
        "half of the disk",
    )
    sweep_seconds: float = Field(60, gt=0, description="time between two looks at what can be removed")

    @field_validator("limits")
    @classmethod
    def _known(cls, value: dict[str, int]) -> dict[str, int]:
        known = {field.name for field in fields(Limits) if field.type == "int"}
        if unknown := value.keys() - known:
            raise ValueError(f"there is no limit {', '.join(sorted(unknown))}; choose of {', '.join(sorted(known))}")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            try:
                ip_network(one)
            except ValueError:
                raise ValueError(f"{one!r} is no address and no network; write 127.0.0.1 or 10.0.0.0/8") from None
        return value

    @field_validator("oidc_issuer")
    @classmethod
    def _safe_issuer(cls, value: str) -> str:
        found = urlsplit(value)
        if value and not (found.scheme == "https" or (found.scheme == "http" and is_loopback(found.hostname or ""))):
            raise ValueError("it must be a URL that begins with https://")
        return value

    @field_validator("database_url", "blobs_url")
    @classmethod
    def _known_kind(cls, value: str, field: ValidationInfo) -> str:
        kinds = {"database_url": ("postgresql", "postgres"), "blobs_url": ("s3", "gs", "az", "file")}[
            str(field.field_name)
        ]
        if value and value.partition("://")[0] not in kinds:
            raise ValueError(f"it must be a URL that begins with {' or '.join(f'{kind}://' for kind in kinds)}")
        return value

    @field_validator("root_path")
    @classmethod
    def _plain_path(cls, value: str) -> str:
        if not ROOT_PATH.fullmatch(value):
            raise ValueError("it must begin with a slash, end without one, and hold only A-Z a-z 0-9 . _ ~ -")
        return value

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        object.__setattr__(self, "data", self.data.absolute())  # children run in other folders
        return self

    @model_validator(mode="after")
    def _shared(self) -> Self:
        missing = [name for name in ("database_url", "blobs_url") if not getattr(self, name)]
        if self.engine == "cluster" and missing:
            named = " and ".join(f"BNFOLD_{name.upper()}" for name in missing)
            raise ValueError(f"BNFOLD_ENGINE=cluster shares its ledger and its blobs; set {named}")
        if self.stall_seconds < 2 * self.heartbeat_seconds:
            raise ValueError("BNFOLD_STALL_SECONDS must be at least twice BNFOLD_HEARTBEAT_SECONDS")
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether the server listens on loopback only. A reverse proxy may still lead others to it."""
        return is_loopback(self.host)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server, as far as the settings say: none names a proxy."""
        return all(map(is_loopback, (self.host, *self.allowed_hosts))) and not (self.trusted_proxies or self.root_path)

    @property
    def asks_for_keys(self) -> bool:
        """Whether a request without an API key is refused."""
        return not self.is_local if self.require_keys is None else self.require_keys

    @property
    def secret_folder(self) -> Path:
        """The folder of the file `secret`."""
        return self.secrets or self.data

    @property
    def cap(self) -> int:
        """The bytes that are kept at most; an object store has no bound of its own."""
        if self.blobs_url and self.cap_bytes is None:
            return sys.maxsize
        return shutil.disk_usage(self.data).total // 2 if self.cap_bytes is None else self.cap_bytes

    def bounds(self, verification: float) -> Bounds:
        """The bounds of one process of a fold; `verification` is the time in seconds that a verification adds."""
        share = int(machine.memory() * MEMORY_SHARE) // self.workers
        memory = self.child_memory_bytes or max(share, LEAST_CHILD_MEMORY)
        files, tasks = self.child_open_files, self.child_tasks
        return Bounds(self.fold_seconds, verification, memory, self.child_file_bytes, files, tasks)
