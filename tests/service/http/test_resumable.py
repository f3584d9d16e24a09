"""Uploads in pieces: they go on where they ended, also after a kill of the server; nobody else sees them."""

from __future__ import annotations

import http.client
from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
import pytest

from folding import Options
from folding.client import Client, pieces
from service import partials
from service.ledger.records import Quota
from tests.service.http.test_fold import digest, library
from tests.service.http.test_http import make_key
from tests.support.service.server import Process, Running, model_bytes
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BREAKS = 3
TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("server") / "data", max_upload_bytes=10_000_000) as running:
        yield running


def begun(client: httpx.Client, length: int, root: str = "", **headers: str) -> httpx.Response:
    return client.post(f"{root}/v1/uploads", headers=TUS | {"Upload-Length": str(length)} | headers)


def sent(client: httpx.Client, place: str, offset: int, data: bytes, **headers: str) -> httpx.Response:
    kind = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
    return client.patch(place, content=data, headers=TUS | kind | headers)


def arrived(client: httpx.Client, place: str, **headers: str) -> httpx.Response:
    return client.head(place, headers=TUS | headers)


def test_it_arrives_in_pieces_and_is_folded(server, tmp_path):
    data = model_bytes()
    made = begun(server.client, len(data), **{"Repr-Digest": digest(data)})
    assert (made.status_code, made.headers["Upload-Offset"]) == (201, "0")
    assert made.headers["Upload-Expires"].endswith("GMT")
    place = made.headers["Location"]
    assert sent(server.client, place, 0, data[:100]).headers["Upload-Offset"] == "100"
    answer = arrived(server.client, place)
    assert (answer.headers["Upload-Offset"], answer.headers["Upload-Length"]) == ("100", str(len(data)))
    assert answer.headers["Cache-Control"] == "no-store"
    for wrong in (0, 99, 101):
        refused = sent(server.client, place, wrong, data[100:])
        assert (refused.status_code, refused.headers["Upload-Offset"]) == (409, "100")
        assert refused.json()["type"] == "/problems/offset-mismatch"
    last = sent(server.client, place, 100, data[100:])
    assert (last.status_code, last.headers["Repr-Digest"]) == (204, digest(data))
    blob = last.headers["Content-Location"]
    assert arrived(server.client, place).headers["Content-Location"] == blob  # for who lost the response
    assert server.client.get(blob).content == data
    folded = server.client.post(f"{blob}/fold")
    assert (folded.status_code, folded.content) == (200, library(tmp_path, data))
    again = server.client.post(f"{blob}/fold", params={"name": "other.onnx"}, headers={"Prefer": "respond-async"})
    assert (again.status_code, again.json()["name"]) == (202, "other.onnx")
    assert server.client.delete(place, headers=TUS).status_code == 204
    assert arrived(server.client, place).status_code == 404
    assert server.client.get(blob).status_code == 200


def test_what_is_refused(server):
    client, data = server.client, model_bytes()
    assert client.options("/v1/uploads").headers["Tus-Extension"] == "creation,expiration,termination"
    for headers, status in (
        ({"Upload-Length": "1"}, 412),
        (TUS | {"Upload-Length": "-1"}, 400),
        (TUS, 400),
        (TUS | {"Upload-Length": "10000001"}, 413),
        (TUS | {"Upload-Length": "1", "Repr-Digest": "md5=:ndTkYSaMgDT1yFZOFVxnpg==:"}, 400),
    ):
        assert client.post("/v1/uploads", headers=headers).status_code == status
    place = begun(client, len(data), **{"Repr-Digest": digest(data)}).headers["Location"]
    assert client.patch(place, content=data, headers=TUS | {"Upload-Offset": "0"}).status_code == 415
    assert sent(client, place, 0, data + b"x").status_code == 413
    assert arrived(client, place).headers["Upload-Offset"] == "0"
    wrong = sent(client, place, 0, data[:-1] + b"x")
    assert (wrong.status_code, wrong.json()["type"]) == (400, "/problems/digest-mismatch")
    assert arrived(client, place).status_code == 404
    assert client.post(f"/v1/blobs/{'0' * 64}/fold").status_code == 404


def test_it_belongs_to_its_key_and_its_bytes_are_reserved(tmp_path):
    with Running(tmp_path / "data", require_keys=True) as running:
        mine, other = make_key(running, quota=Quota(bytes=1000)), make_key(running)
        place = begun(running.client, 600, **mine).headers["Location"]
        assert arrived(running.client, place, **mine).status_code == 200
        assert arrived(running.client, place, **other).status_code == 404
        assert sent(running.client, place, 0, b"x", **other).status_code == 404
        assert running.client.delete(place, headers=TUS | other).status_code == 404
        assert running.app.state.service.reservations.coming == 600
        assert begun(running.client, 600, **mine).status_code == 429  # with the first one
        assert begun(running.client, 1001, **mine).status_code == 413
        assert running.client.delete(place, headers=TUS | mine).status_code == 204
        assert begun(running.client, 600, **mine).status_code == 201
        key = running.app.state.service.ledger.all_keys()[0].id
        running.app.state.service.ledger.revoke_key(key)
        uploads = running.settings.data / "uploads"
        until(lambda: not list(uploads.iterdir()))
        assert running.app.state.service.reservations.coming == 0


def test_a_key_has_a_share_of_all_uploads(tmp_path, monkeypatch):
    monkeypatch.setattr(partials, "MOST", 3)
    with Running(tmp_path / "data", require_keys=True) as running:
        loud, quiet = make_key(running), make_key(running)
        assert [begun(running.client, 9, **loud).status_code for _ in range(3)] == [201, 201, 429]
        assert begun(running.client, 9, **quiet).status_code == 201


def test_what_nobody_goes_on_with_is_removed(tmp_path, monkeypatch):
    """By the clock of the process; the one of the system may jump."""
    clock = SimpleNamespace(monotonic=lambda: 0.0, time=lambda: 1e10)
    monkeypatch.setattr(partials, "time", clock)
    with Running(tmp_path / "data", resume_seconds=1000, sweep_seconds=0.05) as running:
        place = begun(running.client, 9).headers["Location"]
        clock.monotonic = lambda: 999.0
        assert sent(running.client, place, 0, b"x").status_code == 204
        clock.monotonic = lambda: 1998.0
        assert arrived(running.client, place).status_code == 200
        clock.monotonic = lambda: 1999.0
        until(lambda: arrived(running.client, place).status_code == 404)
        until(lambda: not list((tmp_path / "data" / "uploads").iterdir()))


def test_a_newer_request_takes_over_from_one_whose_connection_is_dead(server):
    data = model_bytes(1)
    place = begun(server.client, len(data)).headers["Location"]
    url = server.client.base_url
    dead = http.client.HTTPConnection(url.host, url.port)
    dead.putrequest("PATCH", place)
    for name, value in (TUS | {"Content-Type": pieces.PIECE, "Upload-Offset": "0"}).items():
        dead.putheader(name, value)
    dead.putheader("Content-Length", str(len(data)))
    dead.endheaders(data[:50])
    until(lambda: arrived(server.client, place).headers["Upload-Offset"] == "50")
    assert sent(server.client, place, 50, data[50:]).status_code == 204
    dead.close()


def test_a_killed_server_goes_on_with_it(tmp_path):
    process, data = Process(tmp_path / "data"), model_bytes()
    client = process.start()
    place = begun(client, len(data), **{"Repr-Digest": digest(data)}).headers["Location"]
    assert sent(client, place, 0, data[:100]).status_code == 204
    process.kill()
    client = process.start()
    assert arrived(client, place).headers["Upload-Offset"] == "100"
    last = sent(client, place, 100, data[100:])
    process.kill()
    client = process.start()
    blob = arrived(client, place).headers["Content-Location"]
    assert blob == last.headers["Content-Location"]
    assert client.post(f"{blob}/fold").status_code == 200
    assert process.stop() == 0


def test_a_kill_while_it_becomes_a_blob_loses_nothing(tmp_path, monkeypatch):
    data = model_bytes()

    async def killed(*_: object) -> None:
        raise OSError("killed")

    with Running(tmp_path / "data") as running:
        place = begun(running.client, len(data)).headers["Location"]
        with monkeypatch.context() as patch:
            patch.setattr(partials.Partials, "_store", killed)
            assert sent(running.client, place, 0, data).status_code == 500
    with Running(tmp_path / "data") as running:
        blob = arrived(running.client, place).headers["Content-Location"]
        assert running.client.post(f"{blob}/fold").status_code == 200


# --- the client -----------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pieces, "LARGE", 0)
    monkeypatch.setattr("folding.client.files.BLOCK", 256)
    monkeypatch.setattr("folding.client.requests.Retries.pause", lambda *_: 0.0)
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes(2))
    return path


def test_the_client_goes_on_where_the_connection_broke(server, model, tmp_path, monkeypatch):
    offsets, real = [], pieces._send

    def broken(requests, place, upload, offset, progress):
        offsets.append(offset)

        def breaking() -> Iterator[bytes]:
            for number, block in enumerate(pieces._rest(upload, offset, progress)):
                if number == 2:
                    raise httpx.WriteError("the connection broke")
                yield block

        headers = TUS | {"Content-Type": pieces.PIECE, "Upload-Offset": str(offset)}
        with requests.once("PATCH", place, headers=headers, content=breaking()):
            pass

    def breaks_at_first(*given):
        (broken if len(offsets) < BREAKS else real)(*given)

    monkeypatch.setattr(pieces, "_send", breaks_at_first)
    with Client(server.url) as client:
        report = client.fold(model, tmp_path / "folded.onnx", Options(verify=False))
    assert report["bn_after"] == 0
    assert offsets == sorted(offsets)
    assert len(offsets) == BREAKS


def test_the_client_begins_again_where_the_upload_was_removed(server, model, tmp_path, monkeypatch):
    real, places = pieces._offset, []

    def removed(requests, place):
        places.append(place)
        if len(places) == 1:
            with requests.once("DELETE", place, headers=TUS):
                pass
        return real(requests, place)

    monkeypatch.setattr(pieces, "_offset", removed)
    with Client(server.url) as client:
        client.fold(model, tmp_path / "folded.onnx", Options(verify=False))
    assert len(set(places)) == 2


def test_the_client_sends_it_whole_where_no_upload_is_known_again(server, model, tmp_path, monkeypatch):
    """As with servers among which a load balancer chooses anew each time."""
    real, places = pieces._offset, []

    def unknown(requests, place):
        places.append(place)
        return real(requests, f"{pieces.PLACES}/{'0' * 32}")

    monkeypatch.setattr(pieces, "_offset", unknown)
    with Client(server.url) as client:
        client.fold(model, tmp_path / "folded.onnx", Options(verify=False))
    assert len(set(places)) == pieces.LOST
    assert (tmp_path / "folded.onnx").is_file()


def test_the_client_sends_it_whole_to_a_service_that_takes_no_pieces(server, model, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PLACES", "/v1/nowhere")
    with Client(server.url) as client:
        client.fold(model, tmp_path / "folded.onnx", Options(verify=False))
    assert (tmp_path / "folded.onnx").is_file()
