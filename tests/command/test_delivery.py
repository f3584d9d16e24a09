"""The command delivers: a repository of many models, digests and cards, here and by a service; docs/triton.md runs."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import onnx
import pytest

import folding
from folding import Options
from folding.command import main as cli
from tests.support import ROOT
from tests.support.fleets import names, save, state
from tests.support.service.fake import Fake, serving
from tests.support.service.server import Running
from tests.support.tritonconfig import parsed

DOCUMENT = (ROOT / "docs" / "triton.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()]
CURL = re.findall(r"^    curl .*(/v1/fold\?\S+)'", DOCUMENT, re.MULTILINE)
REPOSITORY = ("fold", "models", "--output-dir", "r", "--triton", "{model}", "--digest", "--no-verify", "--quiet")
RESULTS = sorted(
    f"{name}/{file}"
    for name, data in (("a", []), ("sub_b", []), ("sub_deep_c", ["1/model.onnx.data"]))
    for file in ("1/model.onnx", "SHA256SUMS", "config.pbtxt", *data)
)


def run(*argv: str) -> int:
    try:
        return cli.main(list(argv))
    except SystemExit as left:
        return int(left.code or 0)


# A repository of many models


def test_each_model_gets_a_folder_and_what_is_done_stays_done(here, capsys):
    assert run(*REPOSITORY, "--jobs", "2") == 0
    assert names(here / "r") == RESULTS
    assert sorted(path.name for path in (here / "r").iterdir()) == [
        "a",
        "sub_b",
        "sub_deep_c",
    ]  # hidden ones would count
    for name in ("a", "sub_b", "sub_deep_c"):
        assert parsed(here / "r" / name / "config.pbtxt").name == name
    before = state(here / "r")
    capsys.readouterr()
    assert run(*REPOSITORY[:-1], "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["statuses"] == {"done before": 3}
    assert [one["report"]["target"] for one in report["entries"]] == [
        f"r/{n}/1/model.onnx" for n in ("a", "sub_b", "sub_deep_c")
    ]
    assert state(here / "r") == before


@pytest.mark.parametrize("edited", ["a/config.pbtxt", "a/SHA256SUMS", "a/1/model.onnx"])
def test_what_was_edited_or_deleted_is_delivered_again(here, edited):
    assert run(*REPOSITORY) == 0
    before = state(here / "r")
    (here / "r" / edited).write_bytes((here / "r" / edited).read_bytes() + b"\n")
    assert run(*REPOSITORY) == 0
    after = state(here / "r")
    assert {name for name in after if after[name] != before[name]} == {
        name for name in RESULTS if name.startswith("a/")
    }
    (here / "r" / edited).unlink()
    assert run(*REPOSITORY) == 0
    assert names(here / "r") == RESULTS


def test_a_digest_beside_a_model_is_a_part_of_what_is_done(here):
    command = ("fold", "models", "--output-dir", "out", "--digest", "--no-verify", "--quiet")
    assert run(*command) == 0
    (here / "out" / "a.onnx.sha256").unlink()
    assert run(*command) == 0
    found = [name for name in names(here / "out") if name.endswith(".sha256")]
    assert found == ["a.onnx.sha256", "sub/b.onnx.sha256", "sub/deep/c.onnx.sha256"]


def test_a_killed_run_leaves_nothing_that_the_next_does_not_remove(here):
    for place in (here / ".a.0123456789abcdef", here / "r" / ".sub_b.0123456789abcdef"):
        (place / "new" / "1").mkdir(parents=True)
    (here / ".other.0123456789abcdef").mkdir()
    assert run(*REPOSITORY) == 0
    assert sorted(path.name for path in here.iterdir() if path.name.startswith(".")) == [".other.0123456789abcdef"]
    assert names(here / "r") == RESULTS


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("models", "--triton", "m"), "would both be written to r/m; put {model} into the name"),
        (("models/a.onnx", "models/sub/a.onnx", "--triton", "{model}"), "would both be written to r/a"),
        (("models", "--triton", "a/b"), "triton is 'a/b'; give a name of letters"),
        (
            ("r/m/1/model.onnx", "models/a.onnx", "--triton", "{model}", "--output-dir", "x", "-o", "y"),
            "-o names one file",
        ),
    ],
)
def test_what_cannot_be_asked_comes_before_any_work(here, capsys, argv, said):
    save(here / "models" / "sub" / "a.onnx", 9)
    before = names(here)
    assert run("fold", "--output-dir", "r", *argv) == 2
    assert said in capsys.readouterr().err
    assert names(here) == before


def test_a_model_that_triton_cannot_serve_stops_no_other(here, capsys):
    head = '<ir_version: 8, opset_import: ["": 17]>'
    text = f"{head} m (seq(float[3]) x) => (float[k] y) {{ y = ConcatFromSequence<axis=0>(x) }}"
    onnx.save(onnx.parser.parse_model(text), here / "models" / "d.onnx")
    assert run(*REPOSITORY) == 2
    assert "models/d.onnx: triton: the input 'x' is of type sequence" in capsys.readouterr().err
    assert names(here / "r") == RESULTS


def test_inspect_delivers_nothing(capsys):
    for flag in ("--triton", "--card", "--digest"):
        assert run("inspect", "a.onnx", flag) == 2
        assert f"unrecognized arguments: {flag}" in capsys.readouterr().err


# From PyTorch


def test_a_module_is_delivered(here):
    (here / "made.py").write_text(
        "import torch\n\n\ndef make():\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()\n"
    )
    command = [
        "from-torch",
        "made:make",
        "--example",
        "2x3x8x8",
        "--dynamic",
        "input:0=batch",
        "-o",
        "r",
        "--triton",
        "{model}",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "folding", *command, "--digest", "--json"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["target"] == "r/Sequential/1/model.onnx"
    assert [one["name"] for one in report["digests"]] == ["1/model.onnx", "config.pbtxt"]
    assert parsed(here / "r" / "Sequential" / "config.pbtxt").max_batch_size == 32


# Through a service


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names(folder)}


@pytest.mark.parametrize("model", ["a.onnx", "sub/deep/c.onnx"])
@pytest.mark.parametrize(
    "options", [["--triton", "m", "--digest"], ["--digest"], ["--card"], ["--card", "--digest", "--keep", "*"]]
)
def test_what_a_service_folds_is_delivered_as_here(here, capsys, model, options):
    (here / "service").mkdir()
    target = ["r"] if "--triton" in options else ["f.onnx"]
    with serving([Fake(here / "service")]) as url:
        reports = []
        for place, more in (("one", []), ("other", ["--server", url])):
            (here / place).mkdir()
            output = str(Path(place, *target))
            assert run("fold", f"models/{model}", "-o", output, *options, *more, "--json") == 0
            reports.append(json.loads(capsys.readouterr().out))
    assert contents(here / "one") == contents(here / "other")
    assert reports[0]["digests"] == reports[1]["digests"]
    assert bool(reports[0]["digests"]) == ("--digest" in options)
    assert reports[1]["target"] == reports[0]["target"].replace("one", "other")
    assert reports[1]["recipe"] == [line.replace("one", "other") for line in reports[0]["recipe"]]


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_service_answers_with_all_files_as_one_zip(here):
    folding.fold("models/a.onnx", "r", Options(triton="resnet", digest=True))
    folding.fold("models/a.onnx", "f.onnx", Options(digest=True, card=True))
    data = Path("models/a.onnx").read_bytes()
    (asked,) = CURL
    with Running(here / "data") as server:
        answer = server.client.post(asked, content=data)
        assert answer.headers["Content-Type"] == "application/zip"
        assert unzipped(answer.content) == contents(here / "r")
        answer = server.client.post("/v1/fold?digest=true&card=true&name=f.onnx", content=data)
        assert unzipped(answer.content) == {name: Path(name).read_bytes() for name in ("f.onnx", "f.onnx.sha256")}
        report = server.client.get(f"/v1/jobs/{answer.headers['Bnfold-Job']}/report").json()
        assert [one["sha256"] for one in report["digests"]] == [hashlib.sha256(Path("f.onnx").read_bytes()).hexdigest()]
        answer = server.client.post("/v1/fold?card=true", content=data)
        assert answer.content == Path("f.onnx").read_bytes()
        for asked, said in (("triton=a%2Fb", "triton is 'a/b'"), ("triton=m&target=webgpu", "does not run WebGPU")):
            answer = server.client.post(f"/v1/fold?{asked}", content=data)
            assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "invalid-option")
            assert said in answer.json()["detail"]


# The document


def test_every_command_of_the_document_runs(here, capfd):
    shutil.copy("models/a.onnx", "model.onnx")
    said = []
    for command in COMMANDS:
        if command.startswith("bnfold "):
            assert run(*shlex.split(command)[1:]) == 0, command
        else:
            assert subprocess.run(["sh", "-c", command], check=False).returncode == 0, command
        said.append(capfd.readouterr().out)
    assert len(COMMANDS) == 6
    assert "3 done before" in said[2]
    assert "folded.onnx: OK" in said[4]
    tree = names(here / "repository" / "resnet")
    assert tree == ["1/model.onnx", "SHA256SUMS", "config.pbtxt"]
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    exec(example)  # noqa: S102  it is our own document
    assert capfd.readouterr().out == "1 -> 0 verified\n"


def test_the_document_knows_every_entry_of_a_card(here):
    model = onnx.load(save(here / "a.onnx", external="w.bin"), load_external_data=False)
    model.graph.node.insert(0, onnx.helper.make_node("Identity", ["x0"], ["same"], name="same"))
    model.graph.node[1].input[0] = "same"
    onnx.save(model, here / "a.onnx")
    folding.fold("a.onnx", "b.onnx", Options(card=True, target="onnxruntime-cpu"))
    keys = {entry.key for entry in onnx.load("b.onnx", load_external_data=False).metadata_props}
    assert keys == set(re.findall(r"^\| `(bnfold\.[\w.]+)` \|", DOCUMENT, re.MULTILINE))
