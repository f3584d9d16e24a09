"""The commands through a service: the output and the exit codes of a fold here, and one code more."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from folding.client.client import Client, Retries
from folding.command import main as cli
from folding.errors import how_to_install
from tests.support import ROOT
from tests.support.models import Model
from tests.support.onnxfiles import names
from tests.support.processes import listening
from tests.support.reports import FAILED, bn, report
from tests.support.rows.row import out, start
from tests.support.service.fake import Fake, problem, serving
from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMES = re.compile(r"in [\d.]+ m?s|, [\d.]+ m?s\)|[\d.]+ m?s")


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[list[Fake], str]]:
    current = [Fake(Path())]
    with serving(current) as url:
        yield current, url


@pytest.fixture
def fake(running, tmp_path, monkeypatch) -> Fake:
    (tmp_path / "service").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("BNFOLD_KEY", raising=False)
    monkeypatch.setitem(Client.__init__.__kwdefaults__, "retries", Retries(attempts=2, first=0.001))
    m = Model(dtype=np.float32)
    onnx.save(m.build(out(m, m.bn(m.conv(start(m, 1, 3, 8, 8), 4), name="bn"))), "model.onnx")
    m = Model(dtype=np.float32)
    m.op("Relu", start(m, 1, 3))
    onnx.save(m.build(), "none.onnx")
    running[0][0] = Fake(tmp_path / "service")
    return running[0][0]


@pytest.fixture
def url(running, fake) -> str:
    return running[1]


def run(*argv: str) -> int:
    try:
        return cli.main(list(argv))
    except SystemExit as left:
        return int(left.code or 0)


@pytest.mark.parametrize(
    "argv",
    [
        ("fold", "model.onnx", "-o", "out.onnx"),
        ("fold", "model.onnx", "-o", "out.onnx", "--no-verify", "--keep", "bn", "--leftover", "affine"),
        ("fold", "model.onnx", "--dry-run"),
        ("fold", "none.onnx", "-o", "out.onnx"),
        ("fold", "none.onnx", "-o", "out.onnx", "--require-change"),
        ("inspect", "model.onnx"),
        ("inspect", "model.onnx", "--only", "bn"),
    ],
)
def test_it_says_and_writes_what_a_fold_here_does(url, capsys, argv):
    outcomes, left = [], []
    for where in ((), ("--server", url)):
        code = run(*argv, *where, "--report", "report.md")
        said = capsys.readouterr()
        written = {name: Path(name).read_bytes() for name in names(Path()) if name != "report.md"}
        outcomes.append((code, TIMES.sub("", said.out), said.err, written))
        left.append(TIMES.sub("", Path("report.md").read_text()))
        Path("out.onnx").unlink(missing_ok=True)
    assert outcomes[0] == outcomes[1]
    assert left[0] == left[1]


def test_json_is_the_report_of_the_service(url, capsys):
    assert run("fold", "model.onnx", "-o", "out.onnx", "--json", "--no-verify", "--server", url) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["source"], document["target"], document["bn_after"]) == ("model.onnx", "out.onnx", 0)


FOLD = ("fold", "model.onnx", "-o", "out.onnx")


@pytest.mark.parametrize(
    ("slug", "status", "code"),
    [
        ("invalid-model", 422, 2),
        ("unauthorized", 401, 2),
        ("too-large", 413, 2),
        ("verification-failed", 422, 3),
        ("nothing-to-fold", 422, 4),
        ("target-refused", 422, 6),
        ("busy", 503, 5),
        ("quota-exceeded", 429, 5),
        ("internal", 500, 5),
        ("insufficient-storage", 507, 5),
    ],
)
def test_exit_codes(url, fake, capsys, slug, status, code):
    fake.failures["POST /v1/fold"] = [problem(slug, status, "it is so") for _ in range(2)]
    before = names(Path())
    assert run(*FOLD, "--server", url) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err in {"bnfold: it is so\n", "bnfold: model.onnx: it is so\n"}
    assert names(Path()) == before


def test_a_failed_verification_shows_its_report(url, fake, capsys):
    body = json.loads(problem("verification-failed", 422, "model.onnx: the folded model differs").body)
    fake.after = {"status": "failed", "problem": body, "report": report(bn(), verification=FAILED)}
    assert run(*FOLD, "--no-verify", "--server", url) == 3
    said = capsys.readouterr()
    assert said.err == "bnfold: model.onnx: the folded model differs\n"
    assert "the result is wrong and was thrown away" in said.out
    assert not Path("out.onnx").exists()


def test_nobody_there(fake, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    assert run(*FOLD, "--server", nobody) == 5
    assert capsys.readouterr().err.startswith(f"bnfold: {nobody} does not answer")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((*FOLD, "--key", "abc"), "--key belongs to --server"),
        ((*FOLD, "--server", "nowhere"), "no address of a service"),
        ((*FOLD, "--server", "http://127.0.0.1:1", "--key", "a b"), "API key"),
        ((*FOLD, "--server", "http://127.0.0.1:1", "--inputs", "model.onnx"), "does not see the files"),
        (("inspect", "missing.onnx", "--server", "http://127.0.0.1:1"), "missing.onnx cannot be opened"),
        (("verify", "a.onnx", "b.onnx", "--server", "http://127.0.0.1:1"), "unrecognized"),
    ],
)
def test_what_cannot_be_asked(fake, capsys, argv, said):
    assert run(*argv) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("argv", "variable", "key"), [(("--key", "a"), "b", "a"), ((), "b", "b"), ((), "", None)])
def test_the_key_comes_from_the_option_or_the_environment(url, fake, monkeypatch, argv, variable, key):
    monkeypatch.setenv("BNFOLD_KEY", variable)
    assert run("inspect", "model.onnx", "--quiet", "--server", url, *argv) == 0
    (request,) = fake.named("POST /v1/inspect")
    assert request.headers.get("Authorization") == (f"Bearer {key}" if key else None)


def test_without_the_clients_packages_it_says_what_to_install(fake, capsys, monkeypatch):
    for name in [name for name in sys.modules if name == "httpx" or name.startswith("folding.client")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx", None)
    assert run(*FOLD, "--server", "http://127.0.0.1:1") == 2
    assert capsys.readouterr().err == f"bnfold: --server needs the package httpx; {how_to_install('client')}\n"


def test_a_report_that_cannot_be_read_is_the_services_fault(url, fake, capsys):
    fake.failures["POST /v1/inspect"] = [problem("x", 200)]
    assert run("inspect", "model.onnx", "--server", url) == 5
    assert "report.version is missing; is the service of another version?" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_cancels_the_job_and_leaves_nothing(url, fake, name, code):
    fake.held = True
    before = names(Path())
    process = subprocess.Popen(
        listening("-m", "folding", *FOLD, "--no-verify", "--server", url),
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    until(lambda: fake.named("GET /v1/jobs/{job}") or process.poll() is not None)  # it waits for the job
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=PATIENCE)
    word = "interrupted" if name == "SIGINT" else "terminated"
    assert (process.returncode, errors.decode()) == (code, f"bnfold: {word}; nothing was written\n")
    until(lambda: [job["status"] for job in fake.jobs.values()] == ["cancelled"])
    assert names(Path()) == before


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a project that has a package called `service` of its own, as many have."""
    (tmp_path / "project" / "service").mkdir(parents=True)
    (tmp_path / "project" / "service" / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    return tmp_path / "project"


def in_project(project: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([".", str(ROOT)])}
    command = [sys.executable, "-m", "folding", *argv]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_a_fold_by_a_service_does_not_import_the_package_of_that_name(url, project):
    shutil.copy("model.onnx", project)
    done = in_project(project, *FOLD, "--no-verify", "--server", url)
    assert (done.returncode, done.stderr) == (0, "")
    assert (project / "out.onnx").is_file()


@pytest.mark.parametrize("command", ["serve", "keys"])
def test_another_package_of_the_name_is_named(project, command):
    done = in_project(project, command)
    what = f"another package called service hides bnfold's own: {project.resolve() / 'service'}"
    how = "run it in another folder, or take that one out of PYTHONPATH"
    assert (done.returncode, done.stderr) == (2, f"bnfold: {command}: {what}; {how}\n")
