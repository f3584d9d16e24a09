"""Who gets in where no key is asked for, under which names and paths, and how a refusal reaches who still sends."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.routing import APIRoute

from service.command.main import main
from service.http.app import ROUTES
from service.settings import Settings
from tests.support.service.server import MIB, Running, held, model_bytes, serving, submit
from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME, ROOT_PATH = "fold.example.org", "/tools/fold"
REFUSED = 32 * MIB  # more than fits between the server and a client
ELSEWHERE = "203.0.113.7"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that a proxy shows under a path; the proxy itself checks who asks."""
    data = tmp_path_factory.mktemp("below") / "data"
    with Running(data, root_path=ROOT_PATH, require_keys=False) as running:
        yield running


@pytest.mark.parametrize(
    ("settings", "asks"),
    [
        ({}, False),
        ({"host": "0.0.0.0"}, True),  # noqa: S104  nothing listens here
        ({"host": "localhost", "allowed_hosts": ("localhost", "127.0.0.1", "[::1]", "::1")}, False),
        ({"allowed_hosts": ("localhost", NAME)}, True),
        ({"trusted_proxies": ("127.0.0.1",)}, True),
        ({"root_path": ROOT_PATH}, True),
        ({"allowed_hosts": (NAME,), "require_keys": False}, False),
        ({"require_keys": True}, True),
    ],
)
def test_keys_are_asked_for_wherever_others_may_come(settings, asks):
    assert Settings(**settings).asks_for_keys == asks


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("ALLOWED_HOSTS", f'["{NAME}"]', "BNFOLD_ALLOWED_HOSTS says that a proxy leads others here, so API keys are"),
        ("TRUSTED_PROXIES", '["10.0.0.0/8"]', "BNFOLD_TRUSTED_PROXIES says that a proxy leads others here"),
        ("ROOT_PATH", ROOT_PATH, "BNFOLD_ROOT_PATH says that a proxy leads others here"),
        ("REQUIRE_KEYS", "true", "BNFOLD_REQUIRE_KEYS is true, so API keys are needed"),
        ("TRUSTED_PROXIES", '["proxy"]', "'proxy' is no address and no network; write 127.0.0.1 or 10.0.0.0/8"),
        ("ROOT_PATH", "fold/", "BNFOLD_ROOT_PATH is 'fold/': it must begin with a slash, end without one"),
    ],
)
def test_a_proxy_without_keys_is_refused_at_the_start(tmp_path, monkeypatch, capsys, variable, value, says):
    monkeypatch.setenv(f"BNFOLD_{variable}", value)
    assert main(["serve", "--data", str(tmp_path), "--port", "0"]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "header",
    [
        {"Forwarded": f"for={ELSEWHERE}"},
        {"Via": "1.1 proxy"},
        {"X-Forwarded-For": ELSEWHERE},
        {"X-Forwarded-Proto": "https"},
        {"x-forwarded-host": NAME},
        {"X-Real-IP": ELSEWHERE},
        {"CF-Connecting-IP": ELSEWHERE},
        {"Origin": f"https://{NAME}", "Sec-Fetch-Site": "same-origin"},
    ],
    ids=lambda header: next(iter(header)),
)
@pytest.mark.parametrize("path", ["/v1/jobs/x", "/metrics"])
def test_what_came_through_a_proxy_needs_a_key(server, below, path, header):
    answer = server.client.get(path, headers=header)
    assert answer.status_code == 403
    assert "came through a proxy" in answer.json()["detail"]
    assert "BNFOLD_ALLOWED_HOSTS" in answer.json()["detail"]
    assert below.client.get(path, headers=header).status_code in {200, 404}  # the operator said so
    assert server.client.get("/livez", headers=header).status_code == 200


def said(running: Running, text: str) -> str:
    """What a server answers to these bytes."""
    with socket.create_connection((running.client.base_url.host, running.client.base_url.port), PATIENCE) as connection:
        connection.sendall(text.encode())
        answer = b""
        while block := connection.recv(MIB):
            answer += block
    return answer.decode()


def test_what_nginx_sends_unless_it_is_configured_otherwise_needs_a_key(server):
    lines = "GET /metrics HTTP/1.0\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\n\r\n"
    assert " 403 " in said(server, lines).splitlines()[0]
    assert " 200 " in said(server, lines.replace("1.0", "1.1")).splitlines()[0]


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_pass_whatever_they_call_the_server(tmp_path, path):
    with Running(tmp_path / "data", allowed_hosts=(NAME,)) as running:
        for host in ("10.1.2.3:8000", "evil.example", "", "127.0.0.1:1", NAME):
            assert running.client.get(path, headers={"Host": host}).status_code == 200
        for host, status in (("10.1.2.3", 403), ("evil.example", 403), ("127.0.0.1:1", 200), (NAME.upper(), 200)):
            assert running.client.get("/version", headers={"Host": host}).status_code == status


READ = [route.path for part in ROUTES for route in part.router.routes if isinstance(route, APIRoute)
        and "GET" in route.methods]  # fmt: skip


@pytest.mark.parametrize("path", [*READ, "/", "/static/app.js", "/openapi.json"])
def test_head_is_answered_wherever_get_is(server, path):
    job = server.client.post("/v1/fold", content=model_bytes()).headers["Bnfold-Job"]
    document = server.client.get(f"/v1/jobs/{job}").json()
    path = path.format(job_id=job, sha256=document["result"]["sha256"], slug="busy")
    got, head = server.client.get(path), server.client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")
    assert head.headers["Content-Type"] == got.headers["Content-Type"]
    assert server.client.get("/v1/jobs/x").status_code == server.client.head("/v1/jobs/x").status_code == 404


def test_head_waits_for_no_event(server, tmp_path):
    job = submit(server.client, held(tmp_path / "gate"))
    answer = server.client.head(f"/v1/jobs/{job}", headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.headers["Content-Type"][:17]) == (200, "text/event-stream")
    server.client.delete(f"/v1/jobs/{job}")


@pytest.mark.parametrize("prefix", ["", ROOT_PATH], ids=["the proxy removes it", "the proxy leaves it"])
def test_all_addresses_are_under_the_path(below, prefix):
    client = below.client
    answer = client.post(f"{prefix}/v1/fold", content=model_bytes(), headers={"Prefer": "respond-async"})
    where = answer.headers["Location"]
    assert re.fullmatch(f"{ROOT_PATH}/v1/jobs/[0-9a-f]{{64}}", where)
    until(lambda: client.get(where, params={"wait": 5}).json()["status"] == "done")
    document = client.get(where).json()
    assert document["links"] == {"self": where, "result": f"{where}/result", "report": f"{where}/report"}
    assert (document["result"]["href"], document["report"]["href"]) == (f"{where}/result", f"{where}/report")
    folded = client.post(f"{prefix}/v1/fold", content=model_bytes())
    assert folded.headers["Content-Location"] == f"{where}/result"
    assert folded.headers["Link"] == f'<{where}/report>; rel="describedby"'
    bad = client.post(f"{prefix}/v1/fold", content=b"x")
    assert bad.json()["instance"] == f"{ROOT_PATH}/v1/jobs/{bad.headers['Bnfold-Job']}"
    assert client.get(f"{ROOT_PATH}{bad.json()['instance'].removeprefix(ROOT_PATH)}").status_code == 200
    assert client.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": ROOT_PATH}]
    assert f"{ROOT_PATH}/docs" in client.get(f"{prefix}/nothing").json()["detail"]


def test_the_page_has_no_address_of_its_own(below):
    for text in (below.client.get(f"{ROOT_PATH}/").text, below.client.get(f"{ROOT_PATH}/static/api.js").text):
        assert not re.findall(r"""(?:href|src)=["']/|["'`]/(?:v1|static)/""", text)
    bare = below.client.get(ROOT_PATH)
    assert (bare.status_code, bare.headers["Location"]) == (308, f"{ROOT_PATH}/")


@pytest.mark.parametrize(("trusted", "address"), [('["127.0.0.0/8"]', ELSEWHERE), ('["10.0.0.1"]', "127.0.0.1")])
def test_the_log_has_the_address_that_a_trusted_proxy_gives(tmp_path, trusted, address):
    with serving(tmp_path / "data", trusted_proxies=trusted, require_keys="false") as (_, client):
        client.get("/v1/jobs/x", headers={"X-Forwarded-For": f"192.0.2.1, {ELSEWHERE}"})
        until(lambda: "/v1/jobs/x" in (tmp_path / "log").read_text())
    (line,) = [line for line in (tmp_path / "log").read_text().splitlines() if "/v1/jobs/x" in line]
    assert json.loads(line)["client"] == address


def lines_at_the_start(folder: Path, **settings: str) -> list[dict[str, Any]]:
    with serving(folder / "data", **settings):
        until(lambda: "limits: " in (folder / "log").read_text())
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def test_a_start_says_loudly_what_is_open(tmp_path):
    lines = lines_at_the_start(tmp_path, cap_bytes=str(5 << 30))
    warned = [line["message"] for line in lines if line["level"] == "warning"]
    assert [text.partition(":")[0] for text in warned] == ["no API key is asked for", "there is no sandbox"]
    (limits,) = [line["message"] for line in lines if line["message"].startswith("limits: ")]
    assert "2 folds at a time" in limits
    assert "5.37 GB kept" in limits


def test_a_start_with_keys_says_nothing_of_them(tmp_path, capsys):
    assert main(["keys", "add", "me", "--data", str(tmp_path / "data")]) == 0
    lines = lines_at_the_start(tmp_path, require_keys="true")
    assert not [line for line in lines if "API key" in line["message"]]


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_a_refusal_reaches_who_still_sends(tmp_path, connection):
    """Who closes at once resets the connection, and a proxy in between reports 502."""
    with serving(tmp_path / "data", max_upload_bytes="1000") as (_, client):
        with socket.create_connection((client.base_url.host, client.base_url.port), PATIENCE) as sending:
            head = f"POST /v1/fold HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n"
            sending.sendall(f"{head}Content-Length: {REFUSED}\r\n\r\n".encode())
            for _ in range(REFUSED // MIB):
                sending.sendall(bytes(MIB))
            assert sending.recv(MIB).startswith(b"HTTP/1.1 413 ")
            if connection == "close":
                while sending.recv(MIB):
                    pass
        assert client.get("/livez").status_code == 200


def test_no_more_is_read_of_a_refused_body_than_the_bound(tmp_path):
    with serving(tmp_path / "data", max_upload_bytes="1000") as (_, client):
        with socket.create_connection((client.base_url.host, client.base_url.port), PATIENCE) as sending:
            head = "POST /v1/fold HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            sending.sendall(f"{head}Content-Length: {1 << 40}\r\n\r\n".encode())
            with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
                sending.sendall(bytes(256 * MIB))
        assert client.get("/livez").status_code == 200
