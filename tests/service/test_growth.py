"""What a server keeps of a request that is over: nothing. Objects and open files are counted, not bytes.

The bytes of a process grow until its allocators have what the busiest moment needs: docs/operating.md has figures.
"""

from __future__ import annotations

import gc
import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.process.forkserver import Program
from tests.support import ROOT
from tests.support.service.server import Running
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

INSTANT = Program("tests.support.service.instant", (*Program().paths, ROOT))
REQUESTS, ROUNDS = 20, 5
# Bounded by Python: sqlite3 remembers up to 200 cursors of each connection and their statements, asyncio timers that
# were cancelled, urllib the last addresses.
BOUNDED = {"ReferenceType", "Statement", "TimerHandle", "Context", "SplitResult"}
FILES = Path("/proc/self/fd")
LATER = {"Prefer": "respond-async"}
TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture(autouse=True)
def _unlogged() -> Iterator[None]:
    """pytest keeps what a test logs, for its report."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("server") / "data", INSTANT) as running:
        yield running


def fold(client: httpx.Client, number: int) -> None:
    assert client.post("/v1/fold", content=b"model %d" % number).status_code == 200


def follow(client: httpx.Client, number: int) -> None:
    place = client.post("/v1/fold", content=b"job %d" % number, headers=LATER).headers["Location"]
    assert "done" in client.get(place, headers={"Accept": "text/event-stream"}).text


def batch(client: httpx.Client, number: int) -> None:
    files = [("model", (f"{name}.onnx", f"{name} {number}".encode())) for name in "ab"]
    assert client.post("/v1/batches", files=files).status_code == 202


def upload(client: httpx.Client, number: int) -> None:
    data = b"upload %d" % number
    place = client.post("/v1/uploads", headers=TUS | {"Upload-Length": str(len(data))}).headers["Location"]
    kind = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert client.patch(place, content=data, headers=TUS | kind).status_code == 204
    assert client.delete(place, headers=TUS).status_code == 204


def refusals(client: httpx.Client, number: int) -> None:
    assert client.post("/v1/fold", content=b"x", params={f"n{number}": "1"}).status_code == 422
    assert client.get(f"/v1/jobs/{number:064x}").status_code == 404
    assert client.get(f"/nowhere/{number}").status_code == 404


def counted(server: Running) -> tuple[Counter[str], int]:
    """The objects of this process by type, and the open files, once nothing is on its way."""
    service = server.app.state.service
    until(lambda: not any(service.ledger.overview("").jobs.get(state) for state in ("queued", "running")))
    until(lambda: not service.engine._running and not service.engine._children.counts["working"])
    gc.collect()
    kinds = Counter(type(one).__name__ for one in gc.get_objects())
    return Counter({kind: count for kind, count in kinds.items() if kind not in BOUNDED}), len(list(FILES.iterdir()))


@pytest.mark.parametrize("ask", [fold, follow, batch, upload, refusals])
def test_a_request_leaves_nothing_in_memory(server, ask: Callable[[httpx.Client, int], None]):
    """What leaves an object grows in every round; pools of threads and connections grow in some."""
    for number in range(ROUNDS):
        before, files = counted(server)
        for request in range(REQUESTS):
            ask(server.client, number * REQUESTS + request)
        after, more = counted(server)
        grown = {kind: count for kind, count in (after - before).items() if count >= REQUESTS}
        if not grown and more - files < REQUESTS:
            return
    pytest.fail(f"{REQUESTS} requests leave {grown}, and {more - files} open files")
