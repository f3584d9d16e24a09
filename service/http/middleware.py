"""Middleware for every request: its id, the names of this server, security headers, a line in the log."""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

from service.problems import Problem, respond

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("bnfold")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
LENGTHS = {"content-length", "transfer-encoding"}
TWO_LENGTHS = "the request tells its length twice, so what follows it may be another's; send one (RFC 9112)"
CLOSE = {"Connection": "close"}
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
SAFE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; object-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}


class Around:
    """The outermost layer of the application. It uses the state of the service, which exists once requests arrive."""

    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await _live(self._app, scope, receive, send)
            return
        headers, began, status = Headers(scope=scope), time.monotonic(), 500
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun, status
            begun = True
            if message["type"] == "http.response.start":
                status = message["status"]
                response_headers = MutableHeaders(scope=message)
                response_headers["X-Request-ID"] = request_id
                for name, value in SAFE_HEADERS.items():
                    response_headers.setdefault(name, value)
            await send(message)

        try:
            if set(headers.keys()) >= LENGTHS:
                await respond(Problem("bad-request", TWO_LENGTHS, headers=CLOSE))(scope, receive, sending)
            elif self._knows(headers.get("host", "")):
                await self._app(scope, receive, sending)
            else:
                detail = "this server does not go by that name; the operator can add it to allowed_hosts"
                await respond(Problem("forbidden", detail))(scope, receive, sending)
        except Exception:  # any error: the client gets a response, and the log the reason
            LOG.exception("a request failed", extra={"request": request_id})
            if begun:
                raise
            detail = f"the server made a mistake; its log tells more under the request id {request_id}"
            await respond(Problem("internal", detail))(scope, receive, sending)
        finally:
            seconds = time.monotonic() - began
            method = scope["method"] if scope["method"] in METHODS else "other"
            scope["app"].state.service.metrics.requests.labels(method, status).observe(seconds)
            fields = {"request": request_id, "method": method, "path": scope["path"], "status": status}
            LOG.info("request", extra={**fields, "seconds": round(seconds, 4), "key": scope["state"].get("key", "")})

    def _knows(self, host: str) -> bool:
        """Whether a Host header names this server. Another site could make its own name resolve to this machine."""
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        return not self._names or name.lower() in self._names


async def _live(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Start and end the application. If it cannot start, the log has one sentence, which the error says."""
    failed = False

    async def sending(message: Message) -> None:
        nonlocal failed
        if message["type"] == "lifespan.startup.failed":
            failed = True
            message["message"] = f"the server cannot start: {message['message'].strip().splitlines()[-1]}"
        await send(message)

    try:
        await app(scope, receive, sending)
    except Exception:
        if not failed:
            raise
