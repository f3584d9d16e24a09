"""Spans that are not recorded, and the trace context that passes through in any case.

A `traceparent` (W3C Trace Context), a string, says where a span belongs. A request may have one; the ledger keeps
it with the job and the webhook, so whoever continues them, in any process, continues the trace as well.
`service.tracing.telemetry` has the spans that are recorded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from types import TracebackType

TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
VERSION, UNKNOWN_VERSION = "00", "ff"
LENGTH = 55  # of a traceparent of this version
FLAGS = 0x03  # those that are known: sampled, random

Kind = Literal["server", "internal", "client"]
Attributes = Mapping[str, str | int | None]  # None is not noted
NONE: Attributes = {}
# All that a span may say. No name of a file, no key, no address, no text of a client.
ATTRIBUTES = frozenset(
    {
        "bnfold.attempt",
        "bnfold.bytes",
        "bnfold.job",
        "bnfold.outcome",
        "bnfold.size",
        "error.type",
        "http.request.method",
        "http.response.status_code",
        "http.route",
    }
)


def accepted(header: str | None) -> str | None:
    """The traceparent that a client sent, in the form of this version; None if it is not valid, which is no error."""
    found = TRACEPARENT.fullmatch(header or "")
    if found is None:
        return None
    version, trace, span, flags, rest = found.groups()
    if version == UNKNOWN_VERSION or (version == VERSION and rest) or not trace.strip("0") or not span.strip("0"):
        return None
    return f"{VERSION}-{trace}-{span}-{int(flags, 16) & FLAGS:02x}"


def trace_id(traceparent: str | None) -> str | None:
    """The id of the trace, as the log has it; None without one."""
    return None if traceparent is None else traceparent.split("-")[1]


class Span:
    """A span that is not recorded. What is below it belongs to the span above it."""

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def name(self, name: str) -> None:
        """Give it another name."""

    def note(self, attributes: Attributes) -> None:
        """Note attributes, each of `ATTRIBUTES`."""

    def end(self, failure: str | None = None) -> None:
        """End it; `failure` is the slug of the problem, if there was one. Only the first call counts."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """End it, as failed if there was an error."""
        self.end(None if kind is None or not issubclass(kind, Exception) else getattr(error, "slug", kind.__name__))


class Traces:
    """Makes the spans of one process: here, none that is recorded."""

    def span(
        self,
        name: str,  # noqa: ARG002
        parent: str | None,
        kind: Kind = "internal",  # noqa: ARG002
        *,
        since: float | None = None,  # noqa: ARG002
        attributes: Attributes = NONE,  # noqa: ARG002
    ) -> Span:
        """A span that begins now, or began at `since` (seconds since 1970), below a traceparent."""
        return Span(parent)

    def close(self) -> None:
        """Send what was recorded, and stop."""
