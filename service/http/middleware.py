"""Middleware for every request: its id, the names of this server, security headers, a line in the log."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from service.auth.audit import audit
from service.auth.guests import GONE
from service.auth.keys import CHALLENGE
from service.problems import Problem, respond
from service.tracing.spans import Span, accepted, trace_id

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.tracing.spans import Traces

LOG = logging.getLogger("bnfold")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
LENGTHS = {"content-length", "transfer-encoding"}
TWO_LENGTHS = "the request states its length twice, so what follows it may be another's; send one (RFC 9112)"
CLOSE = {"Connection": "close"}
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
PROBES = {"/livez", "/readyz"}  # whoever asks for them knows the server by an address, or by no name at all
DOORS = {"unauthorized", "forbidden", "quota-exceeded"}  # problems of who asks, which the audit log has
TRACED = "/v1/"
LINKS = ("location", "content-location", "link")
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
    """The outermost layer of the application. It uses the state of the service, which exists once requests arrive.

    `names` are those of this server; empty for any. `root` is the path under which a reverse proxy shows the server: it
    is taken from the paths of requests, whether or not the proxy has done so, and put before the paths in headers.
    """

    def __init__(self, app: ASGIApp, names: tuple[str, ...], root: str = "") -> None:
        self._app, self._names, self._root = app, names, root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await _live(self._app, scope, receive, send)
            return
        headers, began, status = Headers(scope=scope), time.monotonic(), 500
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        span = _span(scope, headers)
        scope.setdefault("state", {}).update(request_id=request_id, span=span)

        refusal = self._refusal(scope, headers)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun, status
            begun = True
            if message["type"] == "http.response.start":
                status = message["status"]
                self._complete(MutableHeaders(scope=message), request_id)
            await send(message)

        try:
            await (refusal or self._app)(scope, receive, sending)
        except asyncio.CancelledError:
            if not scope["app"].state.service.guests.was_turned_out():
                raise
            if not begun:  # else the connection ends in the middle of the response
                await respond(Problem("unauthorized", GONE, headers=CHALLENGE | CLOSE))(scope, receive, sending)
        except Exception:  # any error: the client gets a response, and the log the reason
            LOG.exception("a request failed", extra={"request": request_id})
            if begun:
                raise
            detail = f"the server made a mistake; its log says more under the request id {request_id}"
            await respond(Problem("internal", detail))(scope, receive, sending)
        finally:
            seconds = time.monotonic() - began
            method = scope["method"] if scope["method"] in METHODS else "other"
            scope["app"].state.service.metrics.requests.labels(method, status).observe(seconds)
            _end(span, scope, method, status)
            fields = {"status": status, "seconds": round(seconds, 4), "key": ""}
            LOG.info("request", extra=fields | log_fields(scope))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The response to a request that no route may see; None for others, whose paths lose the root."""
        if set(headers.keys()) >= LENGTHS:
            return respond(Problem("bad-request", TWO_LENGTHS, headers=CLOSE))
        if self._root and scope["path"] == self._root:  # relative links of the page need the slash
            return Response(status_code=308, headers={"Location": "/"})
        if self._root and scope["path"].startswith(f"{self._root}/"):
            scope["path"] = scope["path"].removeprefix(self._root)
            scope["raw_path"] = scope["raw_path"].removeprefix(self._root.encode())
        if scope["path"] in PROBES or self._knows(headers.get("host", "")):
            return None
        audit(scope["app"].state.service.settings.data, "refused", problem="forbidden", **log_fields(scope))
        detail = "this server does not go by that name; the operator can add it to allowed_hosts"
        return respond(Problem("forbidden", detail))

    def _complete(self, headers: MutableHeaders, request_id: str) -> None:
        """Complete the headers of a response."""
        headers["X-Request-ID"] = request_id
        for name, value in SAFE_HEADERS.items():
            headers.setdefault(name, value)
        for name in LINKS if self._root else ():
            if path := headers.get(name):
                headers[name] = f"<{self._root}{path[1:]}" if path[0] == "<" else self._root + path

    def _knows(self, host: str) -> bool:
        """Whether a Host header names this server. Another site could make its own name resolve to this machine."""
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        return not self._names or name.lower() in self._names


def log_fields(scope: Scope) -> dict[str, str]:
    """What logs say of a request. The address is the client's, unless a proxy that is not trusted hides it."""
    state = scope["state"]
    method = scope["method"] if scope["method"] in METHODS else "other"
    address = scope["client"][0] if scope.get("client") else ""
    known = {"request": state["request_id"], "method": method, "path": scope["path"], "client": address}
    trace = trace_id(state["span"].traceparent)
    return known | ({"key": state["key"]} if "key" in state else {}) | ({"trace": trace} if trace else {})


def _span(scope: Scope, headers: Headers) -> Span:
    """The span of a request; of the page, of probes and of scrapes there is none."""
    parent = accepted(headers.get("traceparent"))
    if not scope["path"].startswith(TRACED):
        return Span(parent)
    traces: Traces = scope["app"].state.service.traces
    return traces.span("request", parent, "server")


def _end(span: Span, scope: Scope, method: str, status: int) -> None:
    """End the span of a request. Its route is known now; its path, which has ids, is not noted."""
    route = getattr(scope.get("route"), "path", None)
    span.name(f"{method} {route}" if route else method)
    span.note({"http.request.method": method, "http.route": route, "http.response.status_code": status})
    span.end(str(status) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None)


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
