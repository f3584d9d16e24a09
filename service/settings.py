"""Settings: what an operator can choose. Each has a default, and an environment variable BNFOLD_NAME."""

from __future__ import annotations

import shutil
from dataclasses import fields
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from folding.onnxfile import Limits
from service import machine
from service.work import Bounds

MIB, GIB = 1 << 20, 1 << 30
DAY = 24 * 60 * 60
MEMORY_SHARE = 0.75  # of the machine's memory, for all folds together; the rest is for the server and the page cache
LEAST_CHILD_MEMORY = 2 * GIB  # with less, ONNX Runtime cannot load a model of ordinary size


class Settings(BaseSettings):
    """The configuration of the service.

    Raises:
        ValueError: (as pydantic's ValidationError) a value is not valid; the message names the setting.
    """

    model_config = SettingsConfigDict(env_prefix="BNFOLD_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="the port to listen on; 0 takes a free one")
    data: Path = Field(Path("bnfold-data"), description="the folder that holds the blobs and the ledger")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="names under which clients reach the server; empty: on loopback its own names, else any"
    )
    require_keys: bool | None = Field(None, description="ask for an API key; default: on every bind but loopback")

    workers: int = Field(default_factory=machine.cores, ge=1, description="folds that run at the same time")
    spares: int = Field(2, ge=0, description="processes that wait, ready for the next folds; each takes 100 MiB")
    inspections: int = Field(
        default_factory=machine.cores, ge=1, description="inspections that run at the same time, beside the folds"
    )
    max_queue: int = Field(1000, ge=1, description="jobs that may wait; more are refused as busy")
    attempts: int = Field(3, ge=1, description="deaths of a job's process before it counts as failed: crashed")
    sandbox: Literal["auto", "require", "off"] = Field("auto", description="run folds in bubblewrap, where it works")
    fold_seconds: float = Field(600, gt=0, description="wall clock of a fold, verification not counted")
    verify_seconds: float = Field(300, gt=0, description="the longest verify_timeout a request may ask for")
    child_memory_bytes: int = Field(
        0, ge=0, description="address space of one process of a fold; 0: three quarters of the machine over `workers`"
    )
    child_file_bytes: int = Field(16 * GIB, ge=MIB, description="the largest file that a fold may write")
    child_open_files: int = Field(4096, ge=64, description="files that a fold may have open")
    limits: dict[str, int] = Field({}, description="bounds of folding.onnxfile.Limits to raise, by name, as JSON")

    max_uploads: int = Field(64, ge=1, description="uploads at the same time; a key may have as many as it leaves free")
    max_upload_bytes: int = Field(8 * GIB, ge=1, description="the largest upload")
    upload_seconds: float = Field(3600, gt=0, description="an upload that takes longer is refused")
    upload_stall_seconds: float = Field(30, gt=0, description="an upload of which nothing arrives so long is refused")
    upload_rate: float = Field(1024, ge=0, description="an upload of fewer bytes a second than this is refused")
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

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        object.__setattr__(self, "data", self.data.absolute())  # children run in other folders
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def asks_for_keys(self) -> bool:
        """Whether a request without an API key is refused."""
        return not self.is_loopback if self.require_keys is None else self.require_keys

    @property
    def cap(self) -> int:
        """The bytes that are kept at most."""
        return shutil.disk_usage(self.data).total // 2 if self.cap_bytes is None else self.cap_bytes

    def bounds(self, verification: float) -> Bounds:
        """The bounds of one process of a fold; `verification` is the time in seconds that a verification adds."""
        share = int(machine.memory() * MEMORY_SHARE) // self.workers
        memory = self.child_memory_bytes or max(share, LEAST_CHILD_MEMORY)
        return Bounds(self.fold_seconds, verification, memory, self.child_file_bytes, self.child_open_files)
