"""One trace from the request of a client through its job to the webhook, also where a job is tried again or refused."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from service import state
from service.auth.keys import new_key
from service.ledger.records import Quota
from service.ledger.sql import open_ledger
from service.tracing.spans import ATTRIBUTES
from service.tracing.telemetry import Telemetry
from service.webhook.receivers import Receivers
from tests.support import ROOT
from tests.support.service.receiver import Receiver
from tests.support.service.server import Running, ended, model_bytes, submit
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MINE = f"00-{TRACE}-{SPAN}-01"
UNSAMPLED = f"00-{TRACE}-{SPAN}-00"
ROW = re.compile(r"^\| `([a-z._]+)` \| (.*) \|$", re.MULTILINE)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What is recorded by the servers of this test."""
    kept = InMemorySpanExporter()
    monkeypatch.setattr(state, "make_traces", lambda _: Telemetry(SimpleSpanProcessor(kept)))
    return kept


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def named(exporter: InMemorySpanExporter, *names: str) -> list[ReadableSpan]:
    """The spans of each of these names, once all are there; one of each, in the order of the names."""
    until(lambda: set(names) <= {span.name for span in exporter.get_finished_spans()})
    return [next(span for span in exporter.get_finished_spans() if span.name == name) for name in names]


def identity(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def test_a_fold_is_one_trace(tmp_path, exporter, receiver):
    with Running(tmp_path / "data", receivers=Receivers(is_allowed=bool)) as running:
        hook = {"webhook": f"{receiver.url}/hook"}
        answer = running.client.post("/v1/fold", content=model_bytes(), params=hook, headers={"traceparent": MINE})
        assert answer.status_code == 200
        request, upload, queue, fold, verification, delivery, webhook = named(
            exporter, "POST /v1/fold", "upload", "queue", "fold", "verification", "delivery", "webhook"
        )
        (received,) = receiver.wait()
    spans = exporter.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in spans} == {TRACE}
    assert f"{request.parent.span_id:016x}" == SPAN
    assert {identity(request)} == {span.parent.span_id for span in (upload, queue, fold, delivery, webhook)}
    assert verification.parent.span_id == identity(fold)
    assert received.headers["traceparent"] == f"00-{TRACE}-{identity(webhook):016x}-01"
    assert upload.end_time <= queue.end_time <= fold.end_time <= delivery.end_time <= request.end_time
    assert fold.start_time <= verification.start_time <= verification.end_time <= fold.end_time
    assert dict(request.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/fold",
        "http.response.status_code": 200,
    }
    assert dict(fold.attributes) == {
        "bnfold.job": answer.headers["bnfold-job"],
        "bnfold.attempt": 1,
        "bnfold.bytes": len(model_bytes()),
        "bnfold.size": "1MiB",
        "bnfold.outcome": "done",
    }
    assert not [span for span in spans if span.status.status_code == StatusCode.ERROR]


def test_every_attempt_is_in_the_trace_of_its_request(tmp_path, exporter, receiver):
    receiver.answers.append(410)
    with Running(tmp_path / "data", receivers=Receivers(is_allowed=bool)) as running:
        job = submit(running.client, b"ABORT", verify=False, webhook=receiver.url)
        assert ended(running.client, job)["problem"]["type"].endswith("crashed")
        (webhook,) = named(exporter, "webhook")
    folds = [span for span in exporter.get_finished_spans() if span.name == "fold"]
    waits = [span for span in exporter.get_finished_spans() if span.name == "queue"]
    assert [span.attributes["bnfold.attempt"] for span in folds] == [1, 2, 3]
    assert [span.attributes["bnfold.attempt"] for span in waits] == [1, 2, 3]
    assert {span.attributes["bnfold.outcome"] for span in folds} == {"crashed"}
    assert webhook.attributes == {"bnfold.attempt": 1, "bnfold.outcome": "gone", "http.response.status_code": 410,
                                  "error.type": "gone"}  # fmt: skip
    assert webhook.context.trace_id == folds[0].context.trace_id


def test_an_error_is_one_and_a_refusal_is_none(tmp_path, exporter, monkeypatch):
    with Running(tmp_path / "data") as running:
        assert running.client.post("/v1/fold", content=b"", headers={"Content-Type": "text/plain"}).status_code == 415
        (refused,) = named(exporter, "POST /v1/fold")
        monkeypatch.setattr(running.app.state.service.ledger, "submit", lambda *_: 1 / 0)
        assert running.client.put("/v1/fold", content=b"x").status_code == 500
        (failed,) = named(exporter, "PUT /v1/fold")
    assert (refused.status.status_code, refused.attributes["http.response.status_code"]) == (StatusCode.UNSET, 415)
    assert (failed.status.status_code, failed.attributes["error.type"]) == (StatusCode.ERROR, "500")


def test_a_trace_that_is_not_sampled_is_not_recorded_and_passed_on(tmp_path, exporter, receiver):
    with Running(tmp_path / "data", receivers=Receivers(is_allowed=bool)) as running:
        hook = {"webhook": receiver.url}
        running.client.post("/v1/fold", content=model_bytes(), params=hook, headers={"traceparent": UNSAMPLED})
        (received,) = receiver.wait()
    assert received.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert received.headers["traceparent"].endswith("-00")
    assert not exporter.get_finished_spans()


def test_probes_and_the_page_have_no_spans(tmp_path, exporter):
    with Running(tmp_path / "data") as running:
        for path in ("/livez", "/readyz", "/metrics", "/"):
            assert running.client.get(path).status_code == 200
        running.client.get(f"/v1/jobs/{'a' * 64}")
        named(exporter, "GET /v1/jobs/{job_id}")
    assert len(exporter.get_finished_spans()) == 1


def test_no_span_says_a_name_a_key_or_an_address(tmp_path, exporter, receiver):
    data = tmp_path / "data"
    ledger, (key, text) = open_ledger(data), new_key("alice", ("fold", "read"), Quota())
    ledger.add_key(key)
    ledger.close()
    with Running(data, receivers=Receivers(is_allowed=bool), require_keys=True) as running:
        params = {"name": "private.onnx", "webhook": f"{receiver.url}/hook?token=hush"}
        headers = {"Authorization": f"Bearer {text}", "Idempotency-Key": "token-of-mine", "User-Agent": "agent-x"}
        running.client.post("/v1/fold", content=model_bytes(), params=params, headers=headers)
        named(exporter, "webhook", "delivery")
    spans = exporter.get_finished_spans()
    assert {name for span in spans for name in span.attributes} <= ATTRIBUTES
    written = " ".join(span.to_json() for span in spans)
    for secret in (text, key.id, "alice", "private", "hush", "token-of-mine", "agent-x", "127.0.0.1", str(tmp_path)):
        assert secret not in written


def test_the_framework_records_nothing_by_itself(tmp_path, exporter, monkeypatch):
    """It would note whole URLs, and newer versions do as soon as the process has a provider."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    with Running(tmp_path / "data") as running:
        running.client.get(f"/v1/jobs/{'a' * 64}")
        named(exporter, "GET /v1/jobs/{job_id}")
    assert not kept.get_finished_spans()


def test_without_tracing_the_context_goes_from_the_request_to_the_webhook(tmp_path, receiver, caplog):
    caplog.set_level(logging.INFO, "bnfold")
    with Running(tmp_path / "data", receivers=Receivers(is_allowed=bool)) as running:
        for seed, header in enumerate((MINE, "no-trace")):
            running.client.post(
                "/v1/fold", content=model_bytes(seed), params={"webhook": receiver.url}, headers={"traceparent": header}
            )
            receiver.wait(seed + 1)
    assert [one.headers.get("traceparent") for one in receiver.received] == [MINE, None]
    traced = {record.getMessage() for record in caplog.records if getattr(record, "trace", None) == TRACE}
    assert {"request", "job ended"} <= traced


def test_every_attribute_is_documented():
    text = (ROOT / "docs" / "monitoring.md").read_text().partition("## Traces")[2]
    assert {name for name, _ in ROW.findall(text)} >= ATTRIBUTES
