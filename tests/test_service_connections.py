"""Nobody holds a connection for free: who says nothing, or a little at a time, or does not listen, is cut off."""

from __future__ import annotations

import hashlib
import socket
import time
from typing import TYPE_CHECKING

import pytest
from service_server import MIB, PATIENCE, serving, slow, submit

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

SECONDS = 1.0
LARGE = 32 * MIB  # more than the buffers of two sockets hold
HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(tmp_path_factory.mktemp("server") / "data", client_seconds=str(SECONDS)) as (_, client):
        yield client


def connected(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=PATIENCE)


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"", b""),
        (b"", b"G"),
        (HEAD, b""),
        (HEAD, b"A"),
        (HEAD + b"\r\n" + HEAD, b"A"),
        (b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\n", b"x"),
    ],
    ids=["silence", "a method", "half a head", "an endless header", "half a second head", "a body nobody reads"],
)
def test_who_does_not_get_to_the_point_is_cut_off(server, first, drop):
    with connected(server) as connection:
        began = time.monotonic()
        connection.sendall(first)
        connection.settimeout(0.1)
        while time.monotonic() - began < PATIENCE:
            try:
                if connection.recv(MIB) == b"":
                    break
            except TimeoutError:
                connection.sendall(drop)
            except ConnectionError:
                break
        assert SECONDS * 0.9 < time.monotonic() - began < SECONDS * 4


def test_who_does_not_take_an_answer_is_cut_off(server):
    data = bytes(LARGE)
    submit(server, data)
    with connected(server) as connection:
        path = f"/v1/blobs/{hashlib.sha256(data).hexdigest()}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(SECONDS * 3)
        taken = 0
        try:
            while block := connection.recv(MIB):
                taken += len(block)
        except ConnectionError:
            pass
        assert taken < LARGE


def test_who_waits_or_sends_slowly_is_not_cut_off(server):
    job = submit(server, slow(SECONDS * 3))
    answer = server.get(f"/v1/jobs/{job}", params={"wait": SECONDS * 2}, headers={"If-None-Match": "*"})
    assert answer.status_code == 304

    def slowly() -> Iterator[bytes]:
        for _ in range(4):
            yield b"x" * 5000
            time.sleep(SECONDS / 2)

    assert server.post("/v1/inspect", content=slowly()).status_code == 422
    for _ in range(3):
        assert server.get("/livez").status_code == 200
        time.sleep(SECONDS / 2)
