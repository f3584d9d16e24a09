"""Receivers: sends HTTP requests to the URLs of webhooks. A receiver may not be in the server's own network.

A name is looked up once, all its addresses must be public, and the connection goes to one of these addresses. There is
no second look-up, because its answer could differ. The certificate is checked against the URL, and the Host header is
the URL's. Redirects are not followed, and the environment (proxies) is not used.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpcore
import httpx

from service.options import URL_LENGTH
from service.problems import Problem
from service.webhook.addresses import is_public, literal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping

IsAllowed = Callable[[str], bool]
LookUp = Callable[[str, int], Awaitable[list[str]]]

HOST_LENGTH = 253  # RFC 1035
HOST = re.compile(r"([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
ALLOWED = f"at most {URL_LENGTH} ASCII characters: https:// or http://, a host, perhaps a port, no user and no fragment"
SECONDS = 15.0  # for one request, from the look-up to the head of the response; the specification says 15 to 30
CONNECT_SECONDS = 5.0  # to connect to one address
ADDRESSES = 4  # of one name, at most, that are tried
LOOKUPS = 32  # that may run at the same time
LONGEST_WAIT = 24 * 60 * 60.0  # seconds that a receiver may ask for
TIMEOUTS = {"connect": CONNECT_SECONDS, "read": SECONDS, "write": SECONDS, "pool": SECONDS}
# The errors that a receiver can cause: every other error is a bug of the server.
FAILURES = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError, ValueError)


@dataclass(frozen=True)
class Reply:
    """The response of a receiver, without its body, which is not read."""

    status: int
    wait: float | None = None  # seconds, from Retry-After


class Receivers:
    """Sends requests to receivers. `is_allowed` returns whether an address may be connected to."""

    def __init__(
        self, is_allowed: IsAllowed = is_public, look_up: LookUp | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._is_allowed = is_allowed
        self._pool = httpcore.AsyncConnectionPool(
            tls or httpx.create_ssl_context(),
            max_connections=None,  # the callers limit the number of requests
            max_keepalive_connections=0,  # every connection is checked
            network_backend=CheckedNetwork(is_allowed, look_up or LookUps()),
        )

    def checked(self, url: str) -> str:
        """The URL, if a webhook may be sent to it; its name is not looked up.

        Raises:
            Problem: invalid-option.
        """
        try:
            found = httpx.URL(url)
        except (httpx.InvalidURL, ValueError):
            found = httpx.URL("")
        if not _is_plain(url, found):
            raise Problem("invalid-option", f"webhook must be a URL of {ALLOWED}")
        address = literal(found.raw_host.decode())
        if address is not None and not self._is_allowed(address):
            reason = "is no address of the public internet; name a host that can be reached from everywhere"
            raise Problem("invalid-option", f"webhook: {found.host} {reason}")
        return url

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send one request.

        Raises:
            One of FAILURES: the request failed, or its address is not allowed.
        """
        to = httpx.URL(url)
        target = httpcore.URL(scheme=to.raw_scheme, host=to.raw_host, port=to.port, target=to.raw_path)
        sent = [(b"Host", to.netloc), *((name.encode(), value.encode()) for name, value in headers.items())]
        answered = self._pool.stream("POST", target, headers=sent, content=body, extensions={"timeout": TIMEOUTS})
        async with asyncio.timeout(SECONDS), answered as answer:
            found = {name.lower(): value for name, value in answer.headers}
            return Reply(answer.status, _wait(found.get(b"retry-after", b"")))

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections to checked addresses only."""

    def __init__(self, is_allowed: IsAllowed, look_up: LookUp) -> None:
        self._is_allowed, self._look_up, self._plain = is_allowed, look_up, httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first reachable address of the host; refuse if any of its addresses is not allowed."""
        addresses = await self._look_up(host, port)
        if not addresses or not all(map(self._is_allowed, addresses)):
            raise httpcore.ConnectError("the host has an address that is not of the public internet")
        failure: Exception = httpcore.ConnectError("no address")
        for address in addresses[:ADDRESSES]:
            try:
                return await self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        """Refuse: a Unix socket is never a receiver."""
        raise httpcore.ConnectError("no receiver is a file")

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        await asyncio.sleep(seconds)


class LookUps:
    """The system's resolver, in threads of its own: a slow name server delays neither disk access nor the shutdown."""

    def __init__(self) -> None:
        self._room = threading.BoundedSemaphore(LOOKUPS)

    async def __call__(self, host: str, port: int) -> list[str]:
        """The addresses of a host, without duplicates.

        Raises:
            OSError, UnicodeError: there is no address, the name is not valid, or too many look-ups are running.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def resolve(found: list[str] | Exception) -> None:
            if not answer.done():
                answer.set_exception(found) if isinstance(found, Exception) else answer.set_result(found)

        def look_up() -> None:
            try:
                found: list[str] | Exception = _addresses(host, port)
            except (OSError, UnicodeError) as error:
                found = error
            finally:
                self._room.release()
            with suppress(RuntimeError):  # the event loop may have ended meanwhile
                loop.call_soon_threadsafe(resolve, found)

        if not self._room.acquire(blocking=False):
            raise OSError("too many names are being looked up")
        threading.Thread(target=look_up, name="bnfold-names", daemon=True).start()
        return await answer


def _addresses(host: str, port: int) -> list[str]:
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def _is_plain(text: str, url: httpx.URL) -> bool:
    """Whether a text is a URL that all parsers read in the same way."""
    host = url.raw_host.decode()
    is_host = ":" in host and "%" not in host  # an IPv6 literal
    return (
        len(text) <= URL_LENGTH
        and text.isascii()
        and text.isprintable()
        and not set(text) & set(' \\"<>')
        and url.scheme in {"https", "http"}
        and (is_host or (len(host) <= HOST_LENGTH and HOST.fullmatch(host) is not None))
        and url.port != 0
        and (url.port or 1) <= 0xFFFF
        and not url.userinfo
        and "#" not in text
    )


def _wait(value: bytes) -> float | None:
    return min(float(value), LONGEST_WAIT) if value.isdigit() else None
