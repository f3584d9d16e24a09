"""The commands `bnfold serve` and `bnfold keys`: what they take, and what they say where they cannot go on."""

from __future__ import annotations

import os
import socket

import pytest

from service.command import main
from service.state import lock
from tests.support.service.server import Process


def test_keys_are_made_listed_and_revoked(tmp_path, capsys):
    data = ["--data", str(tmp_path / "data")]
    assert main(["keys", "add", "ci\n", "--scope", "fold", "--rate", "5/minute", "--bytes", "1000", *data]) == 0
    _, id_, secret = capsys.readouterr().out.strip().split("_")
    assert main(["keys", "list", *data]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{id_}  active")
    assert line.endswith("fold  'ci\\n'  rate 5/minute, bytes 1000")
    assert secret not in line
    assert main(["keys", "revoke", id_, *data]) == 0
    assert main(["keys", "revoke", id_, *data]) == 2
    assert "no active key" in capsys.readouterr().err
    assert main(["keys", "add", "ci", "--rate", "often", *data]) == 2


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--host", "10.0.0.1"], "API keys are needed, and there are none; make one: bnfold keys add"),
        (["--port", "70000"], "port: "),
    ],
)
def test_a_server_that_must_not_start_says_why(tmp_path, capsys, argv, says):
    assert main(["serve", "--data", str(tmp_path / "data"), *argv]) == 2
    assert says in capsys.readouterr().err


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
    assert capsys.readouterr().err == f"bnfold: {data} is used by another server; give this one a folder of its own\n"


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
