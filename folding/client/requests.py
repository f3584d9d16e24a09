"""Requests to a service that may be busy, restarting or unreachable: they are retried within limits."""

from __future__ import annotations

import json
import math
import random
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import httpx

from folding.errors import OptionError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Json = dict[str, Any]

PROBLEM_TYPE = "/problems/"  # on the service itself
JOB_HEADER = "Bnfold-Job"
JOBS = "/v1/jobs/"
MIB = 1 << 20
LARGEST_JSON = 256 * MIB  # a report of 100,000 maps takes about 60
# Statuses that a retry may resolve: the server is busy, starting, or behind a proxy that does not find it.
_PASSING = {429, 502, 503, 504}
_BROKEN_UPLOAD = "digest-mismatch"  # the network damaged the upload, so it is sent again
_CONNECT_SECONDS, _READ_SECONDS, _WRITE_SECONDS = 10.0, 90.0, 60.0  # the server answers long polls within 30


@dataclass(frozen=True)
class Retries:
    """How often a request is tried, and the pauses between: random, up to a bound that doubles."""

    attempts: int = 6
    first: float = 0.5  # seconds
    longest: float = 20.0
    patience: float = 120.0  # a longer wait (Retry-After) is not accepted: the request fails

    def pause(self, attempt: int, asked: float | None) -> float:
        """Seconds to wait after this many failed attempts; `asked` are the seconds that the server asked for."""
        jitter = random.uniform(0, min(self.longest, self.first * 2.0 ** (attempt - 1)))  # noqa: S311  no secret
        return jitter if asked is None else asked + jitter


class PassingError(Exception):
    """A failure that a retry may resolve: `error` describes it, `asked` is the wait that the server asks for."""

    def __init__(self, error: ServiceError, asked: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.asked = error, asked


class Attempts:
    """The attempts at one piece of work: a failure leads to a wait, or to an error after too many failures."""

    def __init__(self, retries: Retries) -> None:
        self._retries, self._failed = retries, 0

    def failed(self, failure: PassingError) -> None:
        """Wait before the next attempt.

        Raises:
            ServiceError: this was the last attempt, or the server asks to wait for too long.
        """
        self._failed += 1
        if self._failed >= self._retries.attempts or (failure.asked or 0) > self._retries.patience:
            raise failure.error
        time.sleep(self._retries.pause(self._failed, failure.asked))

    def progressed(self) -> None:
        """Reset the count of failures, because the service sent at least a part of an answer."""
        self._failed = 0


class Requests:
    """One service: its address, its API key and the connections to it.

    Raises:
        OptionError: the address or the key is malformed.
    """

    def __init__(self, url: str, key: str | None, retries: Retries) -> None:
        address = _address(url)
        self.url, self.retries = str(address).rstrip("/"), retries
        headers = {"Accept-Encoding": "identity", "User-Agent": "bnfold"}  # digests and ranges count plain bytes
        if key is not None:
            headers["Authorization"] = f"Bearer {_checked(key)}"
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS, write=_WRITE_SECONDS),
            trust_env=not _is_loopback(address.host),  # a proxy cannot reach this machine's loopback
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @contextmanager
    def once(self, method: str, path: str, **request: Any) -> Iterator[httpx.Response]:
        """The successful answer to one request, with the body not read yet; `request` is passed to httpx.

        Raises:
            PassingError: a retry may help; also raised if the connection breaks while the body is read.
            ServiceError: the problem that the service reported.
        """
        try:
            with self._http.stream(method, path, **request) as response:
                if not (response.is_success or _is_known(response)):
                    error = problem(response)
                    if response.status_code in _PASSING or error.slug == _BROKEN_UPLOAD:
                        raise PassingError(error, retry_after(response))
                    raise error
                yield response
        except httpx.TransportError as failure:
            raise PassingError(self._unreachable(failure)) from failure

    def json(
        self,
        method: str,
        path: str,
        *,
        body: Callable[[], Iterable[bytes]] | None = None,
        retries: Retries | None = None,
        **request: Any,
    ) -> tuple[Json, httpx.Headers]:
        """Return the JSON object that answers a request ({} if it has no content) and the headers of the answer.

        `body` is called again for every attempt. The request must be safe to repeat.

        Raises:
            ServiceError: the problem that the service reported, or "unreachable".
        """
        attempts = Attempts(retries or self.retries)
        headers = {"Accept": "application/json", **request.pop("headers", {})}
        while True:
            content = None if body is None else body()
            try:
                with self.once(method, path, content=content, headers=headers, **request) as response:
                    return _object(_body(response)), response.headers
            except PassingError as failure:
                attempts.failed(failure)

    def _unreachable(self, failure: Exception) -> ServiceError:
        cause = str(failure) or type(failure).__name__
        detail = f"{self.url} does not answer: {cause}; is the service running, and is this its address?"
        return ServiceError(ServiceError.UNREACHABLE, "The service cannot be reached", detail)


def problem(response: httpx.Response) -> ServiceError:
    """The error that an answer reports (RFC 9457), or a general one if the answer is not from a bnfold service."""
    status = response.status_code
    with suppress(ServiceError, httpx.TransportError):
        document = _object(_body(response))
        if isinstance(document.get("type"), str):
            return from_problem(document, status, response.headers.get(JOB_HEADER))
    if response.is_redirect:
        where = response.headers.get("Location", "another address")
        return ServiceError(
            ServiceError.PROTOCOL, "The service has moved", f"the server sends to {where}; give that address"
        )
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "unknown"
    detail = f"{response.url.copy_with(query=None)} answers {status} ({phrase}) and not as a bnfold service does"
    return ServiceError(ServiceError.PROTOCOL, "This is no answer of a bnfold service", detail, status=status)


def from_problem(problem: Json, status: int | None = None, job: str | None = None) -> ServiceError:
    """The error for a problem document of an answer or of a job."""
    slug = str(problem.get("type", "")).rpartition(PROBLEM_TYPE)[2]
    known, instance = problem.get("status"), str(problem.get("instance", ""))
    return ServiceError(
        slug,
        str(problem.get("title", slug)),
        str(problem.get("detail", "")),
        status=known if isinstance(known, int) else status,
        job=job or (instance.removeprefix(JOBS) if instance.startswith(JOBS) else None),
    )


def _is_known(response: httpx.Response) -> bool:
    """Whether the answer says that nothing changed since the ETag in If-None-Match."""
    return response.status_code == HTTPStatus.NOT_MODIFIED and "If-None-Match" in response.request.headers


def retry_after(response: httpx.Response) -> float | None:
    """The seconds that a server asks to wait (RFC 9110, 10.2.3: a number of seconds or a date)."""
    text = response.headers.get("Retry-After")
    if text is None:
        return None
    with suppress(ValueError):
        seconds = float(text)
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    with suppress(ValueError):
        moment = parsedate_to_datetime(text)
        return max((moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
    return None


def unexpected(what: str) -> ServiceError:
    """The error for an answer that contradicts the service's documentation."""
    return ServiceError(ServiceError.PROTOCOL, "The service answers unexpectedly", f"the service's answer {what}")


def _body(response: httpx.Response) -> bytes:
    data = bytearray()
    for block in response.iter_raw():
        data += block
        if len(data) > LARGEST_JSON:
            raise unexpected(f"has more than {LARGEST_JSON:,} bytes where a few were expected")
    return bytes(data)


def _object(data: bytes) -> Json:
    if not data:
        return {}
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise unexpected("is no JSON") from None
    if not isinstance(value, dict):
        raise unexpected("is no JSON object")
    return value


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise OptionError(f"{url!r} is no address of a service: {error}") from None
    if address.scheme not in {"http", "https"} or not address.host or address.query or address.userinfo:
        raise OptionError(f"{url!r} is no address of a service; it looks like http://127.0.0.1:8000")
    return address


def _checked(key: str) -> str:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise OptionError("the API key has characters that no key has; was it copied whole, and nothing with it?")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
