"""The way to a receiver: one look-up, checked addresses, the certificate of the URL, and an end to everything."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING

import httpcore
import pytest

from service.webhook import receivers
from service.webhook.receivers import FAILURES, LookUps, Receivers, Reply
from tests.support.service.receiver import Receiver
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path
    from typing import Any

PRIVATE = "10.0.0.1"


class Names:
    """A resolver that answers each time as the next of its answers says, and then as the last."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), []

    async def __call__(self, host: str, _: int) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def loopback(address: str) -> bool:
    return address == "127.0.0.1"


def post(to: Receivers, url: str) -> Reply:
    async def once() -> Reply:
        try:
            return await to.post(url, {"webhook-id": "1"}, b"{}")
        finally:
            await to.close()

    return asyncio.run(once())


def refused(to: Receivers, url: str, says: str | None = None) -> None:
    with pytest.raises(FAILURES, match=says):
        post(to, url)


def test_a_name_is_asked_once_and_the_checked_address_is_used(receiver):
    names = Names(["127.0.0.1"], [PRIVATE])
    assert post(Receivers(loopback, names), f"http://hooks.example.com:{receiver.port}/a?b=c") == Reply(204)
    assert names.asked == ["hooks.example.com"]
    (received,) = receiver.received
    assert (received.path, received.headers["host"]) == ("/a?b=c", f"hooks.example.com:{receiver.port}")


def test_a_name_that_means_something_else_later_is_refused_then(receiver):
    to = Receivers(loopback, Names(["127.0.0.1"], [PRIVATE]))

    async def twice() -> None:
        url = f"http://hooks.example.com:{receiver.port}/"
        assert await to.post(url, {}, b"") == Reply(204)
        with pytest.raises(httpcore.ConnectError, match="not of the public internet"):  # and no connection is kept
            await to.post(url, {}, b"")

    asyncio.run(twice())
    assert len(receiver.received) == 1


@pytest.mark.parametrize("addresses", [[PRIVATE], ["127.0.0.1", PRIVATE], [PRIVATE, "127.0.0.1"], []])
def test_every_address_of_a_name_must_be_allowed(receiver, addresses):
    refused(Receivers(loopback, Names(addresses)), f"http://hooks.example.com:{receiver.port}/", "public internet")
    assert receiver.received == []


def test_an_address_that_does_not_answer_is_passed_over(receiver):
    to = Receivers(lambda _: True, Names(["127.0.0.2", "127.0.0.1"]))
    assert post(to, f"http://hooks.example.com:{receiver.port}/") == Reply(204)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "localhost", "[::1]", "[::ffff:7f00:1]"])
def test_the_real_check_and_the_real_resolver_reach_nothing_here(receiver, host):
    refused(Receivers(), f"http://{host}:{receiver.port}/", "public internet")
    assert receiver.received == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer(receiver, status):
    with Receiver() as elsewhere:
        receiver.answers, receiver.headers = [status], {"Location": elsewhere.url}
        assert post(Receivers(loopback), receiver.url) == Reply(status)
        assert elsewhere.received == []


def test_proxies_of_the_environment_are_not_used(receiver, monkeypatch):
    with Receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert post(Receivers(loopback), receiver.url) == Reply(204)
        assert proxy.received == []


@pytest.mark.parametrize(
    ("value", "wait"), [("120", 120.0), ("999999999", 86400.0), ("soon", None), ("-1", None), ("9" * 5000, 86400.0)]
)
def test_a_receiver_may_ask_for_patience(receiver, value, wait):
    receiver.answers, receiver.headers = [429], {"Retry-After": value}
    assert post(Receivers(loopback), receiver.url) == Reply(429, wait)


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server shows that is called so, and what its client trusts."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    made += ["-keyout", str(key), "-out", str(cert), "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run(made, check=True, capture_output=True)
    shows = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shows.load_cert_chain(cert, key)
    return shows, ssl.create_default_context(cafile=str(cert))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="this test needs openssl, and it is not installed")
def test_the_certificate_is_that_of_the_url(tmp_path):
    shows, trusts = certificate(tmp_path, "hooks.example.com")
    asked: list[str | None] = []
    shows.sni_callback = lambda _, name, __: asked.append(name)
    with Receiver(tls=shows) as receiver:
        url = f"https://hooks.example.com:{receiver.port}/"
        assert post(Receivers(loopback, Names(["127.0.0.1"]), trusts), url) == Reply(204)
        assert asked == ["hooks.example.com"]
        other = f"https://other.example.com:{receiver.port}/"
        refused(Receivers(loopback, Names(["127.0.0.1"]), trusts), other, "certificate")
        refused(Receivers(loopback, Names(["127.0.0.1"])), url, "certificate")  # nobody vouches for it
        assert len(receiver.received) == 1


def serving(answer: Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]) -> Reply:
    """The reply of a receiver that answers like this to a connection."""

    async def once() -> Reply:
        async def on_connection(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await answer(writer)
            except ConnectionError:
                pass
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        port, to = server.sockets[0].getsockname()[1], Receivers(loopback)
        try:
            return await to.post(f"http://127.0.0.1:{port}/", {}, b"{}")
        finally:
            await to.close()
            server.close()

    return asyncio.run(once())


def test_the_body_of_an_answer_is_not_waited_for():
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()

    assert serving(endless) == Reply(200)


@pytest.mark.parametrize("piece", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"X: y\r\n"])
def test_an_answer_has_its_time(monkeypatch, piece):
    """However much arrives: nothing, one sign of life after another, or a head without end."""
    monkeypatch.setattr(receivers, "SECONDS", 0.2)

    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" if piece.startswith(b"X") else b"")
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)

    with pytest.raises(TimeoutError):
        serving(trickle)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01 nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000])
def test_what_is_no_answer_is_a_failure(said):
    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    with pytest.raises(FAILURES):
        serving(say)


def test_a_receiver_that_is_not_there_is_a_failure():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    refused(Receivers(loopback), f"http://127.0.0.1:{port}/")
    refused(Receivers(loopback), f"http://{'a' * 63}.{'b' * 64}/")  # longer than a label may be


def test_no_receiver_is_a_file():
    with pytest.raises(httpcore.ConnectError):
        asyncio.run(receivers.CheckedNetwork(loopback, LookUps()).connect_unix_socket("/run/some.sock"))


def test_slow_name_servers_hold_up_only_themselves(monkeypatch):
    """Their number is bounded, who gave up waiting is no trouble to them, and the room comes back."""
    release, asked = threading.Event(), []

    def slow(host: str, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        release.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))] * 2

    monkeypatch.setattr(receivers, "LOOKUPS", 2)
    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def ask() -> None:
        look_ups = LookUps()
        leaves, stays = (asyncio.create_task(look_ups(name, 80)) for name in "ab")
        while len(asked) < 2:
            await asyncio.sleep(0.01)
        leaves.cancel()
        with pytest.raises(OSError, match="too many names"):
            await look_ups("c", 80)
        release.set()
        assert await stays == ["127.0.0.1"]
        assert leaves.cancelled()
        until(lambda: look_ups._room._value == 2)
        assert await look_ups("d", 80) == ["127.0.0.1"]

    asyncio.run(ask())
    assert asked == ["a", "b", "d"]


def test_a_look_up_may_outlive_the_loop(monkeypatch):
    release, started = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> list[Any]:
        started.set()
        release.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    look_ups = LookUps()

    async def leave() -> None:
        task = asyncio.create_task(look_ups("a", 80))
        while not started.is_set():
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(leave())
    release.set()
    until(lambda: not any(thread.name == "bnfold-names" for thread in threading.enumerate()))
