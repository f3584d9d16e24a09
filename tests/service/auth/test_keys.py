"""The end of a key, and its secrets: what is open ends, what waits is cancelled, what is to be erased is gone."""

from __future__ import annotations

import json
import socket
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.auth import audit
from service.auth.keys import find_key, moment, new_key
from service.command.main import main
from service.ledger.sql import open_ledger
from tests.support.processes import named
from tests.support.service.server import MIB, Running, held, model_bytes, submit
from tests.support.waiting import PATIENCE, is_alive, until

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_800_000_000.0
DAY = 86400
LARGE = 64 * MIB  # more than the buffers of two sockets hold


@pytest.fixture
def server(tmp_path) -> Iterator[Running]:
    with Running(tmp_path / "data", require_keys=True, workers=1) as running:
        yield running


CLIENTS: list[httpx.Client] = []


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def key(running: Running, **more: Any) -> tuple[str, httpx.Client]:
    """A key's id, and a client that has it."""
    made, text = new_key("test", **more)
    running.app.state.service.ledger.add_key(made)
    headers = {"Authorization": f"Bearer {text}"}
    CLIENTS.append(httpx.Client(base_url=running.url, headers=headers, timeout=PATIENCE))
    return made.id, CLIENTS[-1]


def keys(data: Path, *argv: str) -> int:
    return main(["keys", *argv, "--data", str(data)])


def audited(data: Path, name: str = audit.AUDIT) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (data / name).read_text().splitlines()]


def test_a_revoked_key_ends_its_jobs_and_the_processes_of_them(server, tmp_path):
    id_, client = key(server)
    _, others = key(server)
    running, waiting = submit(client, held(tmp_path / "never")), submit(client, held(tmp_path / "never", 1))
    foreign = submit(others, held(tmp_path / "gate", 2))
    until(lambda: client.get(f"/v1/jobs/{running}").json()["status"] == "running")
    processes = named(server.settings.data)
    assert keys(server.settings.data, "revoke", id_) == 0
    ledger = server.app.state.service.ledger
    until(lambda: [ledger.job(id_, job).status for job in (running, waiting)] == ["cancelled"] * 2)
    assert ledger.job(id_, waiting).failure.detail == "the API key of this job was revoked or has expired"
    (tmp_path / "gate").touch()  # the other key's fold runs beside them: it has the extra slot
    until(lambda: others.get(f"/v1/jobs/{foreign}").json()["status"] == "done")
    until(lambda: not [pid for pid in processes if is_alive(pid)])
    assert client.get(f"/v1/jobs/{running}").status_code == 401


def waits_for_events(client: httpx.Client, job: str) -> object:
    with client.stream("GET", f"/v1/jobs/{job}", headers={"Accept": "text/event-stream"}) as events:
        return list(events.iter_lines())


def waits_for_a_change(client: httpx.Client, job: str) -> object:
    return client.get(f"/v1/jobs/{job}", params={"wait": PATIENCE}, headers={"If-None-Match": "*"}).status_code


def waits_for_the_fold(client: httpx.Client, job: str) -> object:
    return client.post("/v1/fold", content=held(Path("/nowhere") / job, 7)).status_code


@pytest.mark.parametrize("wait", [waits_for_events, waits_for_a_change, waits_for_the_fold])
def test_a_revoked_key_ends_what_waits(server, tmp_path, wait):
    id_, client = key(server)
    job = submit(client, held(tmp_path / "never"))
    until(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "running")
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(wait(client, job))
        except httpx.TransportError as error:
            answers.append(type(error))

    asking = threading.Thread(target=ask)
    asking.start()
    guests = server.app.state.service.guests
    until(lambda: guests._tasks.get(id_))
    assert keys(server.settings.data, "revoke", id_) == 0
    asking.join(PATIENCE)
    assert answers[0] in (401, httpx.RemoteProtocolError)
    until(lambda: not guests._tasks)


def test_a_revoked_key_ends_an_upload_and_a_download(server):
    id_, client = key(server)
    text = client.headers["Authorization"]
    data = bytes(LARGE)
    digest = submit_blob(client, data)
    address = (client.base_url.host, client.base_url.port)
    with socket.create_connection(address, PATIENCE) as down, socket.create_connection(address, PATIENCE) as up:
        head = f"Host: localhost\r\nAuthorization: {text}\r\n"
        down.sendall(f"GET /v1/blobs/{digest} HTTP/1.1\r\n{head}\r\n".encode())
        up.sendall(f"POST /v1/fold HTTP/1.1\r\n{head}Content-Length: {LARGE}\r\n\r\n".encode() + model_bytes())
        until(lambda: len(server.app.state.service.guests._tasks.get(id_, ())) == 2)
        assert keys(server.settings.data, "revoke", id_) == 0
        assert up.recv(MIB).startswith(b"HTTP/1.1 401 ")
        taken = 0
        try:
            while block := down.recv(MIB):
                taken += len(block)
        except ConnectionError:
            pass
        assert taken < LARGE


def submit_blob(client: httpx.Client, data: bytes) -> str:
    job = submit(client, data)
    document: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
    until(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "failed")
    return str(document["input"]["sha256"])


@pytest.mark.parametrize("serves", [True, False], ids=["a server runs", "no server runs"])
def test_a_key_is_erased_and_nothing_of_another(tmp_path, serves):
    data = tmp_path / "data"
    with Running(data, require_keys=True) as running:
        (id_, client), (_, other) = key(running), key(running)
        shared = client.post("/v1/fold", content=model_bytes()).headers
        assert other.post("/v1/fold", content=model_bytes()).status_code == 200
        own = client.post("/v1/fold", content=model_bytes(seed=1)).headers
        digests = [headers["ETag"].strip('"') for headers in (shared, own)]
        if serves:
            assert keys(data, "revoke", id_, "--erase") == 0
            until(lambda: audited(data)[-1]["event"] == "key erased")
            assert other.get(f"/v1/blobs/{digests[0]}").status_code == 200
    if not serves:
        assert keys(data, "revoke", id_, "--erase") == 0
    left = {path.parent.name + path.name for path in (data / "blobs" / "sha256").glob("*/*")}
    assert [digest in left for digest in digests] == [True, False]
    ledger = open_ledger(data)
    assert [ledger.job(id_, headers["Bnfold-Job"]) for headers in (shared, own)] == [None, None]
    assert id_ not in {holding.key for holding in ledger.held()}
    assert ledger.erasing() == []
    ledger.close()
    assert [line["event"] for line in audited(data)][-2:] == ["key revoked", "key erased"]


def test_what_ended_while_no_server_ran_ends_with_the_next_one(tmp_path):
    data = tmp_path / "data"
    with Running(data, require_keys=True) as running:
        id_, client = key(running)
        job = submit(client, held(tmp_path / "never"))
    assert keys(data, "revoke", id_) == 0
    with Running(data, require_keys=True) as running:
        until(lambda: running.app.state.service.ledger.job(id_, job).status == "cancelled")


def test_a_key_expires(server, capsys):
    id_, client = key(server, expires=moment("1h", NOW))
    assert client.get("/v1/jobs/x").status_code == 404
    _, gone = key(server, expires=NOW - 10 * 365 * DAY)
    assert gone.get("/v1/jobs/x").status_code == 401
    assert keys(server.settings.data, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "expires 2027-01-15" in next(line for line in lines if line.startswith(id_))
    assert [" expired " in line for line in lines] == [False, True]


def test_keys_that_are_expired_start_no_server(tmp_path, capsys, monkeypatch):
    assert keys(tmp_path, "add", "me", "--expires", "1s") == 0
    monkeypatch.setattr("time.time", lambda: NOW + 100 * 365 * DAY)
    assert main(["serve", "--host", "10.0.0.1", "--data", str(tmp_path)]) == 2
    assert "API keys are needed, and there are none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90d", 90 * DAY), ("12h", DAY / 2), ("30m", 1800), ("45s", 45), ("2w", 14 * DAY), ("2027-01-16", 57600),
     ("2027-01-15T09:00:00+01:00", 0)],
)  # fmt: skip
def test_when_a_key_expires(text, seconds):
    assert moment(text, NOW) == NOW + seconds


@pytest.mark.parametrize("text", ["soon", "-1d", "1y", "", "2020-01-01", "1.5h"])
def test_what_is_no_time_or_over_is_refused(tmp_path, text, capsys):
    with pytest.raises(ValueError, match=r"is no time|is over"):
        moment(text, NOW)
    with pytest.raises(SystemExit):
        keys(tmp_path, "add", "me", f"--expires={text}")
    assert "2027-01-31" in capsys.readouterr().err or text == "2020-01-01"


def test_a_rotated_key_has_two_secrets_for_a_while_and_keeps_what_it_has(server, capsys, monkeypatch):
    id_, client = key(server)
    job = client.post("/v1/fold", content=model_bytes()).headers["Bnfold-Job"]
    assert keys(server.settings.data, "rotate", id_, "--overlap", "1h") == 0
    text = capsys.readouterr().out.strip()
    assert text.split("_")[1] == id_
    old = client.headers["Authorization"].removeprefix("Bearer ")
    for good in (old, text):
        assert client.get(f"/v1/jobs/{job}", headers={"Authorization": f"Bearer {good}"}).status_code == 200
    ledger = server.app.state.service.ledger
    now = moment("2h", 0) + time.time()
    monkeypatch.setattr("service.auth.keys.time.time", lambda: now)
    assert (find_key(ledger, old), find_key(ledger, text).id) == (None, id_)


@pytest.mark.parametrize("action", [("rotate",), ("revoke",), ("revoke", "--erase")])
def test_a_key_that_is_not_there_is_neither_rotated_nor_revoked(tmp_path, capsys, action):
    assert keys(tmp_path, "add", "me") == 0
    assert keys(tmp_path, *action, "nobody") == 2
    assert "there is no active key 'nobody'" in capsys.readouterr().err
    assert [line["event"] for line in audited(tmp_path)] == ["key added"]


def test_the_audit_log_has_keys_deletions_and_refusals_and_no_secret(server, capsys):
    data = server.settings.data
    assert keys(data, "add", "me", "--scope", "fold", "--scope", "delete") == 0
    text = capsys.readouterr().out.strip()
    id_ = text.split("_")[1]
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {text}"}, timeout=PATIENCE) as client:
        folded = client.post("/v1/fold", content=model_bytes()).headers
        client.delete(f"/v1/jobs/{folded['Bnfold-Job']}")
        client.delete(f"/v1/blobs/{folded['ETag'].strip(chr(34))}")
        client.get("/metrics")
        client.get("/v1/jobs/x", headers={"Authorization": "Bearer bnf_x_secret"})
        client.get("/version", headers={"Host": "evil.example"})
    assert keys(data, "revoke", id_) == 0
    lines = audited(data)
    assert [line["event"] for line in lines] == ["key added", "job cancelled", "blob deleted", "key revoked"]
    assert [line["key"] for line in lines] == [id_] * 4
    assert (lines[0]["name"], lines[1]["client"], lines[2]["blob"]) == ("me", "127.0.0.1", folded["ETag"].strip('"'))
    refused = audited(data, audit.REFUSALS)
    assert [(line["problem"], line["path"]) for line in refused] == [
        ("forbidden", "/metrics"),
        ("unauthorized", "/v1/jobs/x"),
        ("forbidden", "/version"),
    ]
    assert [line.get("key") for line in refused] == [id_, None, None]
    assert {line["client"] for line in refused} == {"127.0.0.1"}
    written = "".join((data / name).read_text() for name in (audit.AUDIT, audit.REFUSALS))
    assert "secret" not in written
    assert text.split("_")[2] not in written
    assert stat.S_IMODE((data / audit.AUDIT).stat().st_mode) == 0o600


def test_the_audit_log_is_bounded_and_a_full_disk_stops_nobody(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(audit, "MOST_BYTES", 1000)
    for number in range(50):
        audit.audit(tmp_path, "refused", path=f"/{number}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["refusals.jsonl", "refusals.jsonl.1"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2200
    audit.audit(tmp_path / "nowhere", "key added", key="k")
    assert "the audit log cannot be written" in caplog.text
