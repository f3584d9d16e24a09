"""docs/fleets.md and integrations/ do what they say: every command and every step runs, as far as it can here."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from folding.command import main as cli
from tests.support import ROOT
from tests.support.fleets import names, save
from tests.support.service.fake import Fake, serving

DOCUMENT = (ROOT / "docs" / "fleets.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()]
SNIPPETS = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
ACTION = yaml.safe_load((ROOT / "integrations" / "github" / "action.yml").read_text())
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
STAGE = yaml.safe_load((ROOT / "integrations" / "dvc" / "dvc.yaml").read_text())["stages"]["fold"]
ADDRESS = "http://127.0.0.1:8000"


def expanded(command: str) -> list[str]:
    """The words of a command, its patterns as a shell expands them."""
    words = shlex.split(command)
    return [found for word in words for found in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]


def test_there_are_commands():
    assert len(COMMANDS) == 10


def test_every_command_of_the_document_runs(here, capsys):
    (here / "service").mkdir()
    with serving([Fake(here / "service")]) as url:
        said = []
        for command in COMMANDS:
            name, *arguments = expanded(command.replace(ADDRESS, url))
            assert name == "bnfold"
            assert cli.main(arguments) == 0, command
            said.append(capsys.readouterr().out)
    assert json.loads(said[3])["statuses"] == {"done before": 3}  # as the text promises
    assert {"fleet.html", "fleet.json", "fleet.md", "bnfold.junit.xml", "bnfold.sarif"} <= set(names(here))


def test_the_options_of_the_document_are_those_of_the_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["fold", "--help"])
    output = capsys.readouterr().out
    assert {flag for flag in re.findall(r"--[a-z][a-z-]+", DOCUMENT) if flag not in output} == set()


# GitHub


def step(**inputs: str) -> tuple[str, dict[str, str]]:
    """The script of the action, and its environment with these inputs."""
    chosen = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()} | inputs
    *_, last = ACTION["runs"]["steps"]
    given = {
        name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: chosen[found[1]], value)
        for name, value in last["env"].items()
    }
    return last["run"], given


def acted(path: str, **inputs: str) -> subprocess.CompletedProcess[str]:
    script, environment = step(**inputs)
    environment |= {"GITHUB_STEP_SUMMARY": "summary.md", "PATH": path}
    return subprocess.run(  # as GitHub runs `shell: bash`
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_action_has_what_github_asks_for():
    assert ACTION["runs"]["using"] == "composite"
    assert all(one["shell"] == "bash" for one in ACTION["runs"]["steps"])
    assert all("${{" not in one["run"] for one in ACTION["runs"]["steps"])  # no input can become a command
    install = ACTION["runs"]["steps"][0]["run"]
    assert install.endswith('"$GITHUB_ACTION_PATH/../.."')
    assert (ROOT / "integrations" / "github" / ".." / ".." / "pyproject.toml").resolve().is_file()


def test_the_action_inspects_and_says_what_stays(here, path):
    done = acted(path, models="models/**/*.onnx")
    assert done.returncode == 7, done.stderr
    assert "models/sub/b.onnx: 1 BatchNormalization stays, and --max-left allows 0" in done.stderr
    assert "`models/sub/b.onnx`: `stays`" in (here / "summary.md").read_text()
    assert {f"bnfold-report.{suffix}" for suffix in ("sarif", "junit.xml", "md", "json")} <= set(names(here))
    assert not (here / "out").exists()


def test_the_action_folds(here, path):
    done = acted(path, models="models", options="--no-verify --fail-if-grown", **{"output-dir": "out dir"})
    assert done.returncode == 0, done.stderr
    assert "sub/b.onnx" in names(here / "out dir")


def test_the_action_does_not_run_what_an_input_says(here, path):
    done = acted(path, models="models/a.onnx $(touch hacked) ; touch hacked", options="--no-such-option")
    assert done.returncode == 2
    assert "hacked" not in names(here)
    assert acted(path, models="none/*.onnx").returncode == 2


def test_the_workflow_of_the_document_uses_inputs_of_the_action():
    workflow = next(found for found in map(yaml.safe_load, SNIPPETS) if "jobs" in found)
    (used,) = [one for one in workflow["jobs"]["models"]["steps"] if "integrations/github" in one["uses"]]
    assert used["with"].keys() <= ACTION["inputs"].keys()
    (upload,) = [one for one in workflow["jobs"]["models"]["steps"] if "upload-sarif" in one["uses"]]
    assert upload["with"]["sarif_file"] == f"{ACTION['inputs']['reports']['default']}.sarif"


# pre-commit and DVC


@pytest.mark.parametrize(("files", "code"), [(["models/a.onnx"], 0), (["models/a.onnx", "models/sub/b.onnx"], 7)])
@pytest.mark.parametrize("arguments", [None, ["--max-left", "0", "--target", "onnxruntime-cpu"]])
def test_the_hook_fails_where_something_stays(here, path, files, code, arguments):
    """As pre-commit calls it: the entry, its arguments, the files that the pattern matches."""
    assert all(re.search(HOOK["files"], file) for file in files)
    command = [*shlex.split(HOOK["entry"]), *(HOOK["args"] if arguments is None else arguments), *files]
    done = subprocess.run(
        command, env=os.environ | {"PATH": path}, executable=None, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert ("models/sub/b.onnx: 1 BatchNormalization stays" in done.stderr) == (code == 7)
    assert done.stdout == ""


def test_the_arguments_of_the_document_are_those_of_the_hook():
    config = next(found for found in map(yaml.safe_load, SNIPPETS) if "repos" in found)
    ((hook,),) = [repo["hooks"] for repo in config["repos"]]
    assert hook["id"] == HOOK["id"]
    assert hook["args"] == ["--max-left", "0", "--target", "onnxruntime-cpu"]


def test_the_stage_makes_what_it_names_and_runs_again(here, path):
    (here / "models" / "sub" / "b.onnx").unlink()
    assert all((here / dependency).exists() for dependency in STAGE["deps"])
    for number in range(2):
        done = subprocess.run(
            ["sh", "-c", STAGE["cmd"]], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert all((here / next(iter(out))).exists() for out in STAGE["outs"])
        assert f"{3 if number else 2} models" in done.stdout
        save(here / "models" / "new.onnx", 7)
    assert "1 folded, 2 done before" in done.stdout
