"""The engine and the storage when things go wrong under them: disks that fill or forget, databases that fail once."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import OperationalError

from folding import Options
from service.options import canonical
from service.problems import Problem
from service.process import worker
from service.work import ARCHIVE, IN, MODEL_TYPE, OUT, UNPACKED, Answer, Bounds, Request
from tests.support.service.server import Running, ended, held, model_bytes, slow, submit
from tests.support.waiting import FOREVER, until

if TYPE_CHECKING:
    from collections.abc import Callable


GIB = 1 << 30


def blobs(data: Path) -> dict[str, Path]:
    return {path.parent.name + path.name: path for path in (data / "blobs" / "sha256").glob("*/*")}


def slug(document: dict[str, Any]) -> str:
    return str(document["problem"]["type"].rsplit("/", 1)[1])


def test_a_fold_that_fills_the_disk_is_ended(tmp_path, monkeypatch):
    """When what it has written is removed, there is space: so it may be its own fault, after three times it is."""

    async def full(*_: object) -> None:
        raise Problem("insufficient-storage", "the disk is full")

    with Running(tmp_path / "data") as running:
        job = submit(running.client, slow(FOREVER))
        until(lambda: running.client.get(f"/v1/jobs/{job}").json()["status"] == "running")
        with monkeypatch.context() as patch:
            patch.setattr(running.app.state.service.storage, "make_room", full)
            document = ended(running.client, job)
        assert (slug(document), document["attempts"]) == ("insufficient-storage", 3)
        assert submit(running.client, slow(FOREVER)) == job  # worth another try
        running.client.delete(f"/v1/jobs/{job}")


@pytest.mark.parametrize("meets", ["before", "while"])
def test_a_disk_that_something_else_fills_fails_no_job(tmp_path, monkeypatch, meets):
    """The job goes back, and is tried again when there is space."""
    with Running(tmp_path / "data", sweep_seconds=0.1) as running:
        blobs, gate = running.app.state.service.storage.blobs, tmp_path / "gate"
        place, calls = blobs.place, []

        async def full(*args: Any, **kwargs: Any) -> None:
            calls.append(args)
            blobs._spool.low_water = 1 << 60
            if meets == "before":
                raise OSError(28, "No space left on device")
            await place(*args, **kwargs)

        monkeypatch.setattr(blobs, "place", full)
        job = submit(running.client, held(gate))
        until(lambda: len(calls) > 2)
        monkeypatch.setattr(blobs, "place", place)
        blobs._spool.low_water = 0
        gate.touch()
        document = ended(running.client, job)
        assert document["status"] == "done", document


def test_a_file_that_is_not_the_folds_own_is_never_served(tmp_path):
    with Running(tmp_path / "data") as running:
        answer = running.client.post("/v1/fold", content=b"LINK")
        assert (answer.status_code, slug({"problem": answer.json()})) == (500, "internal")
        assert hashlib.sha256(Path("/etc/passwd").read_bytes()).hexdigest() not in blobs(tmp_path / "data")


def test_disk_and_ledger_agree_after_a_repair(tmp_path):
    data = tmp_path / "data"
    with Running(data) as running:
        job = submit(running.client, model_bytes())
        result = ended(running.client, job)["result"]["sha256"]
        stuck = submit(running.client, slow(FOREVER))
    orphan = data / "blobs" / "sha256" / "ab" / ("c" * 62)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"nobody's")
    blobs(data)[result].unlink()
    blobs(data)[hashlib.sha256(slow(FOREVER)).hexdigest()].unlink()
    with Running(data) as running:
        assert not orphan.exists()
        assert ended(running.client, job)["result"]["sha256"] == result  # folded again
        assert slug(running.client.get(f"/v1/jobs/{stuck}").json()) == "internal"
        assert running.client.post("/v1/fold", content=model_bytes()).status_code == 200


def test_a_job_that_was_not_delivered_is_delivered_later(tmp_path, monkeypatch):
    with Running(tmp_path / "data", sweep_seconds=0.2) as running:
        engine = running.app.state.service.engine
        deliver, calls = engine.submit, []
        monkeypatch.setattr(
            engine, "submit", lambda job, *_, **__: calls.append(job) or (len(calls) > 1 and deliver(job))
        )
        assert ended(running.client, submit(running.client, model_bytes()))["status"] == "done"
        assert len(calls) > 1


def test_a_job_whose_end_could_not_be_written_is_done_again(tmp_path, monkeypatch):
    with Running(tmp_path / "data", sweep_seconds=0.2) as running:
        ledger, calls = running.app.state.service.ledger, []
        finish: Callable[..., bool] = ledger.finish

        def failing(*args: Any) -> bool:
            calls.append(args)
            if len(calls) == 1:
                raise OperationalError("UPDATE", {}, Exception("disk I/O error"))
            return finish(*args)

        monkeypatch.setattr(ledger, "finish", failing)
        document = ended(running.client, submit(running.client, model_bytes()))
        assert (document["status"], document["attempts"]) == ("done", 2)


def test_a_sweep_that_fails_is_tried_again(tmp_path, monkeypatch):
    with Running(tmp_path / "data", sweep_seconds=0.1) as running:
        calls: list[object] = []

        def failing(*_: object) -> None:
            calls.append(_)
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(running.app.state.service.ledger, "sweep", failing)
        until(lambda: len(calls) > 2)
        assert running.client.get("/readyz").status_code == 200


def request(folder: Path, data: bytes, name: str = "model.onnx", **changes: Any) -> Request:
    for part in (IN, OUT, UNPACKED):
        (folder / part).mkdir(parents=True)
    (folder / IN / name).write_bytes(data)
    options = json.loads(canonical(Options(verify=False)))
    asked = Request(
        "fold", "model.onnx", archive=False, options=options, limits={}, bounds=Bounds(9, 9, GIB, GIB, 99, 99)
    )
    return replace(asked, **changes)


@pytest.mark.parametrize(
    ("data", "changes", "expected"),
    [
        (model_bytes(), {}, Answer("result", MODEL_TYPE, report=True)),
        (model_bytes(), {"kind": "inspect"}, Answer(report=True)),
        (b"x", {}, "invalid-model"),
        (model_bytes(), {"options": {"only": ["no"]}}, "invalid-option"),
        (model_bytes(), {"limits": {"initializers": 1}}, "too-large"),
        (model_bytes(), {"options": {"keep": ["bn"], "require_change": True}}, "nothing-to-fold"),
        (b"PK", {"archive": True}, "unsafe-archive"),
    ],
)
def test_what_the_process_of_a_fold_answers(tmp_path, monkeypatch, data, changes, expected):
    monkeypatch.chdir(tmp_path)  # it changes the folder
    name = ARCHIVE if changes.get("archive") else "model.onnx"
    answer = worker.answered(request(tmp_path / "job", data, name, **changes), tmp_path / "job", lambda *_: None)
    assert (answer if isinstance(expected, Answer) else answer.slug) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "full"), "insufficient-storage"),
        (OSError(27, "large"), "too-large"),
        (MemoryError(), "out-of-memory"),
    ],
)
def test_what_the_system_refuses_is_an_answer_too(tmp_path, monkeypatch, error, expected):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(worker, "_done", fail)
    assert worker.answered(request(tmp_path / "job", b""), tmp_path, lambda *_: None).slug == expected


def test_progress_goes_to_the_parent_and_other_output_does_not(capfd, monkeypatch):
    monkeypatch.setattr(worker.time, "monotonic", lambda: 0.0)
    kept = os.dup(1)
    try:
        progress = worker.Progress()
        progress("folding", 1, 2)
        progress("folding", 2, 2)  # too soon to be sent
        progress("writing", 0, 0)
        os.write(1, b"noise\n")
        progress._lines.close()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    captured = capfd.readouterr()
    assert [json.loads(line) for line in captured.out.splitlines()] == [
        {"stage": "folding", "progress": 0.15},
        {"stage": "writing", "progress": 0.3},
    ]
    assert captured.err == "noise\n"
