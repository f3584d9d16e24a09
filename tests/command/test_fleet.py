"""Many models in one run: what is written where, what a second run skips, and that one model harms no other."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from folding.client.client import Client, Retries
from folding.command import fleet as story
from folding.command import main as cli
from folding.command import progress
from folding.command.endings import ORDER, worst
from folding.command.record import alone
from folding.verification.parent import verify
from tests.command.test_process import source as forever  # noqa: F401  a model whose verification does not end
from tests.support import ROOT
from tests.support.fleets import fleet, names, save, state
from tests.support.models import Model
from tests.support.processes import children, listening, text
from tests.support.rows.row import out, start
from tests.support.service.fake import Fake, serving
from tests.support.waiting import FOREVER, PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLD = ("fold", "models", "--output-dir", "out", "--no-verify")
RESULTS = ["a.onnx", "sub/b.onnx", "sub/deep/c.onnx", "sub/deep/c.onnx.data"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fleet(tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*argv: str) -> int:
    try:
        return cli.main(list(argv))
    except SystemExit as left:
        return int(left.code or 0)


def reported(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    """What the JSON on stdout says of each model, by its name."""
    entries = json.loads(capsys.readouterr().out)["entries"]
    return {entry["source"].removeprefix("models/"): entry for entry in entries}


def statuses(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return {name: entry["status"] for name, entry in reported(capsys).items()}


def records(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder / ".bnfold").as_posix() for path in (folder / ".bnfold").rglob("*.json"))


# What is written


def test_a_folder_keeps_its_paths_and_every_result_is_right(here, capsys):
    assert run("fold", "models", "--output-dir", "out", "--jobs", "2") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "3 models: 3 folded, in " in said.out
    assert "3 of 4 BatchNormalizations folded, 1 stays\n" in said.out
    assert "models/sub/b.onnx: stays" in said.out
    assert names(here / "out") == RESULTS
    for name in ("a.onnx", "sub/b.onnx", "sub/deep/c.onnx"):
        assert verify(here / "models" / name, here / "out" / name).status == "verified"


def test_files_get_their_own_names_and_one_may_be_alone(here):
    assert run("fold", "models/a.onnx", "models/sub/b.onnx", "--output-dir", "out", "--no-verify") == 0
    assert names(here / "out") == ["a.onnx", "b.onnx"]
    assert run("fold", "models/a.onnx", "--output-dir", "new/deep", "--no-verify") == 0
    assert names(here / "new") == ["deep/a.onnx"]


def test_what_is_hidden_and_the_output_folder_are_left_out(here):
    save(here / "models" / ".git" / "x.onnx")
    save(here / "models" / ".y.onnx")
    for _ in range(2):
        assert run("fold", "models", "--output-dir", "models/out", "--no-verify") == 0
        assert names(here / "models" / "out") == RESULTS


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("fold", "models"), "give --output-dir DIR to write the folded models, or --dry-run"),
        (("fold", "models/a.onnx", "models/sub/b.onnx", "-o", "x.onnx"), "-o names one file; give --output-dir DIR"),
        (("fold", "models/a.onnx", "-o", "x.onnx", "--output-dir", "out"), "-o names one file"),
        (("fold", "models", "--output-dir", "models"), "would be written over models/a.onnx; choose another folder"),
        (("fold", "models", "copy", "--output-dir", "out"), "models/a.onnx and copy/a.onnx would both be written to"),
        (("fold", "empty", "--output-dir", "out"), "empty: there is no file *.onnx in this folder"),
        (("fold", "models", "--output-dir", "file"), "file is a file; give the name of a folder"),
        ((*FOLD, "--jobs", "0"), "'0' is no number of processes; give 1 or more"),
        ((*FOLD, "--jobs", "two"), "'two' is no number of processes"),
        ((*FOLD, "--key", "abc"), "--key belongs to --server"),
        ((*FOLD, "--server", "nowhere"), "no address of a service"),
        (("inspect", "models", "--output-dir", "out"), "unrecognized arguments: --output-dir"),
        (("inspect", "models", "--target", "openvino", "--lint", "x.json"), "--lint writes about one model"),
        (("inspect", "models/r.json", "models/a.onnx", "--report", "models/r.json"), "models/r.json is a model"),
    ],
)
def test_what_cannot_be_asked_comes_before_any_work(here, capsys, argv, said):
    (here / "empty").mkdir()
    (here / "file").touch()
    (here / "models" / "r.json").touch()
    save(here / "copy" / "a.onnx")
    before = names(here)
    assert run(*argv) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert names(here) == before


def test_the_same_file_twice_is_one_model(here):
    assert run("fold", "models/a.onnx", "models/../models/a.onnx", "--output-dir", "out", "--no-verify") == 0
    assert names(here / "out") == ["a.onnx"]


def weighted(path: Path, value: float) -> None:
    """A model in which nothing folds, whose weights are in a file that others have under the same name."""
    m = Model(dtype=np.float32)
    out(m, m.op("MatMul", start(m, 2, 4), m.constant(np.full((4, 400), value))))
    path.parent.mkdir(parents=True)
    onnx.save(m.build(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)


def test_models_whose_data_have_one_name_keep_their_own_weights(here):
    files = [here / str(number) / f"m{number}.onnx" for number in range(6)]
    for number, file in enumerate(files):
        weighted(file, float(number))
    assert run("fold", *map(str, files), "--output-dir", "out", "--no-verify", "--jobs", "3") == 0
    for number in range(6):
        (weight,) = onnx.load(here / "out" / f"m{number}.onnx").graph.initializer
        assert np.all(numpy_helper.to_array(weight) == number)


# What a second run does


def test_a_second_run_skips_what_is_done(here, capsys):
    assert run(*FOLD, "--json") == 0
    assert set(statuses(capsys).values()) == {"folded"}
    before = state(here / "out")
    assert run(*FOLD, "--json", "--jobs", "3") == 0
    again = reported(capsys)
    assert {entry["status"] for entry in again.values()} == {"done before"}
    assert state(here / "out") == before
    assert again["sub/b.onnx"]["report"]["outcomes"][1]["node"] == "stays"
    assert again["sub/deep/c.onnx"]["sha256"].keys() == {"c.onnx", "c.weights"}
    assert again["sub/deep/c.onnx"]["sha256_after"].keys() == {"c.onnx", "c.onnx.data"}


def flip(path: Path) -> None:
    """Change one bit of a file, and neither its length nor its time."""
    content, before = bytearray(path.read_bytes()), path.stat()
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def untouched(_: Path) -> None:
    pass


CHANGES = {
    "another model": (lambda here: save(here / "models/a.onnx", 9), (), {"a.onnx"}),
    "its external data": (lambda here: flip(here / "models/sub/deep/c.weights"), (), {"sub/deep/c.onnx"}),
    "a new model": (lambda here: save(here / "models/new.onnx", 9), (), {"new.onnx"}),
    "a lost result": (lambda here: (here / "out/sub/b.onnx").unlink(), (), {"sub/b.onnx"}),
    "a damaged result": (lambda here: flip(here / "out/a.onnx"), (), {"a.onnx"}),
    "damaged data": (lambda here: flip(here / "out/sub/deep/c.onnx.data"), (), {"sub/deep/c.onnx"}),
    "a damaged record": (lambda here: (here / "out/.bnfold/a.onnx.json").write_text('{"address": 1'), (), {"a.onnx"}),
    "an edited report": (
        lambda here: (here / "out/.bnfold/a.onnx.json").write_text(
            (here / "out/.bnfold/a.onnx.json").read_text().replace('"nodes_before": 4', '"nodes_before": 5')
        ),
        (),
        {"a.onnx"},
    ),
    "another option": (untouched, ("--keep", "folds"), {"a.onnx", "sub/b.onnx", "sub/deep/c.onnx"}),
    "a gate": (untouched, ("--max-left", "1"), set()),
    "nothing": (untouched, (), set()),
}


@pytest.mark.parametrize(("change", "options", "folded"), CHANGES.values(), ids=CHANGES)
def test_it_folds_again_what_changed_and_nothing_else(here, capsys, change, options, folded):
    assert run(*FOLD) == 0
    change(here)
    capsys.readouterr()
    assert run(*FOLD, *options, "--json") == 0
    assert {name for name, status in statuses(capsys).items() if status != "done before"} == folded


def test_other_samples_are_another_option(here, capsys):
    argv = ("fold", "models", "--output-dir", "out", "--inputs", "x.npz", "--json")
    np.savez(here / "x.npz", x0=np.ones((1, 3, 6, 6), np.float32))
    for seed, expected in ((0, {"folded"}), (0, {"done before"}), (1, {"folded"})):
        np.savez(here / "x.npz", x0=np.full((1, 3, 6, 6), seed, np.float32))
        assert run(*argv) == 0
        assert set(statuses(capsys).values()) == expected


# What goes wrong


def test_a_model_that_fails_does_not_stop_the_others_and_is_tried_again(here, capsys):
    (here / "models" / "bad.onnx").write_bytes(b"no model")
    for expected in ("folded", "done before"):
        assert run("fold", "models", "models/missing.onnx", *FOLD[2:], "--json") == 2
        said = capsys.readouterr()
        lines = said.err.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith("bnfold: models/bad.onnx is ")
        assert lines[1].startswith("bnfold: models/missing.onnx cannot be opened")
        entries = json.loads(said.out)["entries"]
        assert [entry["status"] for entry in entries] == [expected, "failed", expected, expected, "failed"]
    assert names(here / "out") == RESULTS


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([], 0), ([0, 4], 4), ([4, 7], 7), ([7, 5], 5), ([5, 2], 2), ([2, 6], 6), ([6, 3], 3), ([3, 130], 130)],
)
def test_the_worst_code_wins(codes, expected):
    assert worst(codes) == worst(reversed(codes)) == expected
    assert worst(ORDER) == 130
    assert worst([3, 143, 0]) == 143


def test_the_exit_code_is_the_worst_of_all(here, capsys):
    (here / "models" / "bad.onnx").write_bytes(b"no model")
    assert run(*FOLD, "--keep", "stays", "--quiet") == 2
    assert "'stays'" in capsys.readouterr().err  # which two of the models do not have
    assert run("inspect", "models/a.onnx", "models/sub/b.onnx", "--max-left", "0", "--quiet") == 7
    assert run("fold", "models/a.onnx", "out/a.onnx", "--dry-run", "--require-change", "--quiet") in {0, 2, 4}


def test_two_runs_do_not_write_to_one_folder(here, capsys):
    with alone("out/.bnfold", "out"):
        assert run(*FOLD) == 2
    assert (
        capsys.readouterr().err == "bnfold: another run of bnfold writes to out; wait for it, or give another folder\n"
    )
    assert run(*FOLD) == 0


# Without writing


@pytest.mark.parametrize("argv", [("inspect", "models"), ("fold", "models", "--dry-run")])
def test_a_look_writes_nothing_and_prints_a_table(here, capsys, argv):
    before = names(here)
    assert run(*argv, "--jobs", "2") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["model", "BatchNormalization", "nodes", "size"]
    assert [row.split()[:4] for row in rows[:3]] == [
        ["models/a.onnx", "1", "->", "0"],
        ["models/sub/b.onnx", "2", "->", "1"],
        ["models/sub/deep/c.onnx", "1", "->", "0"],
    ]
    assert names(here) == before


def test_a_fleet_of_one_file_is_no_fleet(here, capsys):
    assert run("inspect", "models/a.onnx", "--json") == 0
    assert json.loads(capsys.readouterr().out)["source"] == "models/a.onnx"


def test_the_report_has_every_form(here):
    forms = ("r.json", "r.html", "r.md", "r.junit.xml", "r.sarif")
    assert run(*FOLD, "--quiet", *(part for form in forms for part in ("--report", form))) == 0
    for form in forms:
        assert "models/sub/b.onnx" in (here / form).read_text().replace("<wbr>", "")


# Signals and crashes: in processes of their own


def command(*argv: object) -> list[str]:
    return listening("-m", "folding", *argv)


def workers(pid: int) -> list[int]:
    return [child for child in children(pid) if "folding.command.worker" in text(Path(f"/proc/{child}/cmdline"))]


def staged(folder: Path) -> list[Path]:
    """The hidden folders in which results are written; they may vanish while one looks."""
    places = [(place, name) for place, folders, _ in os.walk(folder) for name in folders]
    return [Path(place, name) for place, name in places if name.startswith(".") and name != ".bnfold"]


@pytest.fixture
def stuck(forever, here) -> Path:  # noqa: F811
    """A fleet of which one model would be verified forever."""
    forever.rename(here / "models" / "b_stuck.onnx")
    return here


def is_stuck(folder: Path) -> bool:
    """Whether the result of that model is being verified."""
    begun = [path for path in staged(folder / "out") if path.name.startswith(".b_stuck")]
    return any(files for path in begun for _, _, files in os.walk(path / "new"))


STUCK = ("fold", "models", "--output-dir", "out", "--verify-timeout", FOREVER, "--report", "r.json")


def test_a_process_that_dies_costs_one_model(stuck):
    process = subprocess.Popen(command(*STUCK), cwd=stuck, env=os.environ | {"PYTHONPATH": str(ROOT)})
    until(lambda: is_stuck(stuck) or process.poll() is not None)
    (worker,) = workers(process.pid)
    os.kill(worker, signal.SIGKILL)
    assert process.wait(PATIENCE) == 2
    entries = {entry["source"]: entry for entry in json.loads((stuck / "r.json").read_text())["entries"]}
    assert "died (SIGKILL; is there enough memory?)" in entries["models/b_stuck.onnx"]["error"]
    assert names(stuck / "out") == RESULTS


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interruption_leaves_nothing_half_done_and_says_what_is_left(stuck, name, code):
    process = subprocess.Popen(
        command(*STUCK, "--quiet"), cwd=stuck, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    until(lambda: is_stuck(stuck) or process.poll() is not None)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=PATIENCE)
    again = "the same command goes on with the others"
    assert errors.decode().splitlines()[-1] == f"bnfold: interrupted; 1 of 4 models are done, {again}"
    assert process.returncode == code
    assert staged(stuck / "out") == []
    assert names(stuck / "out") == ["a.onnx"]
    report = json.loads((stuck / "r.json").read_text())
    assert [entry["code"] for entry in report["entries"]] == [0, code, code, code]
    assert report["code"] == code


def test_what_a_killed_run_left_is_removed_by_the_next_one(stuck):
    process = subprocess.Popen(command(*STUCK), cwd=stuck, env=os.environ | {"PYTHONPATH": str(ROOT)})
    until(lambda: is_stuck(stuck) or process.poll() is not None)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(PATIENCE) == -signal.SIGKILL
    until(lambda: not workers_of(process.pid))
    other = stuck / "out" / ".other.onnx.0123456789abcdef"  # of another run, which may still work
    other.mkdir()
    assert len(staged(stuck / "out")) > 1
    assert run(*FOLD, "--quiet") == 0
    assert staged(stuck / "out") == [other]
    assert names(stuck / "out") == ["a.onnx", "b_stuck.onnx", *RESULTS[1:]]


def test_killed_twice_and_resumed_nothing_is_done_twice_and_nothing_lost(here, capsys):
    for number in range(40):
        save(here / "many" / f"d{number % 3}" / f"m{number}.onnx", number, external="" if number % 5 else f"w{number}")
    argv = ("fold", "many", "--output-dir", "out", "--no-verify", "--jobs", "2")
    done: dict[str, tuple[int, int]] = {}
    for events in (8, 20):
        process = subprocess.Popen(
            command(*argv), cwd=here, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        until(lambda: len(records(here / "out")) >= events or process.poll() is not None)  # noqa: B023
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(PATIENCE) == -signal.SIGKILL
        until(lambda: not workers_of(process.pid))  # noqa: B023
        for name in names(here / "out"):
            if name.endswith(".onnx"):
                onnx.checker.check_model(here / "out" / name)  # no file is half written
        known = {name: one for name, one in state(here / "out" / ".bnfold").items() if name.endswith(".json")}
        assert events <= len(known) < 40
        assert all(known[name] == one for name, one in done.items())
        done = known
    assert run(*argv, "--json") == 0
    capsys.readouterr()
    after = state(here / "out" / ".bnfold")
    assert all(after[name] == one for name, one in done.items())
    assert len(records(here / "out")) == 40
    models = [name for name in names(here / "out") if name.endswith(".onnx")]
    assert models == sorted(f"d{number % 3}/m{number}.onnx" for number in range(40))
    assert staged(here / "out") == []


def workers_of(pid: int) -> list[Path]:
    """The processes that a process started, whoever looks after them now; their command names it."""
    return [
        path for path in Path("/proc").glob("[0-9]*") if f"folding.command.worker\0{pid}\0" in text(path / "cmdline")
    ]


# By a service


@pytest.fixture
def service(here, monkeypatch) -> Iterator[tuple[str, Fake]]:
    (here / "service").mkdir()
    monkeypatch.setitem(Client.__init__.__kwdefaults__, "retries", Retries(attempts=2, first=0.001))
    fake = Fake(here / "service")
    with serving([fake]) as url:
        yield url, fake


def test_a_service_folds_a_fleet_with_the_same_results_and_the_next_run_skips_them(here, service, capsys):
    url, fake = service
    assert run("fold", "models", "--output-dir", "own", "--no-verify", "--quiet") == 0
    assert run(*FOLD, "--jobs", "2", "--json", "--server", url) == 0
    assert set(statuses(capsys).values()) == {"folded"}
    assert names(here / "out") == RESULTS
    assert [(here / "out" / name).read_bytes() for name in RESULTS] == [
        (here / "own" / n).read_bytes() for n in RESULTS
    ]
    asked = len(fake.named("POST /v1/fold"))
    assert run(*FOLD, "--json", "--server", url) == 0
    assert set(statuses(capsys).values()) == {"done before"}
    assert len(fake.named("POST /v1/fold")) == asked


def test_a_process_of_a_fleet_keeps_its_connection_for_the_next_model(here, service):
    url, fake = service
    assert run(*FOLD, "--jobs", "1", "--quiet", "--server", url) == 0
    assert len(fake.named("POST /v1/fold")) == 3
    assert len({request.client for request in fake.named("POST /v1/fold")}) == 1


def test_inspect_by_a_service_prints_the_same_table(here, service, capsys):
    tables = []
    for where in ((), ("--server", service[0])):
        assert run("inspect", "models", *where) == 0
        tables.append(re.sub(r"in [\d.]+ m?s", "", capsys.readouterr().out))
    assert tables[0] == tables[1]


def test_there_is_one_bar_over_all_models_and_only_for_people(here, monkeypatch):
    seen: list[tuple[str, int, int]] = []
    asked: list[bool] = []

    class Watched(progress.Bars):
        def __init__(self, *, enabled: bool) -> None:
            asked.append(enabled)
            super().__init__(enabled=False)

        def __call__(self, stage: str, done: int, total: int) -> None:
            seen.append((stage, done, total))

    monkeypatch.setattr(story, "Bars", Watched)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for flags in ((), ("--quiet",), ("--json",)):
        assert run("inspect", "models", *flags) == 0
    assert asked == [True, False, False]
    assert seen[:4] == [("models", done, 3) for done in range(4)]
