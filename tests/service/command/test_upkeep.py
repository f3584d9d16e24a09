"""Scrub, backup and restore, also while a server runs: what they leave agrees, and is whole."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from service import upkeep
from service.auth.keys import find_key
from service.command.main import main
from service.ledger.sql import FILE, open_ledger
from service.secret import FILE as SECRET
from service.secret import webhook_secret
from tests.service.engine.test_local import blobs
from tests.service.test_damage import change, cut, digest, lose
from tests.support.service.server import Running, ended, held, model_bytes, submit
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


def agree(data: Path) -> bool:
    """Whether every blob that the ledger knows is there and right, and every blob is known."""
    ledger = open_ledger(data)
    try:
        known = {holding.blob.sha256: holding.blob.bytes for holding in ledger.held()}
    finally:
        ledger.close()
    found = blobs(data)
    right = all(digest(path.read_bytes()) == sha256 for sha256, path in found.items())
    return right and known == {sha256: path.stat().st_size for sha256, path in found.items()}


@pytest.mark.parametrize("spoil", [lose, cut, change])
def test_a_scrub_finds_damage_while_a_server_runs(tmp_path, capsys, spoil):
    data = tmp_path / "data"
    with Running(data, sweep_seconds=0.2) as running:
        first = running.client.post("/v1/fold", content=model_bytes())
        assert main(["scrub", "--data", str(data)]) == 0
        assert "all whole" in capsys.readouterr().out
        result = digest(first.content)
        spoil(blobs(data)[result])
        assert main(["scrub", "--data", str(data)]) == 3
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"damaged or missing: {result}")
        assert "1 jobs are folded again, 0 are removed, 0 need their upload again" in lines[1]
        job = first.headers["Bnfold-Job"]
        until(lambda: running.client.get(f"/v1/jobs/{job}").json()["attempts"] == 2)
        assert ended(running.client, job)["result"]["sha256"] == result
        assert running.client.get(f"/v1/jobs/{job}/result").content == first.content
    assert agree(data)


def test_a_scrub_takes_nothing_that_arrives_meanwhile(tmp_path, monkeypatch):
    """The file is damaged when it is read, and whole when it is taken: it stays."""
    with Running(tmp_path / "data") as running:
        content = running.client.post("/v1/fold", content=model_bytes()).content
    place, honest, calls = blobs(tmp_path / "data")[digest(content)], upkeep.has_content, []

    def late(path: Path, blob: object) -> bool:
        if path == place and not calls:
            calls.append(path)
            return False
        return honest(path, blob)  # type: ignore[arg-type]

    monkeypatch.setattr(upkeep, "has_content", late)
    assert upkeep.scrub(tmp_path / "data").damaged == ()
    assert calls
    assert place.read_bytes() == content


def test_a_copy_made_while_a_server_works_is_a_server_of_its_own(tmp_path, capsys):
    """It is copied again and again while models come, are folded, and are deleted."""
    data, copy, ends = tmp_path / "data", tmp_path / "copy", threading.Event()
    assert main(["keys", "add", "mine", "--data", str(data)]) == 0
    key = capsys.readouterr().out.strip()
    secret = webhook_secret(data, "k")
    with Running(data, cap_bytes=20_000, sweep_seconds=0.05) as running:
        first = running.client.post("/v1/fold", content=model_bytes(1000))
        failures: list[object] = []

        def work() -> None:
            for seed in range(12):
                answer = running.client.post("/v1/fold", content=model_bytes(seed), params={"verify": False})
                if answer.status_code != 200:
                    failures.append(answer.text)
            ends.set()

        works = threading.Thread(target=work)
        works.start()
        codes = []
        while not ends.is_set() or not codes:
            codes.append(main(["backup", str(copy), "--data", str(data)]))
            assert agree(copy)
        works.join()
        waiting = submit(running.client, held(tmp_path / "gate"))
        codes.append(main(["backup", str(copy), "--data", str(data)]))
    assert not failures
    assert set(codes) <= {0, 3}
    restored = tmp_path / "restored"
    assert main(["restore", str(copy), "--data", str(restored)]) == 0
    assert agree(restored)
    assert webhook_secret(restored, "k") == secret
    assert (restored / SECRET).stat().st_mode & 0o077 == 0
    ledger = open_ledger(restored)
    assert find_key(ledger, key) is not None
    ledger.close()
    (tmp_path / "gate").touch()
    with Running(restored) as running:
        assert ended(running.client, waiting)["status"] == "done"
        assert running.client.post("/v1/fold", content=model_bytes(1000)).content == first.content


def test_a_copy_does_not_contain_what_is_damaged(tmp_path, capsys):
    data, copy = tmp_path / "data", tmp_path / "copy"
    with Running(data) as running:
        first = running.client.post("/v1/fold", content=model_bytes())
    change(blobs(data)[digest(first.content)])
    assert main(["backup", str(copy), "--data", str(data)]) == 3
    assert "1 jobs are folded again" in capsys.readouterr().out
    assert agree(copy)
    with Running(copy) as running:
        assert running.client.post("/v1/fold", content=model_bytes()).content == first.content


def test_a_copy_is_brought_up_to_date(tmp_path):
    data, copy = tmp_path / "data", tmp_path / "copy"
    with Running(data) as running:
        first = running.client.post("/v1/fold", content=model_bytes())
        upkeep.copy(data, copy)
        kept = {path: path.stat().st_mtime_ns for path in blobs(copy).values()}
        assert running.client.delete(f"/v1/blobs/{digest(first.content)}").status_code == 204
        running.client.post("/v1/fold", content=model_bytes(1))
        upkeep.copy(data, copy)
    assert agree(copy)
    assert digest(first.content) not in blobs(copy)
    still = [path for path in kept if path.exists()]
    assert still
    assert all(path.stat().st_mtime_ns == kept[path] for path in still)  # not copied again
    with closing(sqlite3.connect(copy / FILE)) as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_restore_that_was_interrupted_is_begun_again(tmp_path, monkeypatch):
    data, copy, restored = tmp_path / "data", tmp_path / "copy", tmp_path / "restored"
    with Running(data) as running:
        running.client.post("/v1/fold", content=model_bytes())
    upkeep.copy(data, copy)
    with monkeypatch.context() as broken:
        broken.setattr(upkeep, "_write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        (copy / SECRET).write_bytes(bytes(32))
        assert main(["restore", str(copy), "--data", str(restored)]) == 2
    assert not (restored / FILE).exists()
    assert main(["restore", str(copy), "--data", str(restored)]) == 0
    assert agree(restored)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["scrub", "--data", "{new}"], "there is no folder"),
        (["backup", "{copy}", "--data", "{new}"], "there is no ledger in"),
        (["backup", "{data}", "--data", "{data}"], "is the data folder of a server; name another folder"),
        (["restore", "{new}", "--data", "{other}"], "there is no ledger in"),
        (["restore", "{data}", "--data", "{data}"], "there is a ledger in"),
        (["downgrade", "--data", "{new}"], "there is no folder"),
    ],
)
def test_what_cannot_be_done_is_reported_in_one_sentence(tmp_path, capsys, argv, says):
    with Running(tmp_path / "data"):
        pass
    names = {name: tmp_path / name for name in ("data", "new", "copy", "other")}
    assert main([word.format(**names) for word in argv]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert says in message


def test_a_ledger_in_use_does_not_go_back(tmp_path, capsys):
    with Running(tmp_path / "data"):
        assert main(["downgrade", "--data", str(tmp_path / "data")]) == 2
        assert "is used by another server" in capsys.readouterr().err
    assert main(["downgrade", "--data", str(tmp_path / "data")]) == 0
    assert "the ledger has version 000" in capsys.readouterr().out
    with Running(tmp_path / "data") as running:
        assert running.client.get("/readyz").status_code == 200
