"""Folding over HTTP: what comes back is what the library makes, by every way of asking."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from threading import Timer
from typing import TYPE_CHECKING

import pytest

import folding
from tests.support.service.server import FAULTY, Running, ended, held, model_bytes, slow, submit
from tests.support.waiting import FOREVER, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROBLEM = "application/problem+json"
LATER = 0.3  # seconds until a fold goes on that somebody waits for already
TYPES = "/problems/"
FOLD_SECONDS = 60  # plenty for what ends, bearable for who waits until that which does not is ended


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("server") / "data", wait_seconds=FOREVER) as running:
        yield running


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest(data: bytes, algorithm: str = "sha256") -> str:
    return f"sha-{algorithm[3:]}=:{base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}:"


def test_every_digest_that_can_be_checked_is(server):
    data = model_bytes()
    for sent in (
        {"Content-Digest": digest(data, "sha512")},
        {"Repr-Digest": f"{digest(data)}, {digest(data, 'sha512')}"},
        {"Content-Digest": digest(data), "Repr-Digest": digest(data)},
        {"Repr-Digest": f"md5=:ndTkYSaMgDT1yFZOFVxnpg==:, {digest(data)}"},
        {"Digest": digest(data).replace(":", "").upper().replace(digest(data)[9:-1].upper(), digest(data)[9:-1])},
    ):
        assert server.client.post("/v1/fold", content=data, headers=sent).status_code == 200, sent
    refused = server.client.post("/v1/fold", content=data, headers={"Repr-Digest": "crc32c=:4waSgw==:"})
    assert "sha-256 or sha-512" in refused.json()["detail"]


def library(folder: Path, data: bytes, **options: object) -> bytes:
    (folder / "model.onnx").write_bytes(data)
    folding.fold(folder / "model.onnx", folder / "folded.onnx", folding.Options(**options))  # type: ignore[arg-type]
    return (folder / "folded.onnx").read_bytes()


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_the_folded_model_comes_back(server, tmp_path, method):
    data = model_bytes()
    expected = library(tmp_path, data)
    answer = server.client.request(method, "/v1/fold", content=data, params={"name": "größe.onnx"})
    assert (answer.status_code, answer.content) == (200, expected)
    headers = answer.headers
    assert "gr%C3%B6%C3%9Fe.folded.onnx" in headers["Content-Disposition"]
    assert "'model.folded.onnx" in server.client.post("/v1/fold", content=data).headers["Content-Disposition"]
    job = headers["Bnfold-Job"]
    assert headers["ETag"] == f'"{sha256(expected)}"'
    assert headers["Repr-Digest"] == digest(expected)
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Link"] == f'</v1/jobs/{job}/report>; rel="describedby"'
    assert folding.verify(tmp_path / "model.onnx", tmp_path / "folded.onnx").status == "verified"


def test_every_request_has_the_name_that_it_gave(server):
    data = model_bytes(2)
    for name in ("first.onnx", "second.onnx"):
        answer = server.client.post("/v1/fold", content=data, params={"name": name})
        report = server.client.get(f"/v1/jobs/{answer.headers['Bnfold-Job']}/report").json()
        assert report["source"] == name
        assert name.replace(".onnx", ".folded.onnx") in answer.headers["Content-Disposition"]


def test_options_are_those_of_the_library(server, tmp_path):
    data = model_bytes(1)
    plain = {"keep": ["bn"], "leftover": "affine", "verify": False}
    assert server.client.post("/v1/fold", content=data, params=plain).content == library(tmp_path, data, **plain)


def test_the_report_comes_back_where_it_is_preferred(server):
    answer = server.client.post("/v1/fold", content=model_bytes(), headers={"Accept": "application/json"})
    assert answer.headers["Content-Type"] == "application/json"
    report = answer.json()
    assert (report["bn_before"], report["bn_after"], report["verification"]["status"]) == (1, 0, "verified")
    assert answer.headers["ETag"] != server.client.post("/v1/fold", content=model_bytes()).headers["ETag"]


def test_a_job_from_202_to_its_result(server, tmp_path):
    data = model_bytes(2)
    answer = server.client.post("/v1/fold", content=data, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
    job = ended(server.client, answer.json()["id"])
    expected = library(tmp_path, data)
    path = f"/v1/jobs/{job['id']}"
    assert (job["status"], job["stage"], job["progress"], job["attempts"], job["problem"]) == (
        "done",
        None,
        1.0,
        1,
        None,
    )
    assert job["input"] == {"sha256": sha256(data), "bytes": len(data)}
    assert job["result"] == {"sha256": sha256(expected), "bytes": len(expected), "href": f"{path}/result"}
    assert job["links"] == {"self": path, "result": f"{path}/result", "report": f"{path}/report"}
    assert server.client.get(job["result"]["href"]).content == expected
    page = server.client.get(f"{path}/report", headers={"Accept": "text/html"})
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert server.client.get(f"{path}/report").json()["bn_after"] == 0
    assert server.client.get(f"/v1/blobs/{sha256(data)}").content == data


def test_the_same_fold_is_done_once(server):
    data = slow(0.7, seed=3)
    first = server.client.post("/v1/fold", content=data)
    second = server.client.post("/v1/fold", content=data, params={"keep": []})
    assert first.content == second.content
    assert first.headers["Bnfold-Job"] == second.headers["Bnfold-Job"]
    assert ended(server.client, second.headers["Bnfold-Job"])["attempts"] == 1


def test_what_outlasts_a_request_becomes_a_job(server):
    answer = server.client.post("/v1/fold", content=slow(1, seed=4), headers={"Prefer": "wait=0"})
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "wait=0"
    assert ended(server.client, answer.json()["id"])["status"] == "done"


def test_waiting_ends_at_a_change(server, tmp_path):
    job = submit(server.client, held(tmp_path / "gate", seed=5))
    until(lambda: server.client.get(f"/v1/jobs/{job}").json()["status"] == "running")
    began = time.monotonic()
    assert server.client.get(f"/v1/jobs/{job}", params={"wait": 0.2}).json()["status"] == "running"
    assert time.monotonic() - began > 0.15
    refused = server.client.get(f"/v1/jobs/{job}/result")
    assert (refused.status_code, refused.json()["type"]) == (409, f"{TYPES}not-ready")
    Timer(LATER, (tmp_path / "gate").touch).start()
    server.client.get(f"/v1/jobs/{job}", params={"wait": FOREVER}).raise_for_status()
    assert ended(server.client, job)["status"] == "done"


def test_what_a_client_knows_is_not_sent_again(server, tmp_path):
    """Between two long polls nothing is missed: what the client does not have is sent at once, or it never comes."""
    job = submit(server.client, held(tmp_path / "gate", seed=14))
    path = f"/v1/jobs/{job}"
    until(lambda: server.client.get(path).json()["status"] == "running")
    known = server.client.get(path)

    def ask(tag: str, wait: float) -> tuple[int, float]:
        began = time.monotonic()
        answer = server.client.get(path, params={"wait": wait}, headers={"If-None-Match": tag})
        assert answer.headers["ETag"]
        return answer.status_code, time.monotonic() - began

    tag = known.headers["ETag"]
    assert ask(tag, 0)[0] == 304
    status, seconds = ask(tag, 0.3)
    assert (status, seconds >= 0.3) == (304, True)
    assert ask('"another"', FOREVER)[0] == 200
    Timer(LATER, (tmp_path / "gate").touch).start()
    assert ask(tag, FOREVER)[0] == 200
    assert ended(server.client, job)["status"] == "done"
    assert ask(tag, 0)[0] == 200
    tag = server.client.get(path).headers["ETag"]
    assert ask(tag, FOREVER)[0] == 304  # nothing more will happen


def test_events_report_every_change(server, tmp_path):
    job = submit(server.client, held(tmp_path / "gate", seed=6))
    seen = []
    with server.client.stream("GET", f"/v1/jobs/{job}", headers={"Accept": "text/event-stream"}) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                seen.append(json.loads(line.removeprefix("data: ")))
                if seen[-1]["status"] == "running":
                    (tmp_path / "gate").touch()
            else:
                assert line in {"", "event: job"}
    assert [event["status"] for event in seen[-2:]] == ["running", "done"]
    assert [event["progress"] for event in seen] == sorted(event["progress"] for event in seen)


def test_an_inspection_keeps_nothing(server):
    data = model_bytes(7)
    answer = server.client.put("/v1/inspect", content=data)
    assert (answer.status_code, answer.json()["bn_after"]) == (200, 0)
    assert answer.json()["target"] is None
    assert server.client.get(f"/v1/blobs/{sha256(data)}").status_code == 404
    page = server.client.post("/v1/inspect", content=data, headers={"Accept": "text/html"})
    assert page.text.startswith("<!doctype html>")


def test_a_part_of_a_result(server):
    data = model_bytes(8)
    result = server.client.post("/v1/fold", content=data)
    path, whole = f"/v1/jobs/{result.headers['Bnfold-Job']}/result", result.content
    size = len(whole)

    def get(**headers: str) -> tuple[int, bytes, str | None]:
        answer = server.client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return answer.status_code, answer.content, answer.headers.get("Content-Range")

    tag = result.headers["ETag"]
    assert get(Range="bytes=2-5") == (206, whole[2:6], f"bytes 2-5/{size}")
    assert get(Range="bytes=-3") == (206, whole[-3:], f"bytes {size - 3}-{size - 1}/{size}")
    assert get(Range=f"bytes={size - 1}-{size + 9}") == (206, whole[-1:], f"bytes {size - 1}-{size - 1}/{size}")
    assert get(Range="bytes=2-5", If_Range=tag)[0] == 206
    assert get(Range="bytes=2-5", If_Range='"other"') == (200, whole, None)
    for strange in ("bytes=5-2", "bytes=-", "lines=1-2", "bytes=0-1,3-4"):
        assert get(Range=strange) == (200, whole, None)
    status, _, content_range = get(Range=f"bytes={size}-")
    assert (status, content_range) == (416, f"bytes */{size}")
    assert get(If_None_Match=tag) == (304, b"", None)
    assert get(If_None_Match='"other"')[0] == 200
    head = server.client.head(path)
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(size))
    assert head.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("data", "sent", "status", "slug"),
    [
        (model_bytes()[:-20], {}, 422, "invalid-model"),
        (b"", {}, 422, "invalid-model"),
        (b"HANG", {}, 422, "timed-out"),
        (b"BOMB", {}, 422, "out-of-memory"),
        (b"ABORT", {}, 422, "crashed"),
        (b"PK\x03\x04 no zip", {}, 422, "unsafe-archive"),
        (b"no zip", {"headers": {"Content-Type": "application/zip"}}, 422, "unsafe-archive"),
        (b"x" * 3_000_001, {}, 413, "too-large"),
        (b"x", {"headers": {"Content-Type": "text/html"}}, 415, "unsupported-media-type"),
        (b"x", {"headers": {"Content-Encoding": "gzip"}}, 415, "unsupported-media-type"),
        (b"x", {"params": {"keeep": "a"}}, 422, "invalid-option"),
        (b"x", {"params": {"leftover": "gone"}}, 422, "invalid-option"),
        (b"x", {"params": {"verify_timeout": 1e6}}, 422, "invalid-option"),
        (b"x", {"params": {"name": "../a"}}, 422, "invalid-option"),
        (model_bytes(), {"params": {"keep": "nothing"}}, 422, "invalid-option"),
        (model_bytes(), {"params": {"keep": "bn", "require_change": True}}, 422, "nothing-to-fold"),
        (b"x", {"headers": {"Repr-Digest": digest(b"y")}}, 400, "digest-mismatch"),
        (b"x", {"headers": {"Repr-Digest": "sha-256=:eA==:"}}, 400, "bad-request"),
        (b"x", {"headers": {"Content-Digest": digest(b"y", "sha512")}}, 400, "digest-mismatch"),
        (b"x", {"headers": {"Repr-Digest": f"{digest(b'x', 'sha512')},{digest(b'y')}"}}, 400, "digest-mismatch"),
        (b"x", {"headers": {"Content-Digest": digest(b"x"), "Repr-Digest": digest(b"y")}}, 400, "bad-request"),
        (b"x", {"headers": {"Repr-Digest": digest(b"x").replace(":", "")}}, 400, "bad-request"),
        (b"x", {"headers": {"Repr-Digest": "md5=:ndTkYSaMgDT1yFZOFVxnpg==:"}}, 400, "bad-request"),
        (b"x", {"headers": {"Digest": "MD5=ndTkYSaMgDT1yFZOFVxnpg=="}}, 400, "bad-request"),
        (b"x", {"headers": {"Digest": digest(b"y").replace(":", "")}}, 400, "digest-mismatch"),
        (b"x", {"headers": {"Idempotency-Key": ""}}, 400, "bad-request"),
        (b"x", {"headers": {"Idempotency-Key": "a b"}}, 400, "bad-request"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
@pytest.mark.parametrize("path", ["/v1/fold", "/v1/inspect"])
def test_every_refusal_is_a_problem(request, path, data, sent, status, slug):
    hostile = request.getfixturevalue("impatient" if slug == "timed-out" else "hostile")
    answer = hostile.client.post(path, content=data, **sent)
    if path == "/v1/inspect" and (slug == "nothing-to-fold" or "Idempotency-Key" in sent.get("headers", {})):
        return  # an inspection of a model in which nothing folds is what was asked for
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, PROBLEM), answer.text
    problem = answer.json()
    assert (problem["type"], problem["status"]) == (TYPES + slug, status)
    assert problem["title"]
    assert len(problem["detail"]) > 10
    assert str(hostile.settings.data) not in answer.text
    if slug == "nothing-to-fold":
        report = hostile.client.get(f"/v1/jobs/{answer.headers['Bnfold-Job']}/report").json()
        assert report["changed"] is False


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    bounds = {"child_memory_bytes": 1 << 30, "max_upload_bytes": 3_000_000}
    with Running(tmp_path_factory.mktemp("hostile") / "data", **bounds) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server for what never ends."""
    with Running(tmp_path_factory.mktemp("impatient") / "data", fold_seconds=1) as running:
        yield running


def test_a_hostile_model_harms_no_neighbour(tmp_path):
    with Running(tmp_path / "data", fold_seconds=FOLD_SECONDS, child_memory_bytes=1 << 30) as running:
        bad = [submit(running.client, name, verify=False) for name in (b"HANG", b"BOMB", b"ABORT")]
        good = [submit(running.client, model_bytes(seed)) for seed in range(3)]
        assert [ended(running.client, job)["status"] for job in good] == ["done"] * 3
        ends = [ended(running.client, job) for job in bad]
        assert [end["problem"]["type"].removeprefix(TYPES) for end in ends] == [
            "timed-out",
            "out-of-memory",
            "crashed",
        ]
        assert [end["attempts"] for end in ends] == [1, 1, 3]
        metrics = running.client.get("/metrics").text
        assert 'bnfold_child_deaths_total{reason="crashed"} 3.0' in metrics
        assert 'bnfold_outcomes_total{outcome="done"} 3.0' in metrics


def test_cancelling(server):
    running = submit(server.client, slow(FOREVER, seed=10))
    until(lambda: server.client.get(f"/v1/jobs/{running}").json()["status"] == "running")
    assert server.client.delete(f"/v1/jobs/{running}").status_code == 204
    document = server.client.get(f"/v1/jobs/{running}").json()
    assert (document["status"], document["problem"]["type"]) == ("cancelled", f"{TYPES}cancelled")
    answer = server.client.get(f"/v1/jobs/{running}/result")
    assert (answer.status_code, answer.json()["instance"]) == (409, f"/v1/jobs/{running}")
    until(lambda: not list((server.settings.data / "jobs").iterdir()))
    again = submit(server.client, slow(FOREVER, seed=10))
    assert again == running
    until(lambda: server.client.get(f"/v1/jobs/{running}").json()["status"] == "running")
    server.client.delete(f"/v1/jobs/{running}")


def test_an_idempotency_key_means_one_request(server):
    name = {"Idempotency-Key": "one"}
    data = model_bytes(11)
    answers = [server.client.post("/v1/fold", content=data, headers=name) for _ in range(2)]
    assert answers[0].content == answers[1].content
    other = server.client.post("/v1/fold", content=model_bytes(12), headers=name)
    assert (other.status_code, other.json()["type"]) == (422, f"{TYPES}idempotency-conflict")
    assert server.client.get(f"/v1/blobs/{sha256(model_bytes(12))}").status_code == 404


def test_blobs_can_be_removed(server):
    data = model_bytes(13)
    job = server.client.post("/v1/fold", content=data).headers["Bnfold-Job"]
    result = server.client.get(f"/v1/jobs/{job}").json()["result"]["sha256"]
    assert server.client.head(f"/v1/blobs/{result}").status_code == 200
    assert server.client.delete(f"/v1/blobs/{result}").status_code == 204
    assert server.client.get(f"/v1/blobs/{result}").status_code == 404
    assert server.client.get(f"/v1/jobs/{job}").status_code == 404
    open_job = submit(server.client, slow(FOREVER, seed=13))
    needed = hashlib.sha256(slow(FOREVER, seed=13)).hexdigest()
    refused = server.client.delete(f"/v1/blobs/{needed}")
    assert (refused.status_code, refused.json()["type"]) == (409, f"{TYPES}in-use")
    server.client.delete(f"/v1/jobs/{open_job}")


def test_a_full_queue_is_busy(tmp_path):
    with Running(tmp_path / "data", workers=1, max_queue=1) as running:
        first = submit(running.client, slow(FOREVER, seed=1))
        until(lambda: running.client.get(f"/v1/jobs/{first}").json()["status"] == "running")
        second = submit(running.client, slow(FOREVER, seed=2))
        answer = running.client.post("/v1/fold", content=slow(FOREVER, seed=3))
        assert (answer.status_code, answer.json()["type"]) == (503, f"{TYPES}busy")
        assert answer.headers["Retry-After"]
        for job in (first, second):
            running.client.delete(f"/v1/jobs/{job}")


def test_a_full_disk_is_reported(tmp_path):
    with Running(tmp_path / "data", low_water_bytes=1 << 60) as running:
        answer = running.client.post("/v1/fold", content=model_bytes())
        assert (answer.status_code, answer.json()["type"]) == (507, f"{TYPES}insufficient-storage")
        ready = running.client.get("/readyz")
        assert (ready.status_code, ready.json()["disk"]) == (503, "failed")


def test_a_worker_that_folds_is_the_one_that_is_shipped(tmp_path):
    with Running(tmp_path / "data", program=None, sandbox="auto") as running:
        answer = running.client.post("/v1/fold", content=model_bytes())
        assert (answer.status_code, answer.content) == (200, library(tmp_path, model_bytes()))
    assert FAULTY.module != "service.process.worker"
