"""Spans of OpenTelemetry, sent through OTLP over HTTP as the variables `OTEL_*` say. Loaded only where tracing is on.

The instrumentations for FastAPI and ASGI are not used: they note the whole URL, whose query names the model, and the
addresses of clients.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.tracing.spans import NONE, Span, Traces

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import SpanProcessor

    from service.tracing.spans import Attributes, Kind

KINDS: dict[Kind, SpanKind] = {"server": SpanKind.SERVER, "internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}
SERVICE = {"service.name": "bnfold"}  # unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES names it
NANOSECONDS = 1_000_000_000
CONTEXTS = TraceContextTextMapPropagator()


class Recorded(Span):
    """A span that is recorded."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        flags = f"{int(context.trace_flags):02x}"
        super().__init__(f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags}")

    def name(self, name: str) -> None:
        """Give it another name."""
        self._span.update_name(name)

    def note(self, attributes: Attributes) -> None:
        """Note attributes."""
        self._span.set_attributes(_written(attributes))

    def end(self, failure: str | None = None) -> None:
        """End it."""
        if not self._span.is_recording():
            return
        if failure is not None:
            self._span.set_attribute("error.type", failure)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class Telemetry(Traces):
    """Makes spans, and sends them. Tests give a processor that keeps them."""

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        named = {"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"} & os.environ.keys()
        resource = Resource.create({"service.version": version("bnfold"), **({} if named else SERVICE)})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("bnfold", version("bnfold"))

    def span(
        self,
        name: str,
        parent: str | None,
        kind: Kind = "internal",
        *,
        since: float | None = None,
        attributes: Attributes = NONE,
    ) -> Span:
        """A span that begins now, or began at `since`, below a traceparent."""
        started = None if since is None else int(since * NANOSECONDS)
        # Never the context of the current task: those of an engine outlive the request that they began in.
        context = CONTEXTS.extract({} if parent is None else {"traceparent": parent})
        noted = _written(attributes)
        return Recorded(self._tracer.start_span(name, context, KINDS[kind], noted, start_time=started))

    def close(self) -> None:
        """Send what was recorded, and stop."""
        self._provider.shutdown()


def _written(attributes: Attributes) -> dict[str, str | int]:
    return {name: value for name, value in attributes.items() if value is not None}
