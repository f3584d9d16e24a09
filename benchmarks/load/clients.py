"""Clients that fold models at the same time: what each of them waits, and what the server responds."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TIMEOUT = 900.0
AGAIN = {429, 503}
LONGEST_PAUSE = 5.0  # seconds, however long the server asks for: the figures are of a busy server


@dataclass
class Outcome:
    """The outcomes of requests: seconds from the first attempt to the result, and how often each response came."""

    seconds: list[float] = field(default_factory=list)
    responses: Counter[str] = field(default_factory=Counter)
    verified: int = 0
    wall: float = 0.0

    @property
    def errors(self) -> int:
        """Requests that did not end in a result."""
        return self.responses["error"]

    def quantile(self, share: float) -> float:
        """The time within which this share of the requests had its result."""
        ordered = sorted(self.seconds)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def folded(url: str, models: Iterable[Callable[[], bytes]], clients: int) -> Outcome:
    """Fold models with so many clients; each takes the next model when it has its result."""
    return asyncio.run(_all(url, list(models), clients))


async def _all(url: str, models: list[Callable[[], bytes]], clients: int) -> Outcome:
    outcome, began = Outcome(), time.perf_counter()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    ahead = iter(models)
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT, limits=limits) as client:

        async def work() -> None:
            for make in ahead:
                await _one(client, make(), outcome)

        await asyncio.gather(*(work() for _ in range(clients)))
    outcome.wall = time.perf_counter() - began
    return outcome


async def _one(client: httpx.AsyncClient, data: bytes, outcome: Outcome) -> None:
    began = time.perf_counter()
    try:
        report = await _report(client, data, outcome)
    except (httpx.HTTPError, ValueError) as error:
        outcome.responses["error"] += 1
        outcome.responses[f"{type(error).__name__}: {error}"[:80]] += 1
        return
    outcome.seconds.append(time.perf_counter() - began)
    outcome.verified += report["verification"]["status"] == "verified"


async def _report(client: httpx.AsyncClient, data: bytes, outcome: Outcome) -> dict:  # type: ignore[type-arg]
    """The report of a fold, however often the server asks to wait."""
    while True:
        answer = await client.post(
            "/v1/fold",
            content=data,
            headers={"Accept": "application/json", "Content-Type": "application/octet-stream"},
        )
        outcome.responses[str(answer.status_code)] += 1
        if answer.status_code not in AGAIN:
            break
        await asyncio.sleep(min(float(answer.headers.get("retry-after", 1)), LONGEST_PAUSE))
    if answer.status_code == httpx.codes.ACCEPTED:
        job = answer.headers["location"]
        while (state := (await client.get(job, params={"wait": 30, "until": "done"})).json())["status"] in {
            "queued",
            "running",
        }:
            pass
        if state["status"] != "done":
            raise ValueError(str(state["problem"])[:80])
        answer = await client.get(f"{job}/report")
    return answer.raise_for_status().json()  # type: ignore[no-any-return]
