"""Access: the caller of a request, its scopes and its quota. By default, a server that others reach asks for keys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi import Request

from service.auth.keys import CHALLENGE, SCOPES, find_key
from service.ledger.records import NOBODY, Quota
from service.problems import Problem
from service.settings import is_loopback
from service.state import Here
from service.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.datastructures import Headers

IMPLIED = {"read": "fold"}  # a key that may fold may also read: it can read only its own jobs
DOTS_OF_A_TOKEN = 2  # between head, claims and signature, RFC 7515; an API key has none
PROXIED = {"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"}
PROXIED_PREFIX = "x-forwarded-"
OLD_HTTP = "1.0"  # which nginx speaks to a server unless it is configured otherwise, and no client of today
THROUGH_A_PROXY = (
    "this request came through a proxy, and without API keys only this machine may ask; the operator names the server "
    "in BNFOLD_ALLOWED_HOSTS='[\"fold.example.org\"]', and makes a key with `bnfold keys add`; where the proxy itself "
    "checks who asks: BNFOLD_REQUIRE_KEYS=false"
)
FROM_ELSEWHERE = {"cross-site", "same-site"}  # Sec-Fetch-Site of a request that a page of another site sends


@dataclass(frozen=True)
class Caller:
    """Who sends a request. Its blobs and jobs belong to this key."""

    key: str
    scopes: tuple[str, ...]
    quota: Quota
    expires: float | None = None


ANYONE = Caller(NOBODY, SCOPES, Quota())


def may(scope: str) -> Callable[[Request, Here], Awaitable[Caller]]:
    """A FastAPI dependency that returns the caller, if it has the scope.

    Raises:
        Problem: unauthorized, forbidden, quota-exceeded.
    """

    async def caller(request: Request, here: Here) -> Caller:
        found = await _caller(request, here)
        request.state.key = found.key
        here.guests.enter(found.key, found.expires)
        if scope not in found.scopes and IMPLIED.get(scope) not in found.scopes:
            detail = f"this key may not {scope}; it may {', '.join(found.scopes) or 'do nothing'}"
            raise Problem("forbidden", detail)
        if found.quota.rate is not None and (pause := here.rates.hit(found.quota.rate, found.key)):
            seconds = math.ceil(pause)
            detail = f"this key may ask {found.quota.rate}; ask again in {seconds} s"
            raise Problem("quota-exceeded", detail, headers={"Retry-After": str(seconds)})
        return found

    return caller


async def _caller(request: Request, here: Here) -> Caller:
    given = request.headers.get("authorization")
    if given is not None:
        kind, _, text = given.partition(" ")
        if here.tokens is not None and kind.lower() == "bearer" and text.count(".") == DOTS_OF_A_TOKEN:
            token = await here.tokens.bearer(text.strip())
            return Caller(token.id, token.scopes, Quota(), token.expires)
        key = await in_thread(find_key, here.ledger, text.strip()) if kind.lower() == "bearer" else None
        if key is None:
            raise Problem(
                "unauthorized",
                "this API key is not known here; it may have been revoked, rotated, or have expired",
                headers=CHALLENGE,
            )
        return Caller(key.id, key.scopes, key.quota)
    if here.settings.asks_for_keys:
        detail = "send an API key: Authorization: Bearer bnf_...; the operator makes one with `bnfold keys add`"
        raise Problem("unauthorized", detail, headers=CHALLENGE)
    if here.settings.require_keys is None and _came_through_a_proxy(request):
        raise Problem("forbidden", THROUGH_A_PROXY)
    if _is_of_another_page(request.headers):
        raise Problem("forbidden", "a page of another site asked for this; without API keys only its own page may")
    return ANYONE


def _came_through_a_proxy(request: Request) -> bool:
    """Whether anything shows that a proxy forwards the request: headers, HTTP/1.0, or a page that has another name."""
    names = request.headers.keys()
    page = urlsplit(request.headers.get("origin", "")).hostname
    return (
        any(name in PROXIED or name.startswith(PROXIED_PREFIX) for name in names)
        or request.scope["http_version"] == OLD_HTTP
        or (page is not None and not is_loopback(page) and request.headers.get("sec-fetch-site") == "same-origin")
    )


def _is_of_another_page(headers: Headers) -> bool:
    """Whether a page of another site sends the request. Old browsers, and all without TLS, send only Origin."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None or origin is None:
        return site in FROM_ELSEWHERE
    return origin.partition("://")[2].lower() != headers.get("host", "").lower()
