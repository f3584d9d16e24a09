"""A real S3-compatible server on loopback, behind a proxy that fails, loses and delays what a test asks it to.

`rclone serve s3`, which answers a range with the status 200 and not 206: the proxy corrects that.
"""

from __future__ import annotations

import http.client
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Self

from obstore.store import S3Store

from tests.support.service.postgres import LOCAL, free_port
from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable

KEY, SECRET = "bnfold", "a secret of the tests"
BLOCK = 1 << 16
DROPPED = {"connection", "transfer-encoding", "keep-alive"}


class Store:
    """The server, its proxy, and a bucket; the proxy does what its fields say."""

    BUCKET = "bnfold"

    def __init__(self, host: str = LOCAL) -> None:
        self.host = host

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="bnfold-store-"))
        (self.folder / self.BUCKET).mkdir()
        self.failing, self.slow, self.silent, self.seed = 0.0, 0.0, False, random.Random(0)
        self.requests: list[tuple[str, str]] = []
        self._numbers, self._port = count(), free_port(self.host)
        rclone = Path(sys.executable).with_name("rclone")
        command = [
            rclone,
            "serve",
            "s3",
            self.folder,
            "--addr",
            f"{self.host}:{self._port}",
            "--auth-key",
            f"{KEY},{SECRET}",
        ]
        environment = {"HOME": str(self.folder), "RCLONE_CONFIG": os.devnull, "PATH": "/usr/bin:/bin"}
        self._process = subprocess.Popen([*command, "-q"], env=environment, stderr=subprocess.DEVNULL)
        until(self._answers)
        self._proxy = ThreadingHTTPServer((self.host, 0), _handler(self))
        self._proxy.daemon_threads = True
        self._thread = threading.Thread(target=self._proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()
        self._process.kill()
        self._process.wait(PATIENCE)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def port(self) -> int:
        """Where the proxy listens."""
        port: int = self._proxy.server_port
        return port

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""
        return self._environment(self.port)

    @property
    def direct(self) -> dict[str, str]:
        """The same without the proxy: quicker, and only whole files can be read."""
        return self._environment(self._port)

    @property
    def pid(self) -> int:
        """The process of the server."""
        return self._process.pid

    def _environment(self, port: int) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://{self.host}:{port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def url(self) -> str:
        """The URL of a store of its own."""
        return f"s3://{self.BUCKET}/{next(self._numbers)}"

    def honest(self) -> None:
        """Do as a store does."""
        self.failing, self.slow, self.silent = 0.0, 0.0, False

    def change(self, url: str, sha256: str, change: Callable[[bytes], bytes | None]) -> None:
        """Replace a blob, whatever its address says; None removes it."""
        store = S3Store(
            self.BUCKET,
            prefix=url.removeprefix(f"s3://{self.BUCKET}/"),
            endpoint=f"http://{self.host}:{self._port}",
            access_key_id=KEY,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )
        name = f"sha256/{sha256[:2]}/{sha256[2:]}"
        made = change(bytes(store.get(name).bytes()))
        if made is None:
            store.delete(name)
        else:
            store.put(name, made)

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        with closing(http.client.HTTPConnection(self.host, self._port, timeout=PATIENCE)) as connection:
            self._forward(connection, request, body)

    def _forward(self, connection: http.client.HTTPConnection, request: BaseHTTPRequestHandler, body: bytes) -> None:
        connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            if name.lower() not in DROPPED:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        status = 206 if answer.status == 200 and answer.getheader("Content-Range") else answer.status
        request.send_response_only(status)
        for name, value in answer.getheaders():
            if name.lower() not in DROPPED:
                request.send_header(name, value)
        request.end_headers()
        while block := answer.read(BLOCK):
            request.wfile.write(block)

    def _answers(self) -> bool:
        with (
            closing(http.client.HTTPConnection(self.host, self._port, timeout=PATIENCE)) as connection,
            suppress(OSError),
        ):
            connection.request("GET", "/")
            connection.getresponse().close()
            return True
        return False


def _handler(store: Store) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"  # a connection for each request

        def answer(self) -> None:
            store.requests.append((self.command, self.path))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with suppress(OSError, http.client.HTTPException):
                time.sleep(store.slow)
                while store.silent:
                    time.sleep(0.05)
                if store.seed.random() < store.failing:
                    self.send_response_only(503)
                    self.end_headers()
                else:
                    store.forward(self, body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    return Handler
