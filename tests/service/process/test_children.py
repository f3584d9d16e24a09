"""A fold in a process of its own: with and without bubblewrap, every end of it is an answer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

import folding
from folding import Options
from service.options import canonical
from service.process.child import Child
from service.process.children import Children
from service.process.forkserver import ForkServer, Program
from service.work import ANSWER, IN, MODEL_TYPE, OUT, PAGE, REPORT, Answer, Bounds, Request
from tests.support import ROOT, TESTS
from tests.support.models import Model
from tests.support.processes import descendants, of_folds
from tests.support.rows.row import out, start
from tests.support.service.faults import HANGS
from tests.support.service.sandbox import required
from tests.support.waiting import LOOK_EVERY, PATIENCE, is_alive, until

if TYPE_CHECKING:
    from pathlib import Path

    from service.process.sandbox import Sandbox

FAULTY = Program("tests.support.service.faults", (*Program().paths, ROOT))
GIB = 1 << 30
BOUNDS = Bounds(seconds=PATIENCE, verification=PATIENCE, memory=4 * GIB, file=1 << 26, open_files=256, tasks=256)
BEFORE_SECONDS = 45  # for what comes before a verification; a busy machine takes ten


def model_bytes() -> bytes:
    m = Model(dtype=np.float32)
    out(m, m.bn(m.conv(start(m), 6), name="bn"))
    return m.build().SerializeToString()


@pytest.fixture(params=["none", "bubblewrap", "landlock"])
def sandbox(request, tmp_path):
    return None if request.param == "none" else required(request.param, tmp_path)


def asked(**changes: object) -> Request:
    plain = {**json.loads(canonical(Options(verify=False)))}
    return replace(Request("fold", "model.onnx", archive=False, options=plain, limits={}, bounds=BOUNDS), **changes)


def run(
    sandbox: Sandbox | None, folder: Path, data: bytes, request: Request, program: Program = FAULTY
) -> tuple[Answer, list[object]]:
    lines: list[object] = []

    async def story() -> Answer:
        forks = ForkServer(program)
        child = await Child.start(folder, BOUNDS, sandbox, forks)
        (folder / IN / request.name).write_bytes(data)
        answer = await child.run(request, lambda *line: lines.append(line))
        await forks.close()
        return answer

    return asyncio.run(story()), lines


def test_it_folds_as_the_library_does(sandbox, tmp_path):
    data, options = model_bytes(), Options(verify_timeout=PATIENCE)
    (tmp_path / "mine.onnx").write_bytes(data)
    expected = folding.fold(tmp_path / "mine.onnx", tmp_path / "folded.onnx", options)
    request = asked(options=json.loads(canonical(options)))
    answer, lines = run(sandbox, tmp_path / "job", data, request, Program())
    assert answer == Answer("result", MODEL_TYPE, report=True)
    results = tmp_path / "job" / OUT
    assert (results / "result").read_bytes() == (tmp_path / "folded.onnx").read_bytes()
    report = json.loads((results / REPORT).read_text())
    assert report["verification"]["status"] == expected.verification.status == "verified"
    assert (report["source"], report["target"]) == ("model.onnx", "model.onnx")
    assert str(tmp_path) not in (results / PAGE).read_text()
    assert [stage for stage, _ in lines][-1] == "verifying"
    assert [share for _, share in lines] == sorted(share for _, share in lines)


def test_an_inspection_writes_no_model(sandbox, tmp_path):
    answer, _ = run(sandbox, tmp_path / "job", model_bytes(), asked(kind="inspect"))
    assert answer == Answer(report=True)
    assert sorted(path.name for path in (tmp_path / "job" / OUT).iterdir()) == sorted([ANSWER, REPORT, PAGE])


def truncated() -> bytes:
    return model_bytes()[:-20]


@pytest.mark.parametrize(
    ("data", "changes", "slug", "says"),
    [
        (truncated, {}, "invalid-model", "model.onnx"),
        (model_bytes, {"limits": {"nodes": 1}}, "too-large", "limit nodes"),
        (model_bytes, {"options": {"keep": ["nothing"]}}, "invalid-option", "no operator is named 'nothing'"),
        (model_bytes, {"options": {"keep": ["bn"], "require_change": True}}, "nothing-to-fold", "nothing to fold"),
        (b"HANG", {"bounds": replace(BOUNDS, seconds=1)}, "timed-out", "1 seconds"),
        (b"BOMB", {"bounds": replace(BOUNDS, memory=GIB)}, "out-of-memory", "1,073,741,824 bytes"),
        (b"FLOOD", {}, "out-of-memory", "larger machine"),
        (b"ABORT", {}, "crashed", "SIGSEGV"),
        (b"LEAVE", {}, "crashed", "exit status 7"),
        (b"FILL", {"bounds": replace(BOUNDS, file=1 << 22)}, "too-large", "File too large"),
        (b"LIE", {}, "crashed", "exit status 0"),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else None,
)
def test_every_end_is_one_problem(sandbox, tmp_path, data, changes, slug, says):
    data = data if isinstance(data, bytes) else data()
    answer, _ = run(sandbox, tmp_path / "job", data, asked(**changes))
    assert answer.slug == slug
    assert says in answer.detail
    assert str(tmp_path) not in answer.detail
    assert answer.report == (slug == "nothing-to-fold")


BURN = """
from service.process import confine
from service.work import Bounds
confine.GRACE_SECONDS = 0
confine.confine(Bounds(1, 0, 1 << 33, 1 << 20, 99, 99))
while True: pass
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, Program().paths))}


def test_processor_time_is_bounded_too():
    burned = subprocess.run([sys.executable, "-c", BURN], env=ENVIRONMENT, check=False, timeout=PATIENCE)
    assert burned.returncode == -signal.SIGXCPU


ENDLESS = """<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y)
    <int64 n = {1000000000000}, bool c = {1}, float[2] a = {2, 3}, float[2] b = {4, 5}> {
    z = Mul(x, a) w = Mul(z, b)
    y = Loop (n, c, w) <body = body (int64 i, bool ci, float[2] xi) => (bool co, float[2] xo) {
        co = Identity(ci) xo = Relu(xi) }> }"""


def endless(sandbox: Sandbox | None, folder: Path, timeout: float, **bounds: float) -> Answer:
    options = json.loads(canonical(Options(verify_timeout=timeout)))
    data = onnx.parser.parse_model(ENDLESS).SerializeToString()
    return run(sandbox, folder, data, asked(options=options, bounds=replace(BOUNDS, **bounds)))[0]


def test_verification_has_time_of_its_own(sandbox, tmp_path):
    seconds = BEFORE_SECONDS  # and as much again for a verification that takes all of it
    answer = endless(sandbox, tmp_path / "job", seconds, seconds=seconds)
    assert answer.slug is None, answer.detail
    assert answer == Answer("result", MODEL_TYPE, report=True)
    report = json.loads((tmp_path / "job" / OUT / REPORT).read_text())
    assert report["verification"]["status"] == "not verified"
    assert f"after {seconds} seconds" in report["verification"]["reason"]


def test_that_time_ends_too(sandbox, tmp_path):
    answer = endless(sandbox, tmp_path / "job", PATIENCE, seconds=BEFORE_SECONDS, verification=0.5)
    assert (answer.slug, f"{BEFORE_SECONDS}.5 seconds" in answer.detail) == ("timed-out", True)


def confined() -> str:
    return "\n".join(
        [
            "import json, resource, sys",
            "from service.process.confine import confine; from service.work import Bounds",
            "confine(Bounds(45, 5, 1 << 33, 1 << 20, 99, 99))",
            "names = ['CORE', 'AS', 'FSIZE', 'NOFILE', 'CPU']",
            "limits = {n: resource.getrlimit(getattr(resource, 'RLIMIT_' + n)) for n in names}",
            "limits['privileges'] = [l.split()[1] for l in open('/proc/self/status') if l.startswith('NoNewPrivs')]",
            "print(json.dumps(limits))",
        ]
    )


def test_what_a_process_gives_up_it_cannot_take_back():
    limits = json.loads(subprocess.check_output([sys.executable, "-c", confined()], env=ENVIRONMENT))
    assert limits == {
        "CORE": [0, 0],
        "AS": [1 << 33, 1 << 33],
        "FSIZE": [1 << 20, 1 << 20],
        "NOFILE": [99, 99],
        "CPU": [60, 480],
        "privileges": ["1"],
    }


TASKS = """
import resource
from service.process.confine import confine_tasks
confine_tasks(99, is_apart={apart})
print(resource.getrlimit(resource.RLIMIT_NPROC)[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count in other ways")
def test_the_processes_of_a_user_are_bounded_too():
    """Of a user namespace by what one fold may have; without one, other folds of the same user are in the count."""
    most = {
        apart: int(subprocess.check_output([sys.executable, "-c", TASKS.format(apart=apart)], env=ENVIRONMENT))
        for apart in (True, False)
    }
    assert most[True] > 99
    assert most[False] > 99 * 16


def gone(pid: int) -> bool:
    """Whether a process ends; it fails where one does not."""
    until(lambda: not is_alive(pid))
    return True


def test_a_cancelled_fold_leaves_no_process(sandbox, tmp_path):
    async def story() -> int:
        children = Children(tmp_path / "jobs", BOUNDS, sandbox, FAULTY)
        await children.open()
        async with children.child() as child:
            (child.folder / IN / "model.onnx").write_bytes(b"ORPHAN")
            work, left = asyncio.create_task(child.run(asked(), lambda *_: None)), child.folder / OUT / "left"
            async with asyncio.timeout(PATIENCE):
                while not left.is_file() or not left.read_text():
                    await asyncio.sleep(LOOK_EVERY)
            orphan = int(left.read_text())
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
        until(lambda: not of_folds(os.getpid()))
        await children.close()
        return orphan

    orphan = asyncio.run(story())
    if sandbox is None or sandbox.kind == "landlock":
        assert gone(orphan)
    assert not list((tmp_path / "jobs").iterdir())


def template(children: Children) -> int:
    """The process that folds are forked from."""
    process = children._forks._process
    assert process is not None
    return process.pid


def test_what_gets_away_keeps_nobody_waiting(sandbox, tmp_path):
    """Out of the process group, with the pipes of the fold in its hands: bubblewrap alone can end it."""
    answer, _ = run(sandbox, tmp_path / "job", b"ESCAPE", asked())
    assert (answer.slug, "exit status 7" in answer.detail) == ("crashed", True)
    if sandbox is None or sandbox.kind == "landlock":
        os.kill(int((tmp_path / "job" / OUT / "left").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("seconds", [0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.2])
def test_a_child_can_be_ended_while_it_starts(sandbox, tmp_path, seconds):
    async def story() -> None:
        forks = ForkServer(FAULTY)
        child = await Child.start(tmp_path / "job", BOUNDS, sandbox, forks)
        await asyncio.sleep(seconds)
        await child.close()
        until(lambda: not of_folds(os.getpid()))
        await forks.close()

    asyncio.run(asyncio.wait_for(story(), PATIENCE))


def test_some_wait_for_what_comes(sandbox, tmp_path):
    """They are used once, replaced, and gone with the server; one that died while it waited is passed over."""

    async def fold(children: Children) -> tuple[str, Answer]:
        async with children.child() as child:
            (child.folder / IN / "model.onnx").write_bytes(model_bytes())
            return child.folder.name, await child.run(asked(), lambda *_: None)

    async def story() -> None:
        (tmp_path / "jobs" / "of-an-earlier-server").mkdir(parents=True)
        children = Children(tmp_path / "jobs", BOUNDS, sandbox, FAULTY, spares=2)
        await children.open()
        waiting = [(await task).folder.name for task in children._ready]
        assert {path.name for path in (tmp_path / "jobs").iterdir()} == set(waiting)
        assert await fold(children) == (waiting[0], Answer("result", MODEL_TYPE, report=True))
        dead = await children._ready[0]
        os.killpg(dead._process.pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while dead.is_alive:
                await asyncio.sleep(LOOK_EVERY)
        third = (await children._ready[1]).folder.name
        assert await fold(children) == (third, Answer("result", MODEL_TYPE, report=True))
        assert len(children._ready) == 2
        await children.close()

    asyncio.run(story())
    assert not list((tmp_path / "jobs").iterdir())
    until(lambda: not of_folds(os.getpid()))


def test_the_process_that_folds_are_copied_from_may_die(tmp_path):
    """What it had started dies with it, as if killed; the next fold has a new one."""

    async def story() -> None:
        children = Children(tmp_path / "jobs", BOUNDS, None, FAULTY)
        await children.open()
        async with children.child() as child:
            (child.folder / IN / "model.onnx").write_bytes(b"HANG")
            work, hangs = asyncio.create_task(child.run(asked(), lambda *_: None)), child.folder / OUT / HANGS
            async with asyncio.timeout(PATIENCE):
                while not hangs.is_file():
                    await asyncio.sleep(LOOK_EVERY)
            os.kill(template(children), signal.SIGKILL)
            assert (await work).slug == "killed"
        async with children.child() as child:
            (child.folder / IN / "model.onnx").write_bytes(model_bytes())
            assert await child.run(asked(), lambda *_: None) == Answer("result", MODEL_TYPE, report=True)
        await children.close()

    asyncio.run(story())


def test_a_program_that_cannot_be_imported_fails_every_fold_and_not_the_server(tmp_path):
    async def story() -> None:
        children = Children(tmp_path / "jobs", BOUNDS, None, Program("tests.support.service.nothing", FAULTY.paths))
        await children.open()
        for _ in range(2):
            with pytest.raises(OSError, match="forked from died"):
                async with children.child():
                    pass
        await children.close()

    asyncio.run(story())
    assert not list((tmp_path / "jobs").iterdir())


SERVER = """
import asyncio, json, sys
from pathlib import Path
from service.process.child import Child
from service.process.forkserver import ForkServer, Program
from service.process.sandbox import PACKAGES, Sandbox
from service.work import Bounds, Request
from tests.support.waiting import FOREVER
folder, tests, kind, program, data = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
sandbox = Sandbox(kind, program, (*PACKAGES, tests)) if kind else None
bounds = Bounds(FOREVER, 0, 1 << 32, 1 << 20, 99, 99)
request = Request("fold", "model.onnx", False, {}, {}, bounds)
async def story():
    program = Program("tests.support.service.faults", (*Program().paths, tests.parent))
    forks = ForkServer(program)  # kept: without it the template ends, and what it forked
    child = await Child.start(folder, bounds, sandbox, forks)
    if not data:
        await asyncio.sleep(FOREVER)
    (folder / "in" / "model.onnx").write_text(data)
    await child.run(request, print)
asyncio.run(story())
"""


@pytest.mark.parametrize("data", ["HANG", ""], ids=["works", "waits"])
def test_no_child_outlives_a_server_that_is_killed(sandbox, tmp_path, data):
    kind, program = (sandbox.kind, sandbox.program) if sandbox else ("", "")
    command = [sys.executable, "-c", SERVER, tmp_path / "job", TESTS, kind, program, data]
    server = subprocess.Popen(command, env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)})
    # The template, the keeper and the process of the fold; bubblewrap, its first process, and what holds the sandbox.
    started: list[int] = []

    def all_started() -> bool:
        started[:] = descendants(server.pid)  # of a process that forks meanwhile, /proc may name no children
        return len(started) >= (6 if program else 3)

    until(lambda: not data or (tmp_path / "job" / OUT / HANGS).is_file())
    until(all_started)
    server.kill()
    server.wait()
    assert all(gone(pid) for pid in started)
