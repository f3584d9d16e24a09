"""A cluster: servers and workers on one PostgreSQL and one S3, as processes that are drained, killed and cut off."""

from __future__ import annotations

import hashlib
import re
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest

from service.auth.keys import new_key
from service.command.main import main
from service.ledger.sql import open_shared
from service.state import REMOTE
from tests.service.http.test_resumable import arrived, begun, sent
from tests.support import ROOT
from tests.support.service import proxies
from tests.support.service.server import ended, held, model_bytes, slow, submit
from tests.support.waiting import FOREVER, PATIENCE, until

if TYPE_CHECKING:
    from tests.support.service.cluster import Cluster

pytest_plugins = ["tests.support.service.cluster"]


def admin(cluster: Cluster, capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What `bnfold admin` prints."""
    data = ["--data", str(cluster.folder / "operator")]
    capsys.readouterr()
    assert main(["admin", *argv, *data]) == 0
    return capsys.readouterr().out


def state(client: httpx.Client, job: str) -> tuple[str, int]:
    document = client.get(f"/v1/jobs/{job}").raise_for_status().json()
    return document["status"], document["attempts"]


def test_a_model_is_folded_by_a_worker_elsewhere(cluster):
    """Synchronous requests, jobs, their progress, results through another server, cancellation, and a drain."""
    first, second = cluster.server(), cluster.server()
    workers = [cluster.worker(shutdown_seconds=0), cluster.worker(shutdown_seconds=0)]
    model = model_bytes()
    folded = first.post("/v1/fold", content=model)
    assert folded.status_code == 200, folded.text
    assert second.post("/v1/fold", content=model).content == folded.content  # folded once
    job = folded.headers["Bnfold-Job"]
    document = second.get(f"/v1/jobs/{job}").json()
    assert (document["attempts"], document["result"]["sha256"]) == (1, hashlib.sha256(folded.content).hexdigest())
    part = second.get(f"/v1/jobs/{job}/result", headers={"Range": "bytes=3-9"})
    assert (part.status_code, part.content) == (206, folded.content[3:10])
    assert second.post("/v1/inspect", content=model).json()["bn_before"] == 1  # by the server itself
    running = submit(first, slow(FOREVER))
    until(lambda: state(second, running) == ("running", 1))
    assert second.delete(f"/v1/jobs/{running}").status_code == 204
    assert ended(first, running)["status"] == "cancelled"
    after = [submit(first, slow(0.01, seed)) for seed in range(1, 4)]  # the slot is free again
    assert [ended(second, job)["status"] for job in after] == ["done"] * 3
    stuck = submit(first, slow(FOREVER, seed=9))
    until(lambda: state(second, stuck) == ("running", 1))
    assert workers[0].stop() == 0
    until(lambda: state(second, stuck)[0] == "running")
    assert workers[1].stop() == 0
    assert state(second, stuck) == ("queued", 0)  # given back: the attempt does not count
    ready = first.get("/readyz")
    assert ready.status_code == 200, ready.text


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_the_jobs_of_a_worker_that_dies_go_to_another_one(cluster, how):
    """One that only slept finds that its job is given away, and changes nothing."""
    client, gate = cluster.server(), cluster.folder / "gate"
    first = cluster.worker()
    job = submit(client, held(gate))
    until(lambda: state(client, job) == ("running", 1))
    if how == "killed":
        first.kill()
    else:
        first.process.send_signal(19)  # SIGSTOP
    second = cluster.worker()
    # More than two attempts where a busy machine keeps the second worker, too, from giving signs of life
    until(lambda: state(client, job) >= ("running", 2))
    if how == "stopped":
        first.process.send_signal(18)  # SIGCONT
        until(lambda: "was taken for dead" in first.log.read_text())
    gate.touch()
    document = ended(client, job)
    assert document["status"] == "done"
    assert document["attempts"] >= 2
    assert client.get(document["links"]["result"]).status_code == 200
    assert second.process.poll() is None


def test_a_copy_that_the_disk_of_a_worker_damaged_is_fetched_again(cluster):
    client = cluster.server()
    cluster.worker()
    model = model_bytes()
    assert client.post("/v1/fold", content=model).status_code == 200
    (copy,) = (cluster.folder / "worker0" / "data" / REMOTE).rglob(hashlib.sha256(model).hexdigest())
    copy.chmod(0o600)
    copy.write_bytes(model[:-1] + bytes([model[-1] ^ 1]))
    again = client.post("/v1/fold", params={"clamp": "always"}, content=model)
    assert again.status_code == 200, again.text
    assert client.get(f"/v1/jobs/{again.headers['Bnfold-Job']}").json()["attempts"] == 1


UPSTREAM = re.compile(r" *upstream bnfold \{.*?\n    \}\n", re.DOTALL)


@pytest.mark.parametrize("root", ["", "/tools/fold"])
def test_a_load_balancer_sends_the_pieces_of_an_upload_to_one_server(cluster, root, monkeypatch):
    """nginx, as docs/cluster.md writes it. Another server says what is wrong, and what to do."""
    ledger, data, keys = open_shared(cluster.database), model_bytes(), []
    for name in "abcd":
        key, text = new_key(name)
        ledger.add_key(key)
        keys.append({"Authorization": f"Bearer {text}"})
    ledger.close()
    settings = {"require_keys": "true", "trusted_proxies": '["127.0.0.1"]', "root_path": root}
    servers = [cluster.server(allowed_hosts=f'["{proxies.NAME}"]', **settings) for _ in range(2)]
    (block,) = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs/cluster.md").read_text(), re.DOTALL)
    for number, server in enumerate(servers, 1):
        block = block.replace(f"api-{number}:8000", f"127.0.0.1:{server.base_url.port}")
    monkeypatch.setattr(proxies, "NGINX", UPSTREAM.sub(lambda _: block, proxies.NGINX))
    trusts = ssl.create_default_context()
    trusts.check_hostname, trusts.verify_mode = False, ssl.CERT_NONE
    with (
        proxies.proxy("nginx", cluster.folder, 1, root) as port,
        httpx.Client(verify=trusts, base_url=f"https://localhost:{port}", timeout=PATIENCE) as client,
    ):
        for mine in keys:
            place = begun(client, len(data), root, **mine).headers["Location"]
            for at in range(0, len(data), 100):
                assert sent(client, place, at, data[at : at + 100], **mine).status_code == 204
                assert arrived(client, place, **mine).headers["Upload-Offset"] == str(min(at + 100, len(data)))
            direct = [sent(server, place, len(data), b"", **mine) for server in servers]
            assert sorted(answer.status_code for answer in direct) == [404, 409]
            (problem,) = (answer.json() for answer in direct if answer.status_code == 404)
            assert "another server of the cluster began it" in problem["detail"]
            assert "the load balancer" in problem["detail"]


def test_what_an_operator_sees_and_does(cluster, capsys, monkeypatch):
    monkeypatch.setenv("BNFOLD_DATABASE_URL", cluster.database)
    client, worker = cluster.server(), cluster.worker(shutdown_seconds=60)
    gate = cluster.folder / "gate"
    running = submit(client, held(gate))
    until(lambda: state(client, running) == ("running", 1))
    waiting = [submit(client, held(gate, seed)) for seed in (1, 2, 3)]
    status = client.get("/status").json()
    (key,), (one,) = status["keys"], status["workers"]
    assert (key["waiting"] + key["running"], one["draining"]) == (4, False)
    page = client.get("/status", headers={"Accept": "text/html"})
    assert one["name"] in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert f"/{waiting[0]}  queued" in admin(cluster, capsys, "queue") or state(client, waiting[0])[0] == "running"
    assert f"/{running}" in admin(cluster, capsys, "workers")
    assert "1 parked" not in admin(cluster, capsys, "keys")
    admin(cluster, capsys, "park", f"/{waiting[2]}")
    assert "1 parked" in admin(cluster, capsys, "keys")
    assert main(["admin", "park", f"/{waiting[2]}", "--data", str(cluster.folder / "operator")]) == 2
    gate.touch()
    assert [ended(client, job)["status"] for job in waiting[:2]] == ["done"] * 2
    assert state(client, waiting[2])[0] == "queued"
    admin(cluster, capsys, "retry", f"/{waiting[2]}")
    assert ended(client, waiting[2])["status"] == "done"
    assert main(["admin", "drain", "99", "--data", str(cluster.folder / "operator")]) == 2
    admin(cluster, capsys, "drain", str(one["id"]))
    assert worker.process.wait(600) == 0
    assert admin(cluster, capsys, "workers") == ""
    cancelled = submit(client, held(cluster.folder / "never", 5))
    client.delete(f"/v1/jobs/{cancelled}")
    admin(cluster, capsys, "retry", f"/{cancelled}")
    assert state(client, cancelled)[0] == "queued"


def test_the_commands_that_read_files_say_where_to_look(tmp_path, database_url, capsys, monkeypatch):
    monkeypatch.setenv("BNFOLD_DATABASE_URL", database_url)
    data = ["--data", str(tmp_path)]
    assert main(["scrub", *data]) == main(["backup", str(tmp_path / "copy"), *data]) == 2
    assert "see docs/cluster.md" in capsys.readouterr().err
    assert main(["keys", "add", "ci", *data]) == main(["keys", "list", *data]) == 0
    assert "'ci'" in capsys.readouterr().out
    assert main(["worker", *data]) == 2
    assert "set BNFOLD_ENGINE=cluster" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"engine": "cluster"}, "set BNFOLD_DATABASE_URL and BNFOLD_BLOBS_URL"),
        ({"database_url": "mysql://u:secret@h/d"}, "must be a URL that begins with postgresql://"),
        ({"database_url": "postgresql://u:secret@127.0.0.1:1/d"}, "cannot be used as the ledger"),
        ({"blobs_url": "ftp://x"}, "must be a URL that begins with s3://"),
        ({"stall_seconds": "1"}, "at least twice BNFOLD_HEARTBEAT_SECONDS"),
    ],
)
def test_a_cluster_that_cannot_be_says_why(tmp_path, capsys, monkeypatch, settings, says):
    for name, value in settings.items():
        monkeypatch.setenv(f"BNFOLD_{name.upper()}", value)
    assert main(["serve", "--port", "0", "--data", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "secret" not in said
