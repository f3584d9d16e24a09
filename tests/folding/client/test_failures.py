"""The client on bad days: broken connections are made again, problems are errors, and nothing is left behind."""

from __future__ import annotations

import json
import socket
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

import folding
from folding.archive.rules import ArchiveError
from folding.client import client as client_module
from folding.client import requests as client_requests
from folding.client.client import Client, Retries
from folding.client.requests import retry_after
from folding.errors import ModelError, ServiceError
from folding.options import Options
from tests.support.onnxfiles import names
from tests.support.service.clients import NO_VERIFY, QUICK, client, unchanged
from tests.support.service.fake import Wire, problem
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ["tests.support.service.fixtures"]

# Broken connections and busy services


@pytest.mark.parametrize("called", ["POST /v1/fold", "GET /v1/jobs/{job}", "GET /v1/jobs/{job}/result"])
def test_a_busy_service_is_asked_again_when_it_said(url, fake, here, monkeypatch, called):
    slept: list[float] = []
    monkeypatch.setattr(client_requests.time, "sleep", slept.append)
    fake.failures[called] = [problem("busy", 503, **{"Retry-After": "7"}), HTMLResponse("gateway", 502)]
    with client(url) as service:
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)
    assert [7 <= seconds < 7.1 for seconds in slept if seconds > 1] == [True]
    assert len({request.headers["Idempotency-Key"] for request in fake.named("POST /v1/fold")}) == 1


def test_a_connection_that_breaks_during_the_upload_is_made_again(url, fake, here):
    size = (here / "model.onnx").stat().st_size
    wire = Wire(url, [(size // 2, None), (0, None), (size // 3, None)])
    try:
        with client(wire.url) as service:
            service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)
    finally:
        wire.close()
    assert wire.connections >= 4
    assert len(fake.jobs) == 1


def cut_downloads(url: str, service: Client, here: Path, cuts: list[int]) -> None:
    """Fold through connections that break so many bytes into the result."""
    wires: list[Wire] = []
    once = service._requests.once

    @contextmanager
    def cut(method: str, path: str, **request: Any) -> Iterator[httpx.Response]:
        if not path.endswith("/result") or not cuts:
            with once(method, path, **request) as response:
                yield response
            return
        wires.append(Wire(url, [(None, cuts.pop(0))]))
        with client(wires[-1].url) as broken, broken._requests.once(method, path, **request) as response:
            yield response

    service._requests.once = cut  # type: ignore[method-assign]
    try:
        with service:
            service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)
    finally:
        for wire in wires:
            wire.close()


def test_a_download_goes_on_where_it_broke(url, fake, here):
    folding.fold(here / "model.onnx", here / "expected.onnx", NO_VERIFY)
    cut_downloads(url, client(url), here, [50_000, 100, 30_000, 60_000])
    ranges = [request.headers.get("Range") for request in fake.named("GET /v1/jobs/{job}/result")]
    assert ranges[0] is None
    assert all(asked.startswith("bytes=") for asked in ranges[1:])
    assert len(ranges) == 5
    assert (here / "out.onnx").read_bytes() == (here / "expected.onnx").read_bytes()


def test_a_result_that_became_another_one_is_fetched_anew(url, fake, here):
    folding.fold(here / "model.onnx", here / "expected.onnx", NO_VERIFY)
    expected = (here / "expected.onnx").read_bytes()
    fake.instead = [expected[::-1]]
    cut_downloads(url, client(url), here, [50_000])
    asked = fake.named("GET /v1/jobs/{job}/result")
    assert ["Range" in request.headers for request in asked] == [False, True]
    assert (here / "out.onnx").read_bytes() == expected


def test_an_upload_that_the_network_changed_is_sent_again(url, fake, here):
    fake.failures["POST /v1/fold"] = [problem("digest-mismatch", 400)]
    with client(url) as service:
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)
    assert len(fake.named("POST /v1/fold")) == 2


def test_the_work_may_be_done_already(url, fake, here):
    with client(url) as service:
        first = service.fold(here / "model.onnx", here / "one.onnx", NO_VERIFY)
        (job,) = fake.jobs
        fake.failures["POST /v1/fold"] = [JSONResponse(first, 200, {"Bnfold-Job": job})]
        service.fold(here / "model.onnx", here / "two.onnx", NO_VERIFY)
    assert (here / "one.onnx").read_bytes() == (here / "two.onnx").read_bytes()


def test_the_report_of_work_that_failed_already(url, fake, here):
    with client(url) as service:
        service.fold(here / "model.onnx", here / "one.onnx", NO_VERIFY)
        (job,) = fake.jobs
        body = json.loads(problem("verification-failed", 422).body) | {"instance": f"/v1/jobs/{job}"}
        fake.failures["POST /v1/fold"] = [JSONResponse(body, 422)]
        with pytest.raises(ServiceError) as caught:
            service.fold(here / "model.onnx", here / "two.onnx", NO_VERIFY)
    assert caught.value.report["bn_before"] == 1


@pytest.mark.parametrize(
    "odd", [Response(b"short"), Response(bytes(10**6)), Response(b"", 206, {"Content-Range": "bytes 7-8/9"})]
)
def test_a_result_of_another_length_is_fetched_again(url, fake, here, odd):
    fake.failures["GET /v1/jobs/{job}/result"] = [odd]
    with client(url) as service:
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)
    assert len(fake.named("GET /v1/jobs/{job}/result")) == 2


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (Response(b"x", headers={"Repr-Digest": "sha-256=:A:"}), "Repr-Digest that cannot be read"),
        (Response(b"x", 206), "does not say which"),
    ],
)
def test_a_result_that_cannot_be_understood_is_given_up(url, fake, here, odd, said):
    fake.failures["GET /v1/jobs/{job}/result"] = [odd]
    with client(url) as service, unchanged(here), pytest.raises(ServiceError, match=said):
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)


def test_an_answer_without_end_is_cut_off(url, fake, here, monkeypatch):
    monkeypatch.setattr(client_requests, "LARGEST_JSON", 1000)
    fake.failures["POST /v1/fold"] = [Response(bytes(5000))]
    with client(url) as service, unchanged(here), pytest.raises(ServiceError, match="1,000 bytes where a few"):
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)


def test_a_service_that_stays_busy_is_given_up(url, fake, here):
    fake.failures["POST /v1/fold"] = [problem("busy", 503) for _ in range(QUICK.attempts)]
    with client(url) as service, unchanged(here), pytest.raises(ServiceError) as caught:
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)
    assert (caught.value.slug, caught.value.is_unavailable) == ("busy", True)
    assert fake.failures["POST /v1/fold"] == []


def test_a_service_that_asks_for_too_much_patience_is_given_up_at_once(url, fake, here):
    fake.failures["POST /v1/fold"] = [problem("quota-exceeded", 429, **{"Retry-After": "86400"})]
    with client(url) as service, unchanged(here), pytest.raises(ServiceError) as caught:
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)
    assert (caught.value.slug, len(fake.requests)) == ("quota-exceeded", 1)


def test_nobody_there(here):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with client(nobody) as service, unchanged(here), pytest.raises(ServiceError) as caught:
        service.fold(here / "model.onnx", here / "out.onnx")
    assert (caught.value.slug, caught.value.is_unavailable) == ("unreachable", True)
    assert nobody in str(caught.value)


# An error, and nothing else


def test_a_wrong_digest_is_noticed(url, fake, here):
    fake.digest = "AAAA" * 10 + "AAA="
    with client(url) as service, unchanged(here), pytest.raises(ServiceError) as caught:
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)
    assert (caught.value.slug, caught.value.is_unavailable) == ("digest-mismatch", True)


PROBLEMS = [
    ("invalid-model", 422, False),
    ("unsafe-archive", 422, False),
    ("too-large", 413, False),
    ("unsupported-media-type", 415, False),
    ("invalid-option", 422, False),
    ("unauthorized", 401, False),
    ("forbidden", 403, False),
    ("timed-out", 422, False),
    ("out-of-memory", 422, False),
    ("crashed", 422, False),
    ("idempotency-conflict", 422, False),
    ("internal", 500, True),
    ("insufficient-storage", 507, True),
    ("cancelled", 409, True),
]


@pytest.mark.parametrize(("slug", "status", "unavailable"), PROBLEMS)
def test_every_problem_is_an_error_with_its_slug(url, fake, here, slug, status, unavailable):
    for called in ("POST /v1/fold", "GET /v1/jobs/{job}", "GET /v1/jobs/{job}/result", "GET /v1/jobs/{job}/report"):
        fake.failures = {called: [problem(slug, status, "because")]}
        with client(url) as service, unchanged(here), pytest.raises(ServiceError) as caught:
            service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)
        error = caught.value
        assert (error.slug, error.status, str(error), error.detail) == (slug, status, "because", "because")
        assert (error.title, error.is_unavailable) == (slug.title(), unavailable)


def test_a_job_that_fails_is_an_error_with_its_report(url, here):
    with client(url) as service, unchanged(here), pytest.raises(ServiceError) as caught:
        service.fold(here / "none.onnx", here / "out.onnx", Options(require_change=True))
    assert caught.value.slug == "nothing-to-fold"
    assert caught.value.report["changed"] is False


def test_a_job_that_was_cancelled_elsewhere(url, fake, here):
    def progress(stage: str, *_: int) -> None:
        if stage == "folding":
            (job,) = fake.jobs.values()
            job["status"] = "cancelled"

    fake.held = True
    with client(url) as service, unchanged(here), pytest.raises(ServiceError) as caught:
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY, progress)
    assert caught.value.slug == "cancelled"


@pytest.mark.parametrize("stage", ["uploading", "folding", "downloading"])
def test_an_interruption_cancels_the_job_and_leaves_nothing(url, fake, here, stage, monkeypatch):
    monkeypatch.setattr(client_module, "CANCEL_SECONDS", PATIENCE)

    def progress(now: str, *_: int) -> None:
        fake.held = stage != "downloading"
        if now == stage:
            raise KeyboardInterrupt

    fake.held = True
    with client(url) as service, unchanged(here), pytest.raises(KeyboardInterrupt):
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY, progress)
    statuses = [job["status"] for job in fake.jobs.values()]
    assert statuses == {"uploading": [], "folding": ["cancelled"], "downloading": ["done"]}[stage]


JOB: dict[str, Any] = {"id": "ab", "status": "done", "report": None}
NO_SERVICE = [
    (HTMLResponse("<h1>hello</h1>", 404), "answers 404 .Not Found. and not as"),
    (HTMLResponse("<h1>hello</h1>"), "no JSON"),
    (JSONResponse([1]), "no JSON object"),
    (JSONResponse({"id": "../../admin"}), "names no job"),
    (JSONResponse({}), "names no job"),
    (RedirectResponse("https://example.com/v1/fold"), "sends to https://example.com"),
]


@pytest.mark.parametrize(("answer", "said"), NO_SERVICE)
def test_what_is_no_service_is_reported_as_such(url, fake, here, answer, said):
    fake.failures["POST /v1/fold"] = [answer]
    with client(url) as service, unchanged(here), pytest.raises(ServiceError, match=said) as caught:
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)
    assert caught.value.slug == "protocol"


@pytest.mark.parametrize(
    "result", [None, {"sha256": "no", "bytes": 1}, {"sha256": "a" * 64}, {"sha256": "a" * 64, "bytes": "1"}]
)
def test_a_job_without_a_proper_result_is_no_job(url, fake, here, result):
    fake.failures["GET /v1/jobs/{job}"] = [JSONResponse(JOB | {"result": result})]
    with client(url) as service, unchanged(here), pytest.raises(ServiceError, match="service's answer"):
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)


def hostile(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../evil.onnx", b"")


@pytest.mark.parametrize(
    ("source", "spoil", "error"),
    [("large.onnx", hostile, ArchiveError), ("model.onnx", lambda path: path.write_bytes(b"no model"), ModelError)],
)
def test_a_result_is_not_trusted(url, fake, here, source, spoil, error):
    fake.spoil = spoil
    with client(url) as service, unchanged(here), unchanged_names(here.parent), pytest.raises(error):
        service.fold(here / source, here / "out.onnx", NO_VERIFY)


@contextmanager
def unchanged_names(folder: Path) -> Iterator[None]:
    before = names(folder)
    yield
    assert names(folder) == before


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        ("-1", 0.0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00", 0.0),
    ],
)
def test_retry_after(text, seconds):
    headers = {} if text is None else {"Retry-After": text}
    assert retry_after(httpx.Response(503, headers=headers)) == seconds


def test_pauses_grow_and_are_bounded():
    retries = Retries(first=1.0, longest=4.0)
    for attempt, most in ((1, 1), (2, 2), (3, 4), (9, 4)):
        pauses = [retries.pause(attempt, None) for _ in range(200)]
        assert 0 <= min(pauses) < most / 4
        assert most * 3 / 4 < max(pauses) <= most
    assert 30 <= retries.pause(1, 30.0) <= 31
