"""Send every hostile upload to a real server while a neighbour folds good models, and measure what each takes."""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

import folding
from tests.support.hostile.uploads import LARGEST, STALL, UPLOADS, send
from tests.support.processes import PROC, children, descendants, text
from tests.support.service.server import Process, model_bytes
from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.hostile.uploads import Upload

KIB, GIB = 1 << 10, 1 << 30
TOGETHER = 2  # hostile uploads at the same time
LOOK_EVERY = 0.02  # seconds between two looks at the processes; their peaks are the kernel's, not ours
NEIGHBOUR_PAUSE = 1.0  # seconds between two folds of the neighbour
# Patience for what ends even on a busy machine, and not for what does not; a worker for the neighbour, and as many as
# there are hostile uploads at a time.
SETTINGS = {
    "fold_seconds": 120,
    "child_memory_bytes": 2 * GIB,
    "child_file_bytes": 256 << 20,
    "max_upload_bytes": LARGEST,
    "upload_stall_seconds": STALL,
    "client_seconds": PATIENCE,
    "sync_seconds": PATIENCE,
    "workers": TOGETHER + 1,
}


class Served(Process):
    """`bnfold serve`, as anybody starts it."""

    MODULE = ("folding", "serve")


@dataclass(frozen=True)
class Outcome:
    """What became of an upload; `peak` is the most that the processes of its fold had resident, 0 without any."""

    status: int
    ends: str
    says: str
    seconds: float
    peak: int


@dataclass
class Table:
    """What came of a whole run."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    before: int = 0  # bytes that the server had resident when it had folded a good model
    after: int = 0
    most: int = 0
    folds: int = 0  # of the neighbour
    wrong: list[str] = field(default_factory=list)  # what was not as it should be with those
    left: list[str] = field(default_factory=list)  # processes and files that stayed
    sandbox: bool = False
    log: str = ""


def run(uploads: Mapping[str, Upload] = UPLOADS, **settings: object) -> Table:
    """Send the uploads; they go by the names that they have in `UPLOADS`."""
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        process = Served(data, **{name: str(value) for name, value in (SETTINGS | settings).items()})
        try:
            _measure(process, process.start(), data, uploads, table)
        finally:
            process.kill()
        table.log = (data.parent / "log").read_text()
    return table


def _measure(process: Process, client: httpx.Client, data: Path, uploads: Mapping[str, Upload], table: Table) -> None:
    server = process.process.pid
    numbers = {name: str(number) for number, name in enumerate(UPLOADS)}
    table.sandbox = client.get("/version").json()["sandbox"]
    client.post("/v1/fold", content=model_bytes(0)).raise_for_status()
    table.before = resident(server)
    with _watched(server, data) as peaks, _neighbour(client.base_url, table):
        with ThreadPoolExecutor(TOGETHER) as pool:
            sent = {name: pool.submit(_sent, client, numbers[name], upload) for name, upload in uploads.items()}
        for name, future in sent.items():
            answer, seconds = future.result()
            table.outcomes[name] = Outcome(*answer, seconds, peaks.get(numbers[name], 0))
    table.after, table.most = resident(server), resident(server, "VmHWM")
    with contextlib.suppress(AssertionError):
        until(lambda: not _left(server, data))
    table.left = _left(server, data)


def _sent(client: httpx.Client, number: str, upload: Upload) -> tuple[tuple[int, str, str], float]:
    began = time.monotonic()
    return send(client, number, upload), time.monotonic() - began


@contextlib.contextmanager
def _neighbour(url: httpx.URL, table: Table) -> Iterator[None]:
    """Somebody who folds one good model after the other; none is like another, so none is known already."""
    done, answers = threading.Event(), []

    def fold() -> None:
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            while not done.wait(NEIGHBOUR_PAUSE):
                model = model_bytes(len(answers) + 1)
                answer = client.post("/v1/fold", content=model)
                answers.append((model, answer, client.get(answer.headers.get("link", "").partition(">")[0][1:] or "/")))

    folding_thread = threading.Thread(target=fold)
    folding_thread.start()
    try:
        yield
    finally:
        done.set()
        folding_thread.join()
    table.folds = len(answers)
    table.wrong = [what for answer in answers for what in _wrong(*answer)]


def _wrong(model: bytes, answer: httpx.Response, report: httpx.Response) -> Iterator[str]:
    if answer.status_code != 200:
        yield f"{answer.status_code} {answer.text[:200]}"
    elif answer.content != _folded(model):
        yield "other bytes than the library's"
    elif report.json()["verification"]["status"] != "verified":
        yield f"not verified: {report.json()['verification']['reason']}"


def _folded(model: bytes) -> bytes:
    """What the library makes of it."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "model.onnx"), Path(folder, "folded.onnx")
        source.write_bytes(model)
        folding.fold(source, target, folding.Options(verify=False))
        return target.read_bytes()


# --- processes ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _watched(server: int, data: Path) -> Iterator[dict[str, int]]:
    """The peaks of the folds, by the names of their models, as long as this lasts."""
    peaks: dict[str, int] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(LOOK_EVERY):
            for folder in (data / "jobs").glob("*"):
                with contextlib.suppress(OSError, ValueError):
                    name = Path(json.loads((folder / "request.json").read_text())["name"]).stem
                    taken = sum(resident(pid, "VmHWM") for pid in _works_in(folder, server))
                    peaks[name] = max(peaks.get(name, 0), taken)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield peaks
    finally:
        done.set()
        watching.join()


def _works_in(folder: Path, server: int) -> Iterator[int]:
    """The processes of the fold in a folder: what the template forked for it, and the sandbox around it."""
    for child in children(server):
        if _is_template(child):
            for keeper in children(child):
                family = (keeper, *descendants(keeper))
                if any(_is_at(pid, folder) for pid in family):
                    yield from family
        elif str(folder) in text(PROC / str(child) / "cmdline"):
            yield from (child, *descendants(child))


def _is_template(pid: int) -> bool:
    """Whether the processes of folds are copies of this one, which stays as long as the server."""
    return "service.process.template" in text(PROC / str(pid) / "cmdline")


def _is_at(pid: int, folder: Path) -> bool:
    """Whether a process works in a folder, under whatever name it sees it."""
    try:
        return (PROC / str(pid) / "cwd").samefile(folder)
    except OSError:
        return False


def resident(pid: int, what: str = "VmRSS") -> int:
    """Bytes that a process has resident, or ("VmHWM") had at most; 0 when it is gone."""
    lines = (line.split() for line in text(PROC / str(pid) / "status").splitlines())
    return next((int(words[1]) * KIB for words in lines if words[0] == f"{what}:"), 0)


def _left(server: int, data: Path) -> list[str]:
    """What a fold or an upload left behind; processes that wait for the next fold have no request yet."""
    waiting = [folder for folder in (data / "jobs").iterdir() if not (folder / "request.json").exists()]
    ready = {pid for folder in waiting for pid in _works_in(folder, server)}
    ready |= {pid for pid in children(server) if _is_template(pid)}
    processes = [f"{pid} {text(PROC / str(pid) / 'cmdline')}" for pid in descendants(server) if pid not in ready]
    files = [*(data / "jobs").iterdir(), *(data / "blobs" / "partial").iterdir()]
    return processes + [str(path) for path in files if path not in waiting]
