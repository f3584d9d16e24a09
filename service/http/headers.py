"""Headers of requests that this service understands. A header that it does not understand counts as not sent."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
DIGEST_HEADERS = ("repr-digest", "content-digest", "digest")  # RFC 9530, and RFC 3230, which it replaces
HASHES = {"sha-256": 32, "sha-512": 64}  # the algorithms that are not broken, and their bytes


def preferred(accept: str | None, offered: Sequence[str]) -> str:
    """The media type of the response, RFC 9110: of `offered`, what the client prefers; the first if it accepts none."""
    if not accept:
        return offered[0]
    wanted = dict(_weighted(part) for part in accept.lower().split(","))

    def weight(media: str) -> float:
        kind = media.split("/", maxsplit=1)[0]
        return next((wanted[name] for name in (media, f"{kind}/*", "*/*") if name in wanted), 0.0)

    return max(offered, key=weight)


def _weighted(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return media, float(parameter[2:])
            except ValueError:
                return media, 0.0
    return media, 1.0


@dataclass(frozen=True)
class Preferences:
    """The preferences that a `Prefer` header states, RFC 7240."""

    respond_async: bool
    wait: float | None  # seconds

    def applied(self, bound: float) -> dict[str, str]:
        """The header that says which were followed: a wait for more than `bound` seconds is not."""
        followed = ["respond-async"] if self.respond_async else []
        if self.wait is not None and self.wait <= bound and not self.respond_async:
            followed.append(f"wait={self.wait:.0f}")
        return {"Preference-Applied": ", ".join(followed)} if followed else {}


def preferences(text: str | None) -> Preferences:
    """Parse a `Prefer` header."""
    given = {
        name.strip().lower(): value.strip() for name, _, value in (p.partition("=") for p in (text or "").split(","))
    }
    wait = given.get("wait", "")
    return Preferences("respond-async" in given, float(wait) if wait.isdecimal() else None)


def etag(sha256: str) -> str:
    """The entity tag of a content: its SHA-256 in quotes."""
    return f'"{sha256}"'


def repr_digest(sha256: str) -> str:
    """The Repr-Digest of a content, RFC 9530."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def claimed_digests(headers: Mapping[str, str]) -> dict[str, str]:
    """The digests (hex) that the client states for its upload, by algorithm, all of which are to be checked.

    One by another algorithm is passed over if there is one to check beside it.

    Raises:
        Problem: bad-request: a digest is malformed, the headers contradict each other, or none can be checked.
    """
    claimed: dict[str, str] = {}
    others = []
    for header in DIGEST_HEADERS:
        for part in filter(None, map(str.strip, headers.get(header, "").split(","))):
            name, _, value = part.partition("=")
            algorithm = name.strip().lower()
            if algorithm not in HASHES:
                others.append(f"{header}: {algorithm[:40]!r}")
            elif claimed.setdefault(algorithm, digest := _digest(header, algorithm, value)) != digest:
                raise Problem("bad-request", f"the request states two different digests by {algorithm}; send one")
    if others and not claimed:
        detail = f"{others[0]} is not checked here; send {' or '.join(HASHES)} (RFC 9530), or no digest"
        raise Problem("bad-request", detail)
    return claimed


def _digest(header: str, algorithm: str, value: str) -> str:
    text = value.strip().partition(";")[0]
    if header != "digest":  # bytes of a structured field, RFC 9651
        text = text[1:-1] if len(text) > 1 and text[0] == text[-1] == ":" else ""
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != HASHES[algorithm]:
        raise Problem("bad-request", f"{header}: this is no digest by {algorithm}; send {algorithm}=:BASE64:, RFC 9530")
    return digest.hex()


def matches(header: str | None, tag: str) -> bool:
    """Whether an If-None-Match or If-Match header names this entity tag."""
    if header is None:
        return False
    return header.strip() == "*" or tag in {part.strip().removeprefix("W/") for part in header.split(",")}


def requested_range(headers: Mapping[str, str], size: int, tag: str) -> tuple[int, int] | None:
    """The start and the end (exclusive) of the requested range; None to send everything, RFC 9110.

    Raises:
        Problem: range-not-satisfiable.
    """
    found = RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if found is None or found[0] == "bytes=-" or headers.get("if-range", tag) != tag:
        return None
    first, last = found.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None  # not valid, so it counts as not sent
    if start >= size or (not first and int(last) == 0):
        detail = f"the content has {size} bytes"
        raise Problem("range-not-satisfiable", detail, headers={"Content-Range": f"bytes */{size}"})
    return start, end
