"""Batches: several models in one request are the same jobs as one by one; a file that is refused stops no other."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from service.http import uploads
from service.ledger.records import Quota
from tests.service.http.test_fold import digest, library
from tests.service.http.test_http import make_key
from tests.support.service.server import Running, ended, held, model_bytes, slow
from tests.support.waiting import FOREVER, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

PLACE = "/v1/batches"
LARGEST = 3_000_000
MODELS = [model_bytes(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("server") / "data", max_upload_bytes=LARGEST) as running:
        yield running


def send(running: Running, *models: bytes, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    files = [("model", (f"{number}.onnx", data)) for number, data in enumerate(models)]
    return running.client.post(PLACE, files=files, data=fields, headers=headers)


def outcomes(answer: httpx.Response) -> list[str]:
    """What became of each file: its status, or the slug of its problem."""
    assert answer.status_code == 202, answer.text
    files = answer.json()["files"]
    assert [one["name"] for one in files] == [f"{number}.onnx" for number in range(len(files))]
    return [one["job"]["status"] if one["job"] else one["problem"]["type"].rpartition("/")[2] for one in files]


def is_empty(running: Running) -> bool:
    """Whether no upload left anything."""
    service = running.app.state.service
    partial = running.settings.data / "blobs" / "partial"
    return not list(partial.iterdir()) and not service.reservations.count and not service.reservations.coming


def test_each_file_is_a_job_with_the_same_options(server, tmp_path):
    answer = send(server, *MODELS, leftover="affine", webhook="")
    assert outcomes(answer) == ["queued"] * 3
    for model, one in zip(MODELS, answer.json()["files"], strict=True):
        job = ended(server.client, one["job"]["id"])
        assert (job["status"], job["name"], job["options"]["leftover"]) == ("done", one["name"], "affine")
        folded = server.client.get(job["links"]["result"]).content
        assert folded == library(tmp_path, model, leftover="affine")
    again = send(server, *MODELS, leftover="affine")
    assert outcomes(again) == ["done"] * 3
    params, later = {"leftover": "affine", "name": "1.onnx"}, {"Prefer": "respond-async"}
    alone = server.client.post("/v1/fold", params=params, content=MODELS[1], headers=later)
    assert alone.json()["id"] == again.json()["files"][1]["job"]["id"]


def test_a_part_that_is_no_model_ends_alone(server):
    answer = send(server, MODELS[0], b"no model", MODELS[1])
    states = [ended(server.client, one["job"]["id"]) for one in answer.json()["files"]]
    assert [one["status"] for one in states] == ["done", "failed", "done"]
    assert states[1]["problem"]["type"] == "/problems/invalid-model"


def test_a_file_that_is_too_large_stops_no_other(server):
    assert outcomes(send(server, MODELS[0], bytes(LARGEST + 1), MODELS[1]))[1] == "too-large"
    assert is_empty(server)


def test_quotas_hold_for_each_file(tmp_path):
    """Of open jobs, and of bytes: the third one is refused; the fourth is, too, or is small enough."""
    with Running(tmp_path / "data", require_keys=True) as running:
        few = make_key(running, quota=Quota(open_jobs=2))
        stuck = [held(tmp_path / "gate", seed) for seed in range(4)]
        assert outcomes(send(running, *stuck, headers=few)) == ["queued", "queued", "quota-exceeded", "quota-exceeded"]
        assert running.client.get("/v1/usage", headers=few).json()["jobs"].keys() <= {"queued", "running"}
        small = make_key(running, quota=Quota(bytes=950))
        assert outcomes(send(running, bytes(400), b"1" * 400, b"2" * 400, b"3" * 100, headers=small)) == [
            "queued",
            "queued",
            "quota-exceeded",
            "queued",
        ]
        assert is_empty(running)


def test_a_form_whose_client_left_half_way_leaves_nothing(tmp_path):
    with Running(tmp_path / "data") as running:
        url = running.client.base_url
        head = "--B\r\nContent-Disposition: form-data; name=model; filename=a.onnx\r\n\r\n"
        begun = head.encode() + slow(FOREVER) + b"\r\n" + head.encode() + MODELS[0]
        with socket.create_connection((url.host, url.port)) as client:
            lines = f"POST {PLACE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
            client.sendall(f"{lines}Content-Type: multipart/form-data; boundary=B\r\n\r\n".encode() + begun)
            until(lambda: not is_empty(running))
            until(lambda: len(list((tmp_path / "data/blobs/partial").iterdir())) == 2)  # the first file is whole
        until(lambda: is_empty(running))
        assert running.client.get("/v1/jobs").json()["jobs"] == []


FORM = {"Content-Type": "multipart/form-data; boundary=B"}
FILE = b'--B\r\nContent-Disposition: form-data; name="model"; filename="m.onnx"\r\n\r\n' + MODELS[0] + b"\r\n"
FIELD = b'--B\r\nContent-Disposition: form-data; name="leftover"\r\n\r\n'


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (MODELS[0], {"Content-Type": "application/octet-stream"}, 415),
        (FILE * 2 + b"--B--\r\n", FORM | {"Repr-Digest": digest(MODELS[0])}, 400),
        (b"--B--\r\n", FORM, 400),
        (FILE * 2, FORM, 400),
        (FILE + MODELS[0], FORM, 400),
        (FILE * (uploads.MOST_FILES + 1) + b"--B--\r\n", FORM, 413),
        (FILE * 2 + FIELD + b"none\r\n--B--\r\n", FORM, 422),
    ],
)
def test_what_is_wrong_with_the_form_is_wrong_with_all(server, body, headers, status):
    before = server.client.get("/v1/usage").json()
    answer = server.client.post(PLACE, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert server.client.get("/v1/usage").json() == before
    assert is_empty(server)
