"""The commands `bnfold serve` and `bnfold keys`: what they take, and what they say where they cannot go on."""

from __future__ import annotations

import os
import socket
import sqlite3

import pytest

from service.command.checks import mistyped
from service.command.main import main
from service.ledger import database
from service.ledger.sql import FILE
from service.process import landlock
from service.state import lock
from tests.support.service.server import Process


def test_keys_are_made_listed_and_revoked(tmp_path, capsys):
    data = ["--data", str(tmp_path / "data")]
    assert main(["keys", "add", "ci\n", "--scope", "fold", "--rate", "5/minute", "--bytes", "1000", *data]) == 0
    _, id_, secret = capsys.readouterr().out.strip().split("_")
    assert main(["keys", "list", *data]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{id_}  active")
    assert line.endswith("fold  'ci\\n'  rate 5/minute, open_jobs 100, bytes 1000, weight 1")
    assert secret not in line
    assert main(["keys", "revoke", id_, *data]) == 0
    assert main(["keys", "revoke", id_, *data]) == 2
    assert "no active key" in capsys.readouterr().err
    assert main(["keys", "add", "ci", "--rate", "often", *data]) == 2


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--host", "10.0.0.1"], "API keys are needed, and there are none; make one: bnfold keys add"),
        (["--port", "70000"], "serve: --port or BNFOLD_PORT is 70000: input should be less than or equal to 65535"),
        (["--host", "fold.invalid"], "serve: the host 'fold.invalid' cannot be resolved: "),
        (["--host", "a" * 70 + ".b"], "cannot be resolved: "),
    ],
)
def test_a_server_that_must_not_start_says_why(tmp_path, capsys, argv, says):
    assert main(["serve", "--data", str(tmp_path / "data"), *argv]) == 2
    assert says in one_line(capsys)


def one_line(capsys):
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("WORKERS", "0", "serve: BNFOLD_WORKERS is '0': input should be greater than or equal to 1"),
        ("WORKERS", "many", "serve: BNFOLD_WORKERS is 'many': input should be a valid integer"),
        ("SANDBOX", "on", "serve: BNFOLD_SANDBOX is 'on': input should be 'auto', 'require' or 'off'"),
        ("LIMITS", "nodes", """serve: BNFOLD_LIMITS is no JSON; write BNFOLD_LIMITS='{"nodes": 500000}'"""),
        ("LIMITS", '{"nods": 1}', "serve: BNFOLD_LIMITS is {'nods': 1}: there is no limit nods; choose of attributes,"),
        ("ALLOWED_HOSTS", "a", """write BNFOLD_ALLOWED_HOSTS='["fold.example.org"]'"""),
    ],
)
def test_a_bad_setting_is_named(tmp_path, capsys, monkeypatch, name, value, says):
    monkeypatch.setenv(f"BNFOLD_{name}", value)
    assert main(["serve", "--data", str(tmp_path), "--port", "0"]) == 2
    assert says in one_line(capsys)


def spoiled_ledger(data):
    main(["keys", "add", "ci", "--data", str(data)])
    return sqlite3.connect(data / FILE, isolation_level=None)


def of_a_newer_version(data):
    spoiled_ledger(data).execute("UPDATE alembic_version SET version_num = 'v9999'")


def no_database(data):
    data.mkdir()
    (data / FILE).write_text("this is no database")


def ledger_is_a_folder(data):
    (data / FILE).mkdir(parents=True)


def short_secret(data):
    data.mkdir()
    (data / "secret").write_text("short")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: data.write_text(""), "serve: data: {data}: it is no folder; name a folder that can be written"),
        (of_a_newer_version, "{data}/ledger.sqlite3 was written by a newer bnfold; upgrade bnfold"),
        (no_database, "{data}/ledger.sqlite3 cannot be used as the ledger: file is not a database; restore the file"),
        (ledger_is_a_folder, "{data}/ledger.sqlite3 cannot be used as the ledger: unable to open database file"),
        (short_secret, "{data}/secret must hold 32 random bytes; remove it"),
    ],
)
def test_a_data_folder_that_cannot_be_used_is_reported_in_one_sentence(tmp_path, capsys, spoil, says):
    data = tmp_path / "data"
    spoil(data)
    capsys.readouterr()
    assert main(["serve", "--data", str(data), "--port", "0"]) == 2
    assert says.format(data=data) in one_line(capsys)


def test_a_folder_in_a_file_is_no_folder(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["serve", "--data", str(tmp_path / "file" / "data"), "--port", "0"]) == 2
    assert "not a directory; name a folder that can be written with --data" in one_line(capsys)


@pytest.mark.parametrize("argv", [["serve", "--port", "0"], ["keys", "list"]])
def test_a_locked_ledger_is_reported_in_one_sentence(tmp_path, capsys, monkeypatch, argv):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.01)
    data = tmp_path / "data"
    holder = spoiled_ledger(data)
    holder.execute("BEGIN EXCLUSIVE")
    capsys.readouterr()
    assert main([*argv, "--data", str(data)]) == 2
    holder.close()
    assert "database is locked; close the program that holds it, and try again" in one_line(capsys)


def test_a_sandbox_that_is_required_is_looked_for_before_the_start(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BNFOLD_SANDBOX", "require")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(landlock, "version", lambda: 0)
    assert main(["serve", "--data", str(tmp_path), "--port", "0"]) == 2
    assert "serve: sandbox: bubblewrap is not installed, and Landlock is not in this kernel" in one_line(capsys)


def test_a_variable_like_a_setting_is_warned_of():
    known = ["BNFOLD_WORKERS", "BNFOLD_KEY", "BNFOLD_NO_PACKAGES", "PATH", "WORKRES"]
    assert mistyped([*known, "BNFOLD_WORKRES"]) == ["there is no setting BNFOLD_WORKRES; did you mean BNFOLD_WORKERS?"]


def test_a_server_that_cannot_start_says_why_in_one_sentence(tmp_path, capsys):
    data = tmp_path / "data"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--data", str(data), "--port", port]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"bnfold: serve: 127.0.0.1 port {port}: ")
        assert said.endswith("choose another with --host and --port\n")
    right = lock(data)
    try:
        assert main(["serve", "--data", str(data), "--port", "0"]) == 2
    finally:
        os.close(right)
    assert (
        capsys.readouterr().err
        == f"bnfold: serve: {data} is used by another server; give this one a folder of its own\n"
    )


@pytest.mark.parametrize("argv", [["list"], ["revoke", "a"]])
def test_a_folder_that_is_not_there_is_not_made(tmp_path, capsys, argv):
    assert main(["keys", *argv, "--data", str(tmp_path / "typo")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("quota", ["--bytes", "--open-jobs"])
@pytest.mark.parametrize("value", ["0", "-3", "many"])
def test_a_quota_is_a_number(tmp_path, quota, value):
    with pytest.raises(SystemExit) as ended:
        main(["keys", "add", "ci", quota, value, "--data", str(tmp_path)])
    assert ended.value.code == 2


def test_a_server_says_where_it_is(tmp_path, capfd):
    process = Process(tmp_path / "data")
    client = process.start()
    assert f"bnfold serves at {client.base_url}" in capfd.readouterr().out.replace("/ is its page", "")
    assert process.stop() == 0
