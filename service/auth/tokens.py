"""Tokens: bearer tokens of an OpenID Connect issuer, which the operator may trust beside API keys (extra `oidc`).

A token is a JWT that a key of the issuer signed. Required are `iss`, `aud`, `sub` and `exp`; `nbf` is obeyed; only
asymmetric algorithms count. Its `scope` names what it may do: `bnfold:fold`, `bnfold:read`, ... The jobs and blobs
belong to issuer and subject, not to one token. The keys are looked up at the issuer (OpenID Connect Discovery 1.0), and
again when a token names one that is not known.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from service.auth.keys import CHALLENGE, SCOPES
from service.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from joserfc.jwk import KeySet

    Fetch = Callable[[str], Awaitable[Any]]

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
KINDS = {"RSA", "EC", "OKP"}  # of keys that can check such a signature
PREFIX = "bnfold:"  # of our scopes among those of other services
DISCOVERY = "/.well-known/openid-configuration"
ID_LENGTH = 31
LONGEST = 16384  # characters of a token
LEEWAY = 30  # seconds by which two clocks may differ
KEPT = 600.0  # seconds that keys are kept
LOOK_EVERY = 10.0  # seconds between two look-ups, at least: anybody can make up a key's name
FETCH_SECONDS = 10.0
MISSING = "BNFOLD_OIDC_ISSUER needs the package joserfc, which is not installed; install the extra `oidc`"


class Bearer(NamedTuple):
    """Who a token is of: the id that jobs and blobs belong to, what it may do, and when it expires."""

    id: str
    scopes: tuple[str, ...]
    expires: float


class Tokens:
    """The tokens of one issuer, for one audience.

    Raises:
        RuntimeError: the package that reads tokens is not installed.
    """

    def __init__(self, issuer: str, audience: str, fetch: Fetch | None = None) -> None:
        try:
            import joserfc  # noqa: F401, PLC0415  an extra
        except ImportError:
            raise RuntimeError(MISSING) from None
        self._issuer, self._audience, self._fetch = issuer, audience, fetch or _fetched
        self._keys: KeySet | None = None
        self._looked = float("-inf")
        self._lock = asyncio.Lock()

    async def bearer(self, text: str) -> Bearer:
        """Who a token is of.

        Raises:
            Problem: unauthorized: the token is not good; busy: the issuer cannot be asked for its keys.
        """
        from joserfc.errors import InvalidKeyIdError, JoseError  # noqa: PLC0415  an extra

        if len(text) > LONGEST:
            raise _refused("it is too long")
        try:
            try:
                claims = self._claims(text, await self._known(KEPT))
            except InvalidKeyIdError:  # the issuer may have a new key
                claims = self._claims(text, await self._known(LOOK_EVERY))
        except JoseError as error:
            raise _refused(error.description or error.error.replace("_", " ")) from None
        except (ValueError, TypeError, RecursionError):
            raise _refused("it cannot be read") from None
        digest = hashlib.sha256(f"{self._issuer}\n{claims['sub']}".encode()).hexdigest()
        named = str(claims.get("scope", "")).split()
        return Bearer(f"o{digest[:ID_LENGTH]}", tuple(s for s in SCOPES if PREFIX + s in named), float(claims["exp"]))

    def _claims(self, text: str, keys: KeySet) -> dict[str, Any]:
        from joserfc import jwt  # noqa: PLC0415  an extra

        claims: dict[str, Any] = jwt.decode(text, keys, algorithms=ALGORITHMS).claims
        wanted = {"iss": self._issuer, "aud": self._audience}
        checks: dict[str, Any] = {name: {"essential": True, "value": value} for name, value in wanted.items()}
        checks |= {name: {"essential": True} for name in ("sub", "exp")}
        jwt.JWTClaimsRegistry(leeway=LEEWAY, **checks).validate(claims)
        return claims

    async def _known(self, age: float) -> KeySet:
        """The issuer's keys, looked up again if that was longer ago than `age` seconds."""
        from joserfc.jwk import KeySet  # noqa: PLC0415  an extra

        async with self._lock:
            if self._keys is None or time.monotonic() - self._looked > age:
                if time.monotonic() - self._looked <= LOOK_EVERY:
                    raise _unreachable()
                self._looked = time.monotonic()
                try:
                    self._keys = KeySet.import_key_set({"keys": await self._looked_up()})
                except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
                    if self._keys is None:
                        raise _unreachable() from error
            return self._keys

    async def _looked_up(self) -> list[dict[str, Any]]:
        """The issuer's keys that can check a signature."""
        document = await self._fetch(self._issuer.rstrip("/") + DISCOVERY)
        if document["issuer"] != self._issuer:
            raise ValueError(f"{self._issuer} calls itself {document['issuer']!r:.100}")
        found = await self._fetch(document["jwks_uri"])
        return [one for one in found["keys"] if one["kty"] in KINDS and one.get("use", "sig") == "sig"]


async def _fetched(url: str) -> Any:
    async with httpx.AsyncClient(timeout=FETCH_SECONDS) as client:
        return (await client.get(url)).raise_for_status().json()


def _refused(why: str) -> Problem:
    return Problem("unauthorized", f"this token is not accepted: {why}", headers=CHALLENGE)


def _unreachable() -> Problem:
    detail = "the issuer of this token cannot be asked for its keys now; try again later"
    return Problem("busy", detail, headers={"Retry-After": str(int(LOOK_EVERY))})
