"""Reservations: what an upload may take is counted when it begins, and given back when it ends, however it ends."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import pytest

from service.blobs import folder
from service.ledger.records import NOBODY, Quota, Usage
from service.problems import Problem
from service.reservations import NOTHING, STEP, Reservations, usage_of
from tests.service.http.test_http import make_key, slug
from tests.support.service.server import MIB, Running, model_bytes
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Counting:
    """A ledger that counts how often it counts."""

    counts = 0

    def usage(self, _key: str) -> Usage:
        self.counts += 1
        return Usage(3, 4)


@pytest.mark.parametrize(
    ("quota", "found", "counts"),
    [
        (Quota(rate="1/minute", weight=2), NOTHING, 0),
        (Quota(bytes=9), Usage(3, 4), 1),
        (Quota(open_jobs=9), Usage(3, 4), 1),
    ],
)
def test_what_a_key_has_is_counted_only_where_its_quota_limits_it(quota, found, counts):
    """It takes as long as the key has much, and comes before every upload."""
    ledger = Counting()
    assert asyncio.run(usage_of(ledger, "k", quota)) == found
    assert ledger.counts == counts


@pytest.mark.parametrize(
    ("key", "quota", "usage", "open_", "most", "refused"),
    [
        ("a", Quota(), NOTHING, "", 1, None),
        ("a", Quota(), NOTHING, "b", 1, "busy"),
        (NOBODY, Quota(), NOTHING, "", 1, None),
        ("a", Quota(), NOTHING, "aa", 5, None),
        ("a", Quota(), NOTHING, "aaa", 5, "quota-exceeded"),  # more than it leaves to others
        ("b", Quota(), NOTHING, "aaa", 5, None),
        ("a", Quota(open_jobs=2), Usage(1, 0), "a", 9, "quota-exceeded"),  # an upload counts as a job
        ("a", Quota(open_jobs=3), Usage(1, 0), "a", 9, None),
        ("a", Quota(open_jobs=1), Usage(1, 0), "", 9, None),  # one may be of a job that there is already
    ],
)
def test_the_number_of_uploads_is_bounded(key, quota, usage, open_, most, refused):
    reservations = Reservations(most)
    with ExitStack() as stack:
        for other in open_:
            stack.enter_context(reservations.begun(other, Quota(), NOTHING))
        if refused is None:
            stack.enter_context(reservations.begun(key, quota, usage))
        else:
            with pytest.raises(Problem) as caught:
                stack.enter_context(reservations.begun(key, quota, usage))
            assert caught.value.slug == refused
            assert int(caught.value.headers["Retry-After"]) > 0
    with reservations.begun(key, quota, usage):  # all others have ended
        pass


@pytest.mark.parametrize(
    ("held", "others", "size", "refused"),
    [
        (0, 0, 100, None),
        (0, 0, 101, "too-large"),
        (50, 0, 100, None),  # it may be held already: that is known when it has arrived
        (50, 20, 30, None),
        (50, 20, 31, "quota-exceeded"),
    ],
)
def test_bytes_are_reserved_before_they_arrive(held, others, size, refused):
    reservations, quota = Reservations(9), Quota(bytes=100)
    with reservations.begun("a", quota, NOTHING) as other, reservations.begun("a", quota, NOTHING) as mine:
        reservations.grow(other, others, NOTHING)
        if refused is None:
            reservations.grow(mine, size, Usage(0, held))
            assert reservations.coming == others + size
            mine.arrived = 1
            assert reservations.coming == others + size - 1
            mine.is_complete = True
            assert reservations.coming == others
        else:
            with pytest.raises(Problem) as caught:
                reservations.grow(mine, size, Usage(0, held))
            assert caught.value.slug == refused
            assert reservations.coming == others
    assert reservations.coming == 0


@pytest.fixture
def running(tmp_path) -> Iterator[Running]:
    with Running(tmp_path / "data", require_keys=True, max_uploads=5) as server:
        yield server


class Slow:
    """An upload that begins, and does not go on."""

    def __init__(self, running: Running, size: int, headers: dict[str, str], *, has_length: bool = True) -> None:
        url = httpx.URL(running.url)
        self._socket = socket.create_connection((url.host, url.port))
        length = f"Content-Length: {size}" if has_length else "Transfer-Encoding: chunked"
        given = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._socket.sendall(f"POST /v1/fold HTTP/1.1\r\nHost: localhost\r\n{given}{length}\r\n\r\n".encode())
        self._socket.sendall(b"x" if has_length else b"1\r\nx\r\n")

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("has_length", [True, False], ids=["length", "chunked"])
def test_slow_uploads_count_before_their_last_byte(running, has_length):
    """Of a key that may keep 100 MB, one may be on its way, and nothing that does not fit beside it."""
    headers = make_key(running, quota=Quota(bytes=100 * MIB))
    reservations = running.app.state.service.reservations
    slow = Slow(running, 90 * MIB, headers, has_length=has_length)
    expected = 90 * MIB if has_length else STEP + 1
    until(lambda: [(one.bytes, one.arrived) for one in reservations._open] == [(expected, 1)])
    answer = running.client.post("/v1/fold", content=bytes(40 * MIB), headers=headers)
    assert (answer.status_code, slug(answer)) == (429, "quota-exceeded")
    other = running.client.post("/v1/fold", content=model_bytes(), headers=make_key(running))
    assert other.status_code == 200
    slow.close()
    until(lambda: not reservations._open)
    assert running.client.post("/v1/fold", content=model_bytes(), headers=headers).status_code == 200


def test_a_key_shuts_nobody_out(running):
    mine, other = make_key(running), make_key(running)
    reservations, slow = running.app.state.service.reservations, []
    for count in range(1, 4):
        slow.append(Slow(running, MIB, mine))
        until(lambda n=count: len(reservations._open) == n)
    answer = running.client.post("/v1/fold", content=model_bytes(), headers=mine)
    assert (answer.status_code, slug(answer)) == (429, "quota-exceeded")
    assert running.client.post("/v1/fold", content=model_bytes(), headers=other).status_code == 200
    for upload in slow:
        upload.close()


class Disk:
    """A disk of a size, with nothing but the files in a folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, size: int) -> None:
        self._root, self._size, self.total = root, size, size
        monkeypatch.setattr(folder.shutil, "disk_usage", lambda _: self)

    @property
    def free(self) -> int:
        return self._size - sum(path.stat().st_size for path in self._root.rglob("*") if path.is_file())


def test_uploads_that_are_on_their_way_fit_on_the_disk(tmp_path, monkeypatch):
    with Running(tmp_path / "data") as running:
        Disk(monkeypatch, tmp_path / "data" / "blobs", 100 * MIB)
        reservations = running.app.state.service.reservations
        slow = Slow(running, 60 * MIB, {})
        until(lambda: reservations.coming == 60 * MIB - 1)
        answer = running.client.post("/v1/fold", content=bytes(60 * MIB))
        assert (answer.status_code, slug(answer)) == (507, "insufficient-storage")
        assert running.client.post("/v1/fold", content=model_bytes()).status_code == 200
        slow.close()
        until(lambda: not reservations._open)
        assert running.client.post("/v1/fold", content=bytes(60 * MIB)).status_code == 422  # no model, but it fits


def test_a_disk_near_the_mark_lets_go_of_what_is_least_used(tmp_path, monkeypatch):
    """Models come for ever, one of them again and again: none is refused, and that one stays."""
    size = 3 * MIB
    with Running(tmp_path / "data", low_water_bytes=MIB) as running:
        Disk(monkeypatch, tmp_path / "data" / "blobs", 4 * size)
        ledger = running.app.state.service.ledger
        used = running.client.post("/v1/fold", content=model_bytes()).headers["Bnfold-Job"]
        for seed in range(12):
            answer = running.client.post("/v1/fold", content=bytes([seed]) + bytes(size - 1))
            assert answer.status_code == 422, answer.text
            assert running.client.get(f"/v1/jobs/{used}/result").status_code == 200
        assert ledger.total() <= 4 * size - MIB
        too_much = running.client.post("/v1/fold", content=bytes(5 * size))
        assert (too_much.status_code, slug(too_much)) == (507, "insufficient-storage")
        assert running.client.get(f"/v1/jobs/{used}/result").status_code == 200  # nothing was given up for nothing
        ready = running.client.get("/readyz")
        assert ready.status_code == 200, ready.text
