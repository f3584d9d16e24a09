"""Nobody holds a connection for free: who says nothing, or a little at a time, or does not listen, is cut off."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.http.connections import patient
from tests.support import ROOT
from tests.support.service.server import MIB, held, serving, submit
from tests.support.waiting import LOOK_EVERY, PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

SECONDS = 3.0  # of patience with a client: more than a client that does its best lets pass on a busy machine
DROP_SECONDS = 0.1  # between two bytes of who says a little at a time
LARGE = 32 * MIB  # more than the buffers of two sockets hold
HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[httpx.Client]:
    with serving(place / "data", client_seconds=str(SECONDS)) as (_, client):
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
    began = time.monotonic()
    with connected(server) as connection:
        connection.sendall(first)
        connection.settimeout(DROP_SECONDS)

        def is_cut_off() -> bool:
            try:
                return connection.recv(MIB) == b""
            except TimeoutError:
                connection.sendall(drop)
                return False
            except ConnectionError:
                return True

        until(is_cut_off)
    assert time.monotonic() - began > SECONDS * 0.9


def test_who_does_not_take_an_answer_is_cut_off(server, place):
    data = bytes(LARGE)
    submit(server, data)
    with connected(server) as connection:
        path = f"/v1/blobs/{hashlib.sha256(data).hexdigest()}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        until(lambda: path in (place / "log").read_text())  # it is logged when the server is done with the request
        taken = 0
        try:
            while block := connection.recv(MIB):
                taken += len(block)
        except ConnectionError:
            pass
        assert taken < LARGE


def test_who_waits_or_sends_slowly_is_not_cut_off(server, place):
    job = submit(server, held(place / "never"))
    answer = server.get(f"/v1/jobs/{job}", params={"wait": SECONDS * 2}, headers={"If-None-Match": "*"})
    assert answer.status_code == 304
    server.delete(f"/v1/jobs/{job}")

    def slowly() -> Iterator[bytes]:
        for _ in range(4):
            yield b"x" * 5000
            time.sleep(SECONDS / 2)

    assert server.post("/v1/inspect", content=slowly()).status_code == 422
    for _ in range(3):
        assert server.get("/livez").status_code == 200
        time.sleep(SECONDS / 2)


FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 320))
from service.http.connections import room
print(room(3), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_there_is_room_for_fewer_connections_than_files():
    output = subprocess.check_output([sys.executable, "-c", FEW_FILES], cwd=ROOT, text=True)
    assert output.split() == [str((320 - 256 - 3 * 8) // 2), "320", "320"]


def test_more_than_there_is_room_for_are_cut_off():
    """Who comes when others have left is welcome."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body"})

    async def asked(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(HEAD + b"\r\n")
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def story() -> None:
        config, state, kind = uvicorn.Config(app, log_config=None), ServerState(), patient(PATIENCE, 2)
        config.load()
        server = await asyncio.get_running_loop().create_server(lambda: kind(config, state, {}), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        idle = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(2)]
        assert await asked(port) == b""
        for writer in idle:
            writer.close()
        async with asyncio.timeout(PATIENCE):
            while state.connections:
                await asyncio.sleep(LOOK_EVERY)
        assert b"204" in await asked(port)
        server.close()

    asyncio.run(story())
