"""Damage: the disk loses, cuts or changes blobs. Results are folded again, and uploads are asked for again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import httpx
import pytest

from service.engine import interface
from tests.service.engine.test_local import blobs, slug
from tests.support.service.server import Running, ended, held, model_bytes, slow, submit
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def lose(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-7])


def change(path: Path) -> None:
    """One bit of the weights: the model is still a model."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


SPOILT = pytest.mark.parametrize("spoil", [lose, cut, change])


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@SPOILT
@pytest.mark.parametrize("ask", ["send it again", "result", "report"])
def test_a_result_is_folded_again(tmp_path, spoil: Callable[[Path], None], ask):
    model = model_bytes()
    with Running(tmp_path / "data") as running:
        first = running.client.post("/v1/fold", content=model)
        job = f"/v1/jobs/{first.headers['Bnfold-Job']}"
        report = running.client.get(f"{job}/report").content
        spoil(blobs(tmp_path / "data")[digest(report if ask == "report" else first.content)])
        if ask == "send it again":
            again = running.client.post("/v1/fold", content=model)
        else:
            again = running.client.get(f"{job}/{ask}")
        assert again.status_code == 200
        if ask == "report":
            assert again.json()["bn_before"] == 1
        else:
            assert again.content == first.content
        assert running.client.get(job).json()["attempts"] == 2


@SPOILT
def test_a_result_whose_model_is_lost_too_is_asked_for_again(tmp_path, spoil):
    model = model_bytes()
    with Running(tmp_path / "data") as running:
        first = running.client.post("/v1/fold", content=model)
        kept = blobs(tmp_path / "data")
        spoil(kept[digest(first.content)])
        spoil(kept[digest(model)])
        answer = running.client.get(f"/v1/jobs/{first.headers['Bnfold-Job']}/result")
        problem = answer.json()
        assert (answer.status_code, slug({"problem": problem})) == (500, "internal")
        assert "send it again" in problem["detail"]
        assert running.client.post("/v1/fold", content=model).content == first.content


@SPOILT
def test_an_upload_that_waits_is_asked_for_again(tmp_path, spoil):
    """Never `invalid-model` of a good model, and never the fold of another one."""
    model, gate = model_bytes(seed=9), tmp_path / "gate"
    with Running(tmp_path / "data", workers=1) as running:
        running.app.state.service.engine._turns._extra = False
        submit(running.client, held(gate))
        job = submit(running.client, model)
        spoil(blobs(tmp_path / "data")[digest(model)])
        gate.touch()
        document = ended(running.client, job)
        assert (slug(document), document["problem"]["status"]) == ("internal", 500)
        assert "send it again" in document["problem"]["detail"]
        assert digest(model) not in blobs(tmp_path / "data")
        answer = running.client.post("/v1/fold", content=model)
        assert (answer.status_code, answer.headers["Bnfold-Job"]) == (200, job)


def test_a_damaged_upload_that_crashes_its_process_is_no_crash_of_the_model(tmp_path):
    with Running(tmp_path / "data", workers=1) as running:
        running.app.state.service.engine._turns._extra = False
        submit(running.client, held(tmp_path / "gate"))
        model = model_bytes(seed=9)
        job = submit(running.client, model)
        place = blobs(tmp_path / "data")[digest(model)]
        place.chmod(0o600)
        place.write_bytes(b"ABORT".ljust(len(model)))
        (tmp_path / "gate").touch()
        document = ended(running.client, job)
        assert (slug(document), document["attempts"]) == ("internal", 1)


def test_a_large_result_breaks_off_before_its_end_once(tmp_path, monkeypatch):
    monkeypatch.setattr(interface, "CHECKED_BYTES", 0)
    with Running(tmp_path / "data") as running:
        first = running.client.post("/v1/fold", content=model_bytes())
        result = f"/v1/jobs/{first.headers['Bnfold-Job']}/result"
        change(blobs(tmp_path / "data")[digest(first.content)])
        with pytest.raises(httpx.RemoteProtocolError):
            running.client.get(result)
        ended(running.client, first.headers["Bnfold-Job"])  # folded again
        assert running.client.get(result).content == first.content


@pytest.mark.parametrize("spoil", [lose, cut])
def test_damage_is_found_when_a_server_starts(tmp_path, spoil):
    with Running(tmp_path / "data") as running:
        first = running.client.post("/v1/fold", content=model_bytes())
    spoil(blobs(tmp_path / "data")[digest(first.content)])
    with Running(tmp_path / "data") as running:
        job = first.headers["Bnfold-Job"]
        until(lambda: running.client.get(f"/v1/jobs/{job}").json()["status"] == "done")
        assert digest(first.content) in blobs(tmp_path / "data")


@pytest.mark.parametrize("spoil", [lose, cut])
def test_a_blob_that_is_not_whole_is_not_sent(tmp_path, spoil):
    with Running(tmp_path / "data") as running:
        first = running.client.post("/v1/fold", content=model_bytes())
        spoil(blobs(tmp_path / "data")[digest(first.content)])
        address = f"/v1/blobs/{digest(first.content)}"
        answer = running.client.get(address)
        assert (answer.status_code, slug({"problem": answer.json()})) == (404, "not-found")
        until(lambda: running.client.get(address).content == first.content)  # it is folded again


@pytest.mark.parametrize("folder", ["sha256", "partial"])
def test_a_store_that_is_gone_is_503_and_comes_back(tmp_path, folder):
    """As a disk that is not mounted for a while."""
    with Running(tmp_path / "data") as running:
        kept = tmp_path / "data" / "blobs" / folder
        kept.rename(kept.with_name("away"))
        answer = running.client.post("/v1/fold", content=model_bytes())
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        kept.with_name("away").rename(kept)
        assert running.client.post("/v1/fold", content=model_bytes()).status_code == 200


def test_a_job_whose_store_is_gone_is_folded_when_it_is_back(tmp_path):
    """Neither is its upload taken for lost, nor its attempt counted: the job did nothing wrong."""
    with Running(tmp_path / "data", sweep_seconds=0.2) as running:
        kept = tmp_path / "data" / "blobs" / "sha256"
        job = submit(running.client, slow(1.0))
        until(lambda: running.client.get(f"/v1/jobs/{job}").json()["status"] == "running")
        kept.rename(kept.with_name("away"))
        until(lambda: running.client.get(f"/v1/jobs/{job}").json()["status"] == "queued")
        kept.with_name("away").rename(kept)
        until(lambda: running.client.get(f"/v1/jobs/{job}").json()["status"] == "done")
