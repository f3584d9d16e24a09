"""Webhooks, from the request that asks for one to the receiver: signed, at least once, and nobody else's business."""

from __future__ import annotations

import json
import logging
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.auth.keys import new_key
from service.command.main import main
from service.ledger.sql import FILE
from service.webhook.outbox import OF_RECEIVER, Webhooks
from service.webhook.receivers import Receivers
from tests.support.service.receiver import Receiver
from tests.support.service.server import Running, ended, model_bytes, serving, slow, submit
from tests.support.waiting import FOREVER, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ATTEMPTS = 10  # the first, and nine more


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without delay."""
    monkeypatch.setattr("service.webhook.outbox.DELAYS", (0.0,) * (ATTEMPTS - 1))


def anywhere() -> Receivers:
    return Receivers(is_allowed=bool)


def secret(data: Path, capsys: pytest.CaptureFixture[str], *key: str) -> str:
    assert main(["keys", "webhook", *key, "--data", str(data)]) == 0
    return capsys.readouterr().out.strip()


def rows(data: Path, what: str = "state, attempts, url, body") -> list[Any]:
    with sqlite3.connect(data / FILE) as connection:
        found = connection.execute(f"SELECT {what} FROM webhooks ORDER BY updated").fetchall()  # noqa: S608  our own
    connection.close()
    return found


def test_the_end_of_a_job_is_reported_and_signed(tmp_path, receiver, capsys):
    with Running(tmp_path / "data", receivers=anywhere()) as running:
        job = submit(running.client, model_bytes(), webhook=f"{receiver.url}/hook?token=1")
        (received,) = receiver.wait()
        event = received.event(secret(tmp_path / "data", capsys))
        assert received.path == "/hook?token=1"
        assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
        assert received.headers["content-type"] == "application/json"
        assert event == {"type": "job.done", "timestamp": event["data"]["updated"], "data": ended(running.client, job)}
        until(lambda: rows(tmp_path / "data")[0][0] == "delivered")
        assert rows(tmp_path / "data", "body") == [(None,)]
        assert 'bnfold_webhook_attempts_total{outcome="delivered"} 1.0' in running.client.get("/metrics").text
        with pytest.raises(WebhookVerificationError):
            received.event("whsec_" + "A" * 43 + "=")


def test_every_kind_of_end_is_reported(tmp_path, receiver):
    with Running(tmp_path / "data", receivers=anywhere()) as running:
        submit(running.client, b"x", webhook=receiver.url)
        receiver.wait()
        job = submit(running.client, slow(FOREVER), webhook=receiver.url)
        running.client.delete(f"/v1/jobs/{job}")
        failed, cancelled = (json.loads(received.body) for received in receiver.wait(2))
    assert (failed["type"], failed["data"]["problem"]["status"]) == ("job.failed", 422)
    assert (cancelled["type"], cancelled["data"]["status"]) == ("job.cancelled", "cancelled")


def test_a_job_that_has_ended_is_reported_at_once(tmp_path, receiver):
    with Running(tmp_path / "data", receivers=anywhere()) as running:
        for count in (1, 2):  # the second finds it done
            answer = running.client.put("/v1/fold", content=model_bytes(), params={"webhook": receiver.url})
            assert answer.status_code == 200
            received = receiver.wait(count)
        jobs = {json.loads(one.body)["data"]["id"] for one in received}
        assert jobs == {answer.headers["Bnfold-Job"]}  # it is no part of the address
        assert len({one.id for one in received}) == 2


def test_a_request_that_is_repeated_reports_nothing_twice(tmp_path, receiver):
    with Running(tmp_path / "data", receivers=anywhere()) as running:
        asked = {"params": {"webhook": receiver.url}, "headers": {"Idempotency-Key": "one"}}
        for _ in range(2):
            assert running.client.post("/v1/fold", content=model_bytes(), **asked).status_code == 200
            receiver.wait()
        assert len(rows(tmp_path / "data")) == 1
        asked["params"] = {"webhook": f"{receiver.url}/other"}
        assert running.client.post("/v1/fold", content=model_bytes(), **asked).status_code == 422


def test_what_is_not_taken_is_sent_again_as_the_same(tmp_path, receiver, quick, capsys):
    receiver.answers[:] = [500, 302, 404]
    with Receiver() as elsewhere, Running(tmp_path / "data", receivers=anywhere()) as running:
        receiver.headers["Location"] = elsewhere.url
        submit(running.client, model_bytes(), webhook=receiver.url)
        received = receiver.wait(4)
        until(lambda: rows(tmp_path / "data")[0][0] == "delivered")
        assert elsewhere.received == []
    key = secret(tmp_path / "data", capsys)
    assert len({(one.id, one.body, str(one.event(key))) for one in received}) == 1
    assert len(receiver.received) == 4


@pytest.mark.parametrize(("answers", "attempts", "outcome"), [([410], 1, "gone"), ([500] * 20, ATTEMPTS, "exhausted")])
def test_there_is_an_end_to_it(tmp_path, receiver, quick, answers, attempts, outcome):
    receiver.answers[:] = answers
    with Running(tmp_path / "data", receivers=anywhere()) as running:
        submit(running.client, model_bytes(), webhook=receiver.url)
        until(lambda: [row[0] for row in rows(tmp_path / "data")] == ["given-up"])
        assert f'bnfold_webhook_attempts_total{{outcome="{outcome}"}} 1.0' in running.client.get("/metrics").text
    assert len(receiver.received) == attempts


def test_what_a_server_did_not_deliver_the_next_one_does(tmp_path, receiver, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Webhooks, "start", lambda _: None)
        with Running(tmp_path / "data", receivers=anywhere()) as running:
            job = submit(running.client, model_bytes(), webhook=receiver.url)
            ended(running.client, job)
    assert receiver.received == []
    with Running(tmp_path / "data", receivers=anywhere()):
        assert json.loads(receiver.wait()[0].body)["data"]["id"] == job


def test_a_server_that_is_killed_while_it_delivers_delivers_again(tmp_path, receiver, capsys):
    receiver.released.clear()
    with serving(tmp_path / "data") as (process, client):
        submit(client, model_bytes(), webhook=receiver.url)
        receiver.wait()
        process.kill()
        receiver.released.set()
        process.start()
        first, second = receiver.wait(2)
        until(lambda: rows(tmp_path / "data")[0][0] == "delivered")
        assert (first.id, first.body) == (second.id, second.body)
        assert second.event(secret(tmp_path / "data", capsys))["type"] == "job.done"
        assert process.stop() == 0


def test_a_slow_receiver_keeps_nobody_waiting(tmp_path, receiver):
    receiver.released.clear()
    with Receiver() as other, Running(tmp_path / "data", receivers=anywhere()) as running:
        for seed in range(OF_RECEIVER + 1):
            assert running.client.post(
                "/v1/fold", content=model_bytes(seed), params={"webhook": receiver.url}
            ).is_success
        receiver.wait(OF_RECEIVER)
        answer = running.client.post("/v1/fold", content=model_bytes(9), params={"webhook": other.url})
        assert answer.status_code == 200
        assert other.wait()
        assert len(receiver.received) == OF_RECEIVER  # the third has to wait for one of them
        receiver.released.set()
        receiver.wait(OF_RECEIVER + 1)


def test_the_server_ends_while_a_receiver_is_slow(tmp_path, receiver):
    receiver.released.clear()
    with Running(tmp_path / "data", receivers=anywhere()) as running:
        submit(running.client, model_bytes(), webhook=receiver.url)
        receiver.wait()
    assert [row[:2] for row in rows(tmp_path / "data")] == [("due", 0)]


def test_keys_have_their_own_webhooks_and_secrets(tmp_path, receiver, capsys):
    data = tmp_path / "data"
    with Receiver() as other, Running(data, receivers=anywhere(), require_keys=True) as running:
        receivers, names = {}, {"a": receiver, "b": other}
        for name, there in names.items():
            key, text = new_key(name)
            running.app.state.service.ledger.add_key(key)
            headers = {"Authorization": f"Bearer {text}"}
            running.client.post("/v1/fold", content=model_bytes(), params={"webhook": there.url}, headers=headers)
            receivers[key.id] = there
        for there in names.values():
            assert len(there.wait()) == 1
    secrets = {key: secret(data, capsys, key) for key in receivers}
    assert sorted(rows(data, "key, url")) == sorted((key, there.url) for key, there in receivers.items())
    for key, there in receivers.items():
        for other_key, known in secrets.items():
            if key == other_key:
                assert there.received[0].event(known)["type"] == "job.done"
            else:
                with pytest.raises(WebhookVerificationError):
                    there.received[0].event(known)


def test_the_network_of_the_server_is_no_receiver(tmp_path, receiver):
    """The check that is used when no test takes its place."""

    async def look_up(*_: object) -> list[str]:
        return ["127.0.0.1"]

    with Running(tmp_path / "data", receivers=Receivers(look_up=look_up)) as running:
        answer = running.client.post("/v1/fold", content=model_bytes(), params={"webhook": receiver.url})
        assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (422, "invalid-option")
        submit(running.client, model_bytes(), webhook=f"http://hooks.example.com:{receiver.port}/")
        until(lambda: [row[:2] for row in rows(tmp_path / "data")] == [("due", 1)])
    assert receiver.received == []


def test_a_server_without_anything_injected_refuses_loopback(tmp_path, receiver):
    with Running(tmp_path / "data") as running:
        for url in (receiver.url, "http://localhost/", "http://[::ffff:127.0.0.1]/"):
            answer = running.client.post("/v1/fold", content=model_bytes(), params={"webhook": url})
            assert "public internet" in answer.json()["detail"]
        assert running.client.post("/v1/inspect", content=model_bytes(), params={"webhook": "x"}).status_code == 422
    assert rows(tmp_path / "data") == []


def test_the_log_names_the_receiver_and_no_more(tmp_path, receiver, caplog):
    caplog.set_level(logging.INFO, "bnfold")
    receiver.answers[:] = [500]
    with Running(tmp_path / "data", receivers=anywhere()) as running:
        submit(running.client, model_bytes(), webhook=f"{receiver.url}/private?token=hidden")
        until(lambda: rows(tmp_path / "data")[0][1] == 1)
    (line,) = [record for record in caplog.records if record.getMessage() == "webhook"]
    assert (line.outcome, line.status, line.count) == ("failed", 500, 1)  # type: ignore[attr-defined]
    assert line.receiver == f"127.0.0.1:{receiver.port}"  # type: ignore[attr-defined]
    assert not any(word in str(vars(line)) for word in ("private", "hidden", "whsec_"))


def test_what_was_delivered_is_forgotten_in_time(tmp_path, receiver):
    with Running(tmp_path / "data", receivers=anywhere(), ttl_seconds=0.5, sweep_seconds=0.1) as running:
        submit(running.client, model_bytes(), webhook=receiver.url)
        receiver.wait()
        until(lambda: rows(tmp_path / "data") == [])


def test_the_secret_is_made_once_and_can_be_rotated(tmp_path, capsys):
    data = tmp_path / "data"
    first = secret(data, capsys)
    assert secret(data, capsys) == first
    assert (data / "secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in data.glob("secret*")] == ["secret"]
    assert len(Webhook(first)._whsecret) == 32
    (data / "secret").unlink()
    assert secret(data, capsys) != first
    (data / "secret").write_bytes(b"short")
    assert main(["keys", "webhook", "--data", str(data)]) == 2
    assert "remove it to have it made again" in capsys.readouterr().err
    assert main(["keys", "webhook", "nobody", "--data", str(data)]) == 2
    assert "no active key 'nobody'" in capsys.readouterr().err


def test_the_openapi_document_describes_it(tmp_path):
    with Running(tmp_path / "data") as running:
        document = running.client.get("/openapi.json").json()
    (parameter,) = [one for one in document["paths"]["/v1/fold"]["post"]["parameters"] if one["name"] == "webhook"]
    assert "signed event" in parameter["description"]
    assert "webhook" not in {one["name"] for one in document["paths"]["/v1/inspect"]["post"]["parameters"]}
    assert document["webhooks"]["job-ended"]["post"]["operationId"] == "job_ended"
