"""What holds for every request: problems, safe headers, health, names, keys and what they may do."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from service.auth.keys import find_key, new_key
from service.http.headers import preferences, preferred
from service.ledger.records import Quota
from service.logs import JsonFormatter
from service.problems import KINDS
from tests.support.service.server import Running, ended, model_bytes, slow, submit
from tests.support.waiting import FOREVER, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

TYPES = "/problems/"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that asks for keys."""
    with Running(tmp_path_factory.mktemp("guarded") / "data", require_keys=True) as running:
        yield running


def slug(answer: httpx.Response) -> str:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    return str(problem["type"]).removeprefix(TYPES)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/v1/jobs/x", 404, "not-found"),
        ("GET", f"/v1/jobs/{'a' * 64}", 404, "not-found"),
        ("GET", f"/v1/jobs/{'a' * 64}/result", 404, "not-found"),
        ("DELETE", f"/v1/jobs/{'a' * 64}", 404, "not-found"),
        ("GET", "/v1/blobs/..%2f..%2fledger.sqlite3", 404, "not-found"),
        ("GET", f"/v1/blobs/{'a' * 64}", 404, "not-found"),
        ("DELETE", f"/v1/blobs/{'a' * 64}", 404, "not-found"),
        ("PATCH", "/v1/fold", 405, "method-not-allowed"),
        ("GET", f"/v1/jobs/{'a' * 64}?wait=x", 422, "invalid-option"),
    ],
)
def test_what_is_not_there_is_a_problem_too(server, method, path, status, kind):
    answer = server.client.request(method, path)
    assert (answer.status_code, slug(answer)) == (status, kind)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("OPTIONS", "/v1/fold", "POST, PUT"),
        ("PATCH", f"/v1/jobs/{'a' * 64}", "DELETE, GET, HEAD"),
        ("POST", f"/v1/jobs/{'a' * 64}/result", "GET, HEAD"),
        ("POST", "/static/app.js", "GET, HEAD"),
        ("POST", "/livez", "GET, HEAD"),
    ],
)
def test_a_refused_method_is_answered_with_those_that_are_allowed(server, method, path, allowed):
    answer = server.client.request(method, path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert allowed in answer.json()["detail"]


def test_safe_headers_are_on_every_answer(server):
    for answer in (server.client.get("/livez"), server.client.get("/nothing"), server.client.post("/v1/fold")):
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_files_of_the_page_are_asked_for_again_and_come_once(server):
    for path in ("/", "/static/app.js", "/static/index.html"):
        first = server.client.get(path)
        assert (first.status_code, first.headers["Cache-Control"]) == (200, "no-cache")
    again = server.client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content, again.headers["Cache-Control"]) == (304, b"", "no-cache")


def test_a_request_has_an_id(server):
    assert server.client.get("/livez", headers={"X-Request-ID": "mine-1"}).headers["X-Request-ID"] == "mine-1"
    made = server.client.get("/livez", headers={"X-Request-ID": "no good" * 20}).headers["X-Request-ID"]
    assert len(made) == 16


def test_a_mistake_of_the_server_is_a_problem_too(server, monkeypatch, caplog):
    monkeypatch.setattr(server.app.state.service.ledger, "load", lambda: 1 / 0)
    answer = server.client.get("/metrics")
    assert (answer.status_code, slug(answer)) == (500, "internal")
    assert answer.headers["X-Request-ID"] in answer.json()["detail"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "ZeroDivisionError" in caplog.text


def test_health(server):
    assert server.client.get("/livez").json() == {"status": "alive"}
    assert server.client.get("/readyz").json() == {
        "status": "ready",
        "disk": "ok",
        "ledger": "ok",
        "engine": "ok",
        "sandbox": "none",
    }
    assert {"bnfold", "onnx", "onnxruntime", "sandbox", "max_upload_bytes"} <= server.client.get(
        "/version"
    ).json().keys()
    server.client.post("/v1/fold", content=model_bytes())
    server.client.post("/v1/fold", content=b"x")
    metrics = server.client.get("/metrics").text
    for line in (
        "bnfold_fold_seconds_bucket",
        'bnfold_refusals_total{type="invalid-model"}',
        'bnfold_waiting{size="1MiB"} 0.0',
    ):
        assert line in metrics


def test_an_engine_that_does_not_deliver_is_not_ready(tmp_path):
    with Running(tmp_path / "data") as running:
        running.app.state.service.engine._sweeping.get_loop().call_soon_threadsafe(
            running.app.state.service.engine._sweeping.cancel
        )
        answer = running.client.get("/readyz")
        while answer.status_code == 200:
            answer = running.client.get("/readyz")
        assert answer.json()["engine"] == "failed"


def test_the_openapi_document_is_whole(server):
    document = server.client.get("/openapi.json").json()
    paths = document["paths"]
    assert {"/v1/fold", "/v1/inspect", "/v1/jobs/{job_id}", "/v1/blobs/{sha256}"} <= paths.keys()
    statuses = {name for path in paths.values() for operation in path.values() for name in operation["responses"]}
    assert statuses >= {"200", "202", "204", "206", "304", "404", "422", "507"}
    examples = json.dumps(document)
    of_tus = {"offset-mismatch", "precondition-failed"}  # uploads in pieces have a document of their own: tus.io
    assert all(TYPES + name in examples for name in KINDS.keys() - {"method-not-allowed", "internal"} - of_tus)
    assert all("description" in parameter for parameter in paths["/v1/fold"]["post"]["parameters"])


@pytest.mark.parametrize(
    ("host", "known"),
    [("localhost", True), ("127.0.0.1:99", True), ("[::1]:99", True), ("evil.example", False), ("", False)],
)
def test_a_server_on_loopback_knows_its_names(server, host, known):
    answer = server.client.get("/version", headers={"Host": host})
    assert answer.status_code == (200 if known else 403)


def test_without_keys_no_page_of_another_site_may_ask(server):
    answer = server.client.post("/v1/fold", content=b"x", headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, slug(answer)) == (403, "forbidden")
    assert server.client.get("/v1/jobs/x", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 404


@pytest.mark.parametrize(
    ("origin", "more", "status"),
    [
        ("http://evil.example", {}, 403),
        ("http://localhost:1", {}, 403),
        ("null", {}, 403),
        ("http://localhost:8000", {}, 415),
        ("https://LOCALHOST:8000", {}, 415),
        ("https://fold.example", {"Sec-Fetch-Site": "same-origin"}, 403),  # behind a proxy that names us otherwise
    ],
)
def test_a_browser_that_sends_the_origin_alone_is_understood(server, origin, more, status):
    headers = {"Host": "localhost:8000", "Origin": origin, "Content-Type": "text/plain", **more}
    assert server.client.post("/v1/fold", content=b"x", headers=headers).status_code == status


def make_key(running: Running, *scopes: str, quota: Quota | None = None) -> dict[str, str]:
    key, text = new_key("test", scopes or ("fold", "read", "delete", "metrics"), quota)
    running.app.state.service.ledger.add_key(key)
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer bnf_x_y", "Basic bnf_x_y", "Bearer \udcff", "Bearer bnf__", "bnf_x_y"]
)
def test_a_key_is_needed(guarded, header):
    headers = {} if header is None else {"Authorization": header.encode(errors="surrogateescape")}
    for path in ("/v1/jobs/x", "/metrics", f"/v1/blobs/{'a' * 64}"):
        answer = guarded.client.get(path, headers=headers)
        assert (answer.status_code, slug(answer)) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert guarded.client.get("/livez").status_code == 200


def test_a_key_may_do_what_it_is_for(guarded):
    reader, folder, remover = (make_key(guarded, scope) for scope in ("read", "fold", "delete"))
    for answer in (
        guarded.client.post("/v1/fold", content=b"x", headers=reader),
        guarded.client.get("/v1/jobs/x", headers=remover),
        guarded.client.delete("/v1/jobs/x", headers=folder),
        guarded.client.delete("/v1/jobs/x", headers=reader),
        guarded.client.get("/metrics", headers=reader),
    ):
        assert (answer.status_code, slug(answer)) == (403, "forbidden")
    for key in (reader, folder):  # who may fold may read what comes of it
        assert guarded.client.get("/v1/jobs/x", headers=key).status_code == 404


def test_what_is_of_one_key_is_not_there_for_another(guarded):
    mine, other = make_key(guarded), make_key(guarded)
    data = model_bytes()
    answer = guarded.client.post("/v1/fold", content=data, headers=mine)
    job = guarded.client.get(f"/v1/jobs/{answer.headers['Bnfold-Job']}", headers=mine).json()
    paths = [*(path for path in job["links"].values()), f"/v1/blobs/{job['input']['sha256']}"]
    paths.append(f"/v1/blobs/{job['result']['sha256']}")
    for path in paths:
        assert guarded.client.get(path, headers=mine).status_code == 200
        assert guarded.client.get(path, headers=other).status_code == 404
        assert guarded.client.get(path).status_code == 401
    for path in (job["links"]["self"], paths[-1]):
        assert guarded.client.delete(path, headers=other).status_code == 404
    again = guarded.client.post("/v1/fold", content=data, headers=other)
    assert again.content == answer.content
    assert guarded.client.delete(paths[-1], headers=mine).status_code == 204
    assert guarded.client.get(paths[-1], headers=other).status_code == 200


def test_a_key_that_was_revoked_is_none(guarded):
    headers = make_key(guarded)
    assert guarded.client.get("/v1/jobs/x", headers=headers).status_code == 404
    service = guarded.app.state.service
    service.ledger.revoke_key(headers["Authorization"].split("_")[1])
    assert guarded.client.get("/v1/jobs/x", headers=headers).status_code == 401


@pytest.mark.parametrize(("quota", "allowed"), [(Quota(open_jobs=1), 1), (Quota(bytes=len(slow(FOREVER)) * 2), 2)])
def test_quotas(guarded, quota, allowed):
    headers = make_key(guarded, quota=quota)
    ask = headers | {"Prefer": "respond-async"}
    answers = [guarded.client.post("/v1/fold", content=slow(FOREVER, seed), headers=ask) for seed in range(allowed + 1)]
    assert [answer.status_code for answer in answers] == [202] * allowed + [429]
    assert slug(answers[-1]) == "quota-exceeded"
    assert answers[-1].headers["Retry-After"]
    for answer in answers[:-1]:
        assert guarded.client.delete(answer.headers["Location"], headers=headers).status_code == 204


def test_a_rate_is_a_quota_too(guarded):
    headers = make_key(guarded, quota=Quota(rate="2/hour"))
    answers = [guarded.client.get("/v1/jobs/x", headers=headers) for _ in range(3)]
    assert [slug(answer) for answer in answers] == ["not-found", "not-found", "quota-exceeded"]
    assert guarded.client.get("/v1/jobs/x", headers=make_key(guarded)).status_code == 404


def test_keys_are_kept_hashed_and_compared_whole(guarded):
    key, text = new_key("test")
    ledger = guarded.app.state.service.ledger
    ledger.add_key(key)
    assert find_key(ledger, text) == key
    secret = text.rsplit("_", 1)[1]
    assert secret not in repr(key)
    for wrong in (text[:-1], text + "0", f"bnf_{key.id}_{key.hash}", f"xyz_{key.id}_{secret}", key.id, ""):
        assert find_key(ledger, wrong) is None


def test_the_log_has_the_request_and_no_secret(guarded, caplog):
    headers = make_key(guarded)
    caplog.set_level(logging.INFO, "bnfold")
    guarded.client.post("/v1/fold", content=b"bad", headers=headers, params={"name": "secret.onnx"})
    records: list[logging.LogRecord] = []

    def logged() -> bool:
        records[:] = [record for record in caplog.records if record.getMessage() == "request"]
        return bool(records)

    until(logged)  # the line comes after the answer
    (record,) = records
    line = JsonFormatter().format(record)
    fields: dict[str, Any] = json.loads(line)
    assert (fields["method"], fields["path"], fields["status"]) == ("POST", "/v1/fold", 422)
    assert fields["key"] == headers["Authorization"].split("_")[1]
    assert headers["Authorization"].split("_")[2] not in line
    assert "secret" not in line


def test_a_zip_comes_back_as_a_zip(server, tmp_path):
    import zipfile  # noqa: PLC0415

    import onnx  # noqa: PLC0415

    model = onnx.ModelProto.FromString(model_bytes(channels=600))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=16)
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for name in ("m.onnx", "m.bin"):
            archive.write(tmp_path / name, name)
    answer = server.client.put("/v1/fold", content=(tmp_path / "m.zip").read_bytes())
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/zip"), answer.text
    assert '"model.folded.zip"' in answer.headers["Content-Disposition"]
    (tmp_path / "folded.zip").write_bytes(answer.content)
    with zipfile.ZipFile(tmp_path / "folded.zip") as archive:
        assert sorted(archive.namelist()) == ["m.onnx", "m.onnx.data"]
    document = ended(server.client, submit(server.client, (tmp_path / "m.zip").read_bytes()))
    assert document["status"] == "done"


@pytest.mark.parametrize(
    ("accept", "best"),
    [(None, "a/b"), ("", "a/b"), ("*/*", "a/b"), ("c/d", "c/d"), ("c/*", "c/d"), ("c/d;q=0.1, */*", "a/b"),
     ("a/b;q=0, c/d", "c/d"), ("x/y", "a/b"), ("c/d;q=bad", "a/b"), ("C/D", "c/d")],
)  # fmt: skip
def test_the_preferred_type(accept, best):
    assert preferred(accept, ("a/b", "c/d")) == best


def test_preferences():
    assert preferences(None) == preferences("other") == preferences("wait=x")
    both = preferences("Respond-Async, wait=5")
    assert (both.respond_async, both.wait) == (True, 5.0)


def test_an_option_that_is_none_is_reported(server):
    answer = server.client.post("/v1/fold", content=b"x", params={"foo": "1"})
    assert answer.json()["detail"] == "there is no option 'foo'; /docs lists those that there are"
