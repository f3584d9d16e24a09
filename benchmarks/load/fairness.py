"""Fairness: what a small fold of one key waits behind many jobs of another."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import httpx

from benchmarks.load.server import ROOT, running

if TYPE_CHECKING:
    from collections.abc import Callable

AHEAD = (0, 1, 40, 400)  # jobs of the other key
TIMES = 7  # folds that are measured, one after another
PATIENT = {"require_keys": "true", "max_queue": "2000"}
UNBOUNDED = ("--open-jobs", "any", "--bytes", "any")


class Row(NamedTuple):
    """How long folds took in seconds, the median and the longest, with so many jobs of another key before them."""

    ahead: int
    median: float
    longest: float
    left: int  # jobs of the other key that had not ended afterwards: nobody was starved because it was over


def fairness(port: int, small: Callable[[int], bytes]) -> list[Row]:
    """Measure it with servers of their own."""
    rows = []
    for number, ahead in enumerate(AHEAD):
        with tempfile.TemporaryDirectory(prefix="bnfold-load-") as folder:
            data = Path(folder)
            loud, quiet = _key(data, "loud"), _key(data, "quiet")
            with running(port + number, data=data, **PATIENT) as server:
                rows.append(_row(server.url, ahead, loud, quiet, small))
    return rows


def _row(url: str, ahead: int, loud: str, quiet: str, small: Callable[[int], bytes]) -> Row:
    with httpx.Client(base_url=url, timeout=600) as client:
        times = []
        client.post("/v1/fold", content=small(10_000), headers=_by(quiet)).raise_for_status()  # the first one loads
        time.sleep(1)
        for number in range(ahead):
            later = _by(loud) | {"Prefer": "respond-async"}
            client.post("/v1/fold", content=small(number), headers=later).raise_for_status()
        for number in range(TIMES):
            began = time.perf_counter()
            client.post("/v1/fold", content=small(20_000 + number), headers=_by(quiet)).raise_for_status()
            times.append(time.perf_counter() - began)
        jobs = client.get("/v1/usage", headers=_by(loud)).json()["jobs"]
        return Row(ahead, median(times), max(times), jobs.get("queued", 0) + jobs.get("running", 0))


def _by(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _key(data: Path, name: str) -> str:
    command = [sys.executable, "-m", "folding", "keys", "add", name, "--data", str(data), *UNBOUNDED]
    return subprocess.check_output(command, text=True, cwd=ROOT).split()[-1]
