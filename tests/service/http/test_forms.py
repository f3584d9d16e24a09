"""Browser forms: a model as the file of a form is the same model, whatever else is wrong with the form is reported."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from service.http.forms import FIELD_BYTES, PARTS, plain_name
from tests.service.http.test_fold import library
from tests.service.test_process import GROWTH, UPLOAD, resident
from tests.support.service.server import MIB, Running, model_bytes, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

TYPES = "/problems/"
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
MODEL = model_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("server") / "data", max_upload_bytes=3_000_000) as running:
        yield running


def send(server: Running, *files: tuple[str, bytes], path: str = "/v1/fold", **fields: str) -> httpx.Response:
    """What a browser would send of a form."""
    parts = [("model", (name, data, "application/octet-stream")) for name, data in files]
    return server.client.post(path, files=parts, data=fields, headers=BROWSER)


def test_a_form_downloads_the_folded_model(server, tmp_path):
    answer = send(server, ("C:\\models\\größe.onnx", MODEL), leftover="affine", keep="", verify="on")
    assert (answer.status_code, answer.content) == (200, library(tmp_path, MODEL, leftover="affine"))
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "gr%C3%B6%C3%9Fe.folded.onnx" in answer.headers["Content-Disposition"]
    job = server.client.get(f"/v1/jobs/{answer.headers['Bnfold-Job']}").json()
    assert job["input"] == {"sha256": hashlib.sha256(MODEL).hexdigest(), "bytes": len(MODEL)}
    assert (job["options"]["leftover"], job["options"]["keep"]) == ("affine", [])


def test_a_form_inspects(server):
    answer = send(server, ("m.onnx", MODEL), path="/v1/inspect")
    assert (answer.status_code, answer.text[:15]) == (200, "<!doctype html>")


@pytest.mark.parametrize(
    ("query", "fields", "expected"),
    [
        ({"leftover": "conv"}, {}, {"leftover": "conv"}),
        ({"leftover": "conv"}, {"leftover": "affine"}, {"leftover": "affine"}),
        ({"keep": "b*"}, {"keep": ["*", "bn"]}, {"keep": ["*", "bn"]}),
        ({}, {"verify": ["false", "true"]}, {"verify": True}),
        ({"verify": "false"}, {"clamp": "always"}, {"verify": False, "clamp": "always"}),
    ],
)
def test_where_both_speak_the_form_counts(server, query, fields, expected):
    answer = server.client.post(
        "/v1/fold", params=query, data=fields, files={"any": ("m", MODEL)}, headers={"Prefer": "respond-async"}
    )
    options = answer.json()["options"]
    assert {name: options[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("resnet.onnx", "resnet.onnx"),
        ("a/b\\c.onnx", "c.onnx"),
        ("..", "model.onnx"),
        ("x/", "model.onnx"),
        ("a\u202eb\n.onnx", "ab.onnx"),
        ("ü" * 200 + ".onnx", "ü" * 57 + ".onnx"),
        (".onnx", ".onnx"),
        ("x" * 300, "x" * 120),
    ],
)
def test_a_file_gives_the_model_its_name(given, expected):
    assert plain_name(given) == expected


HEAD = b'--B\r\nContent-Disposition: form-data; name="model"; filename="m.onnx"\r\n\r\n'
FIELD = b'--B\r\nContent-Disposition: form-data; name="keep"\r\n\r\n'
END = b"\r\n--B--\r\n"
FORM = "multipart/form-data; boundary=B"


@pytest.mark.parametrize(
    ("body", "media", "status", "slug"),
    [
        (b"--B--\r\n", FORM, 400, "bad-request"),
        (FIELD + b"a" + END, FORM, 400, "bad-request"),
        (HEAD.replace(b"m.onnx", b"") + END, FORM, 400, "bad-request"),
        (HEAD + MODEL + b"\r\n" + HEAD + MODEL + END, FORM, 400, "bad-request"),
        (HEAD + MODEL, FORM, 400, "bad-request"),
        (HEAD + MODEL + b"\r\n--B", FORM, 400, "bad-request"),
        (b"", FORM, 400, "bad-request"),
        (MODEL, FORM, 400, "bad-request"),
        (b"--B\r\nContent-Type: a/b\r\n\r\n" + END, FORM, 400, "bad-request"),
        (HEAD.replace(b"m.onnx", b"\xff") + MODEL + END, FORM, 400, "bad-request"),
        (b"--B\r\n" + b"A: b\r\n" * 9 + b"\r\n" + END, FORM, 400, "bad-request"),
        (b"--B\r\nA: " + b"b" * 5000 + END, FORM, 400, "bad-request"),
        (HEAD + MODEL + END, "multipart/form-data", 400, "bad-request"),
        (HEAD + MODEL + END, f"multipart/form-data; boundary={'b' * 300}", 400, "bad-request"),
        (HEAD + MODEL + END, "multipart/mixed; boundary=B", 415, "unsupported-media-type"),
        (FIELD + b"x" * (FIELD_BYTES + 1) + END, FORM, 413, "too-large"),
        ((FIELD + b"x\r\n") * (PARTS + 1), FORM, 413, "too-large"),
        (HEAD + MODEL + END + bytes(9 * MIB), FORM, 413, "too-large"),
        (HEAD + bytes(3_000_001) + END, FORM, 413, "too-large"),
        (HEAD + END, FORM, 422, "invalid-model"),
        (FIELD.replace(b"keep", b"keeep") + b"x\r\n" + HEAD + MODEL + END, FORM, 422, "invalid-option"),
        (FIELD.replace(b"keep", b"name") + b"a/b\r\n" + HEAD + MODEL + END, FORM, 422, "invalid-option"),
        (FIELD.replace(b"keep", b"verify_timeout") + b"1e6\r\n" + HEAD + MODEL + END, FORM, 422, "invalid-option"),
        (FIELD + b"x" * 501 + b"\r\n" + HEAD + MODEL + END, FORM, 422, "invalid-option"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/fold", "/v1/inspect"])
def test_what_is_wrong_with_a_form_is_reported(server, path, body, media, status, slug):
    chunks = (body[i : i + 7] for i in range(0, len(body), 7)) if len(body) < 20_000 else (body,)
    answer = server.client.post(path, content=chunks, headers={"Content-Type": media})
    assert (answer.status_code, answer.json()["type"]) == (status, TYPES + slug), answer.text
    assert len(answer.json()["detail"]) > 10
    assert not list((server.settings.data / "blobs" / "partial").iterdir())


def test_a_digest_of_a_form_is_refused(server):
    headers = {"Content-Type": FORM, "Repr-Digest": f"sha-256=:{'A' * 43}=:"}
    answer = server.client.post("/v1/fold", content=HEAD + MODEL + END, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (400, f"{TYPES}bad-request")


@pytest.mark.parametrize("size", [1, 2, 3, 17, 4096])
def test_a_file_that_looks_like_a_boundary_arrives_as_it_is(server, size):
    data = b"\r\n--\r\n--\r\n--A\r\n--B" + b"\r" * 5 + b"\n--" + MODEL[:50] + b"\r\n-"
    body = HEAD.replace(b"--B", b"--B1") + data + END.replace(b"--B", b"--B1")
    headers = {"Content-Type": FORM.replace("=B", "=B1"), "Prefer": "respond-async"}
    chunks = (body[i : i + size] for i in range(0, len(body), size))
    document = server.client.post("/v1/fold", content=chunks, headers=headers).json()
    assert document["input"]["sha256"] == hashlib.sha256(data).hexdigest(), json.dumps(document)


def test_a_form_takes_the_memory_of_a_few_blocks(tmp_path):
    def form() -> Iterator[bytes]:
        yield HEAD
        for _ in range(UPLOAD // MIB):
            yield bytes(MIB)
        yield END

    with serving(tmp_path / "data") as (process, client):
        client.get("/readyz")
        before = resident(process.process.pid)
        answer = client.post("/v1/fold", content=form(), headers={"Content-Type": FORM})
        assert answer.status_code == 422  # zeros are no model
        assert resident(process.process.pid) - before < GROWTH
