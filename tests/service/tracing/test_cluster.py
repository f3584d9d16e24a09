"""One trace through the processes of a cluster: the server's spans and the workers', as a collector receives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.service.receiver import Receiver
from tests.support.service.server import ended, held, model_bytes, submit
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.service.cluster import Cluster

pytest_plugins = ["tests.support.service.cluster"]

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MINE = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


class Sent(NamedTuple):
    """A span as it was sent."""

    process: str
    trace: str
    id: str
    parent: str
    outcome: str


class Traced:
    """A cluster whose processes send their spans to a collector, each under a name."""

    def __init__(self, cluster: Cluster, collector: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster, self._collector, self._monkeypatch = cluster, collector, monkeypatch
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")

    def name(self, process: str) -> None:
        """What the next process that starts is called."""
        self._monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"service.instance.id={process}")

    def spans(self, name: str, count: int = 1) -> list[Sent]:
        """All spans of a name, in the order in which they began, once there are so many."""
        found: list[Sent] = []

        def are_there() -> bool:
            found[:] = self._sent(name)
            return len(found) >= count

        until(are_there)
        return found

    def _sent(self, name: str) -> list[Sent]:
        found = []
        for received in list(self._collector.received):
            assert received.path == "/v1/traces"
            for resource in ExportTraceServiceRequest.FromString(received.body).resource_spans:
                process = {one.key: one.value.string_value for one in resource.resource.attributes}
                for span in (span for scope in resource.scope_spans for span in scope.spans if span.name == name):
                    values = {one.key: one.value.string_value for one in span.attributes}
                    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
                    sent = Sent(process["service.instance.id"], *ids, values.get("bnfold.outcome", ""))
                    found.append((span.start_time_unix_nano, sent))
        return [sent for _, sent in sorted(found)]


@pytest.fixture
def traced(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    cluster.settings["tracing"] = True
    with Receiver() as collector:
        yield Traced(cluster, collector, monkeypatch)
        cluster.close()


def test_what_a_worker_does_is_in_the_trace_of_the_request(traced):
    traced.name("server")
    client = traced.cluster.server()
    traced.name("worker")
    traced.cluster.worker()
    assert client.post("/v1/fold", content=model_bytes(), headers=MINE).status_code == 200
    (request,), (queue,), (fold,), (verification,) = map(
        traced.spans, ("POST /v1/fold", "queue", "fold", "verification")
    )
    assert {one.trace for one in (request, queue, fold, verification)} == {TRACE}
    assert (request.process, request.parent) == ("server", SPAN)
    assert (queue.process, queue.parent) == ("worker", request.id)
    assert (fold.process, fold.parent, fold.outcome) == ("worker", request.id, "done")
    assert (verification.process, verification.parent) == ("worker", fold.id)


def test_the_attempt_of_another_worker_is_in_the_same_trace(traced, tmp_path):
    client, gate = traced.cluster.server(), tmp_path / "gate"
    traced.name("first")
    first = traced.cluster.worker()
    model = held(gate)
    job = client.post("/v1/fold", content=model, headers=MINE | {"Prefer": "respond-async"}).json()["id"]
    until(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "running")
    first.kill()
    gate.touch()
    traced.name("second")
    traced.cluster.worker()
    assert ended(client, job)["attempts"] == 2
    (fold,) = traced.spans("fold")  # the first one was sent by nobody
    assert (fold.process, fold.trace, fold.outcome) == ("second", TRACE, "done")
    other = submit(client, model_bytes())
    assert ended(client, other)["status"] == "done"
    assert traced.spans("fold", 2)[1].trace != TRACE
