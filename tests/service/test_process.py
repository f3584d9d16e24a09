"""The server as a process: uploads that stream, kills that lose nothing, and an end that is graceful."""

from __future__ import annotations

import http.client
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from benchmarks.service import resident, zeros
from tests.support import ROOT
from tests.support.processes import descendants
from tests.support.service.server import MIB, Process, ended, held, model_bytes, serving, slow, submit
from tests.support.waiting import FOREVER, PATIENCE, until

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

UPLOAD = 128 * MIB
SHUTDOWN_SECONDS = 30  # for a fold that can end
HEAD_START = 0.5  # seconds for the end of a server, to begin before a fold ends
GROWTH = 48 * MIB  # that an upload of any size may cost: blocks in several hands

HALF = b"POST /v1/fold HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n" + bytes(MIB * 2)


def partial(data: Path) -> list[Path]:
    return list((data / "blobs" / "partial").iterdir())


def test_an_upload_takes_the_memory_of_a_few_blocks(tmp_path):
    with serving(tmp_path / "data") as (process, client):
        client.get("/readyz")
        before = resident(process.process.pid)
        answer = client.post("/v1/fold", content=zeros(UPLOAD), params={"verify": False})
        assert answer.status_code == 422  # zeros are no fields
        assert resident(process.process.pid) - before < GROWTH


def test_what_a_client_does_not_finish_is_removed(tmp_path):
    with serving(tmp_path / "data") as (_, client):
        connection = socket.create_connection((client.base_url.host, client.base_url.port))
        connection.sendall(
            b"POST /v1/fold HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n" + bytes(MIB * 2)
        )
        until(lambda: partial(tmp_path / "data"))
        connection.close()
        until(lambda: not partial(tmp_path / "data"))
        assert client.get("/livez").status_code == 200
        assert "Traceback" not in (tmp_path / "log").read_text()


def test_what_a_killed_server_did_not_finish_is_removed(tmp_path):
    process = Process(tmp_path / "data")
    client = process.start()
    connection = socket.create_connection((client.base_url.host, client.base_url.port))
    connection.sendall(HALF)
    until(lambda: partial(tmp_path / "data"))
    process.kill()
    assert partial(tmp_path / "data")
    client = process.start()
    assert not partial(tmp_path / "data")
    process.kill()
    connection.close()


@pytest.mark.parametrize(
    ("settings", "pieces"),
    [({"upload_stall_seconds": 1}, [(b"x", 0)]), ({"upload_seconds": 1}, [(b"x", 0.3)] * 20),
     ({"upload_stall_seconds": 1, "upload_rate": 1000}, [(b"x", 0.3)] * 20)],
    ids=["it stalls", "it takes too long", "it is too slow"],
)  # fmt: skip
def test_an_upload_has_its_time(tmp_path, settings, pieces):
    with serving(tmp_path / "data", **settings) as (_, client):
        connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=PATIENCE)
        connection.putrequest("POST", "/v1/fold")
        connection.putheader("Content-Length", "100")
        connection.endheaders()
        for piece, pause in pieces:
            try:
                connection.send(piece)
            except OSError:
                break
            if select.select([connection.sock], [], [], pause)[0]:
                break  # there is the answer
        answer = connection.getresponse()
        assert answer.status == 408
        assert b"upload-timeout" in answer.read()
        connection.close()
        assert not partial(tmp_path / "data")


def test_a_server_that_is_killed_goes_on_where_it_was(tmp_path):
    process, gate = Process(tmp_path / "data"), tmp_path / "gate"
    client = process.start()
    running = submit(client, held(gate))
    waiting = [submit(client, slow(0.1, seed)) for seed in range(1, 4)]
    until(lambda: client.get(f"/v1/jobs/{running}").json()["status"] == "running")
    process.kill()
    gate.touch()
    client = process.start()
    assert [ended(client, job)["status"] for job in (running, *waiting)] == ["done"] * 4
    assert client.get(f"/v1/jobs/{running}").json()["attempts"] == 2
    assert client.post("/v1/fold", content=model_bytes()).status_code == 200
    assert not list((tmp_path / "data" / "jobs").iterdir())
    process.kill()


def test_the_deaths_of_a_server_condemn_no_job(tmp_path):
    """What ran then runs alone, and waits the longer the more servers died; all others go on meanwhile."""
    process, gate = Process(tmp_path / "data", workers="1"), tmp_path / "gate"
    client = process.start()
    suspect = submit(client, held(gate))
    for attempt in range(1, 5):
        until(lambda client=client, n=attempt: client.get(f"/v1/jobs/{suspect}").json()["attempts"] == n)
        process.kill()
        client = process.start()
    behind = submit(client, model_bytes())
    assert ended(client, behind)["status"] == "done"
    gate.touch()
    document = ended(client, suspect)
    assert (document["status"], document["attempts"]) == ("done", 5)
    process.kill()


def test_who_ends_the_processes_of_folds_and_the_server_together_harms_no_job(tmp_path):
    """As systemd does: a signal to the whole control group."""
    process, gate = Process(tmp_path / "data"), tmp_path / "gate"
    client = process.start()
    job = submit(client, held(gate))
    for attempt in range(3):
        until(lambda client=client: client.get(f"/v1/jobs/{job}").json()["status"] == "running")
        for pid in descendants(process.process.pid):
            os.kill(pid, signal.SIGTERM)
        assert process.stop() == 0
        client = process.start()
        assert client.get(f"/v1/jobs/{job}").json()["attempts"] <= 1, attempt
    gate.touch()
    assert ended(client, job)["status"] == "done"
    process.kill()


def test_an_end_is_graceful(tmp_path):
    """A fold that can end ends; one that cannot goes back to the ledger, and its attempt does not count."""
    with serving(tmp_path / "data", shutdown_seconds=str(SHUTDOWN_SECONDS)) as (process, client):
        short = submit(client, held(tmp_path / "gate", seed=1), verify=False)
        long = submit(client, slow(FOREVER, seed=2))
        until(lambda: all(client.get(f"/v1/jobs/{job}").json()["status"] == "running" for job in (short, long)))
        answers: list[httpx.Response] = []
        waits = threading.Thread(target=lambda: answers.append(client.post("/v1/fold", content=slow(FOREVER, seed=3))))
        waits.start()
        until(lambda: 'bnfold_waiting{size="1MiB"} 1.0' in client.get("/metrics").text)
        threading.Timer(HEAD_START, (tmp_path / "gate").touch).start()
        assert process.stop() == 0  # it waits for none of those that do not end
        waits.join()
        assert answers[0].status_code == 202  # handed back: its job goes on with the next server
    with serving(tmp_path / "data") as (_, client):
        assert ended(client, short)["attempts"] == 1
        document = client.get(f"/v1/jobs/{long}").json()
        assert (document["status"] in {"queued", "running"}, document["attempts"] <= 1) == (True, True)


def test_a_data_folder_has_one_server(tmp_path):
    with serving(tmp_path / "data"):
        paths = str(ROOT)
        command = [
            sys.executable,
            "-m",
            "tests.support.service.server",
            "--port",
            "0",
            "--data",
            str(tmp_path / "data"),
        ]
        second = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, timeout=PATIENCE, check=False
        )
        assert second.returncode != 0
        assert b"is used by another server" in second.stderr


def test_what_was_not_used_goes(tmp_path):
    gate = tmp_path / "gate"
    with serving(tmp_path / "data", ttl_seconds="1", sweep_seconds="0.2") as (_, client):
        job = client.post("/v1/fold", content=model_bytes()).headers["Bnfold-Job"]
        running = submit(client, held(gate))
        until(lambda: client.get(f"/v1/jobs/{job}").status_code == 404)
        assert client.get(f"/v1/jobs/{running}").json()["status"] in {"queued", "running"}
        gate.touch()
        until(lambda: 'bnfold_outcomes_total{outcome="done"} 2.0' in client.get("/metrics").text)
        until(lambda: not [path for path in (tmp_path / "data" / "blobs" / "sha256").rglob("*") if path.is_file()])
