"""The command and the client with the server as it runs: what a fake service stands for elsewhere."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

import folding
from folding import Options
from folding.errors import ServiceError
from service.command import main as command
from tests.command.test_remote import run
from tests.support import ROOT
from tests.support.processes import listening
from tests.support.service.clients import client, content
from tests.support.service.fake import Wire
from tests.support.service.server import Process, serving
from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["tests.support.service.fixtures"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server") / "data") as (_, asked):
        yield str(asked.base_url)


@pytest.mark.parametrize(("source", "options"), [("model.onnx", {}), ("large.onnx", {"leftover": "affine"})])
def test_what_the_client_brings_is_what_a_fold_here_gives(server, here, tmp_path, source, options):
    both = {}
    for name in ("local", "remote"):
        folder = tmp_path / name
        shutil.copytree(here, folder)
        if name == "local":
            both[name] = folding.fold(folder / source, folder / "out.onnx", Options(**options)).with_flags().as_dict()
        else:
            with client(server) as service:
                both[name] = service.fold(folder / source, folder / "out.onnx", Options(**options))
        both[name] |= {"seconds": 0, "source": "", "target": ""}
        both[name]["verification"]["seconds"] = 0
    assert both["remote"] == both["local"]
    assert content(tmp_path / "remote") == content(tmp_path / "local")


def test_what_the_client_inspects_is_what_an_inspection_here_gives(server, here):
    with client(server) as service:
        report = service.inspect(here / "large.onnx", Options(keep=("bn",)))
    expected = folding.inspect(here / "large.onnx", Options(keep=("bn",))).with_flags().as_dict()
    assert report | {"seconds": 0} == expected | {"seconds": 0}


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("fold", "model.onnx", "-o", "out.onnx"), 0, ""),
        (("inspect", "model.onnx"), 0, ""),
        (("fold", "model.onnx", "-o", "out.onnx", "--keep", "nothing"), 2, "keep: no operator is named 'nothing'"),
        (("fold", "wrong.onnx", "-o", "out.onnx", "--leftover", "conv"), 3, "the folded model differs"),
        (("fold", "none.onnx", "-o", "out.onnx", "--require-change"), 4, ""),
        (("fold", "model.onnx", "-o", "out.onnx", "--key", "bnf_x_y"), 2, "this API key is not known"),
    ],
)
def test_the_command_ends_as_a_fold_here_would(server, here, monkeypatch, capsys, argv, code, said):
    monkeypatch.chdir(here)
    shutil.copy("model.onnx", "wrong.onnx")
    assert run(*argv, "--server", server) == code
    assert said in capsys.readouterr().err
    assert (here / "out.onnx").exists() == (argv[0] == "fold" and code == 0)


def test_an_interruption_ends_the_process_of_the_fold(server, here):
    (here / "model.onnx").rename(here / "endless.onnx")
    wire = Wire(server.rstrip("/"), [])
    arguments = ["fold", "endless.onnx", "-o", "out.onnx", "--clamp", "always", "--server", wire.url]
    asking = subprocess.Popen(
        listening("-m", "folding", *arguments),
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )

    def is_in_metrics(line: str) -> bool:
        return line in httpx.get(f"{server}/metrics").text

    until(lambda: (is_in_metrics("bnfold_running 1.0") and b"GET /v1/jobs/" in wire.sent) or asking.poll() is not None)
    asking.send_signal(signal.SIGINT)
    _, errors = asking.communicate(timeout=PATIENCE)
    assert (asking.returncode, errors) == (130, b"bnfold: interrupted; nothing was written\n")
    wire.close()
    until(lambda: is_in_metrics("bnfold_running 0.0"))
    assert is_in_metrics('bnfold_outcomes_total{outcome="cancelled"} 1.0')


def test_a_key_is_asked_for_and_taken(tmp_path, here, monkeypatch, capsys):
    data = tmp_path / "data"
    assert command.main(["keys", "add", "me", "--data", str(data)]) == 0
    key = capsys.readouterr().out.strip()
    monkeypatch.chdir(here)
    monkeypatch.delenv("BNFOLD_KEY", raising=False)
    process = Process(data, require_keys="true")
    url = str(process.start().base_url)
    try:
        assert run("fold", "model.onnx", "-o", "out.onnx", "--server", url) == 2
        assert "send an API key" in capsys.readouterr().err
        monkeypatch.setenv("BNFOLD_KEY", key)
        assert run("fold", "model.onnx", "-o", "out.onnx", "--server", url) == 0
        with client(url) as nobody, pytest.raises(ServiceError, match="send an API key"):
            nobody.inspect(here / "model.onnx")
    finally:
        process.kill()
