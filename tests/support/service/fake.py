"""A service that does as a test asks: the agreed HTTP API in one process, with failures on order.

It folds what it gets, at once; what the test puts into `failures` is answered instead, and `held` keeps jobs running.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from folding import api
from folding.archive.reader import read_archive
from folding.archive.writer import write_archive
from folding.options import Options, option_fields
from folding.report.errors import NothingToFoldError, ReportedError, TargetError, VerificationError
from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from folding.report.model import Report

SLUGS = {
    NothingToFoldError: "nothing-to-fold",
    TargetError: "target-refused",
    VerificationError: "verification-failed",
}
HELD_STEP = 0.05  # seconds of a long poll while jobs are held


def problem(slug: str, status: int, detail: str = "it was ordered", **headers: str) -> Response:
    body = {"type": f"/problems/{slug}", "title": slug.title(), "status": status, "detail": detail}
    return JSONResponse(body, status, headers, "application/problem+json")


@dataclass
class Fake:
    """The state of the service, for a test to look into and to spoil."""

    folder: Path
    failures: dict[str, list[Any]] = field(default_factory=dict)  # "POST /v1/fold": answers to give before the true one
    requests: list[tuple[str, Any]] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)  # idempotency keys and their jobs
    held: bool = False
    spoil: Any = None  # called with the path of a result before it is offered
    instead: list[bytes] = field(default_factory=list)  # results to offer before the true one
    after: dict[str, Any] = field(default_factory=dict)  # what becomes of a job instead
    digest: str | None = None  # what Repr-Digest says instead of the truth

    def named(self, path: str) -> list[Any]:
        return [request for called, request in self.requests if called == path]


def fake_of(request: Request) -> Fake:
    """The state that the running test set up."""
    return request.app.state.current[0]


async def ordered(request: Request, proceed: Any) -> Response:
    fake = fake_of(request)
    called = f"{request.method} {shape(request.url.path)}"
    fake.requests.append((called, request))
    if waiting := fake.failures.get(called):
        await request.body()
        return waiting.pop(0)
    return await proceed(request)


async def fold(request: Request) -> Response:
    fake, data = fake_of(request), await request.body()
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    if request.headers["Repr-Digest"] != f"sha-256=:{digest}:":
        return problem("digest-mismatch", 400)
    job = hashlib.sha256(data + str(request.query_params).encode()).hexdigest()
    if fake.keys.setdefault(request.headers["Idempotency-Key"], job) != job:
        return problem("idempotency-conflict", 422)
    if fake.jobs.get(job, {"status": "cancelled"})["status"] == "cancelled":
        fake.jobs[job] = await run_in_threadpool(work, fake, job, data, request)
    return JSONResponse(document(fake, job), 202, {"Location": f"/v1/jobs/{job}"})


async def inspect(request: Request) -> Response:
    folder = Path(tempfile.mkdtemp(dir=fake_of(request).folder))
    source = received(folder, await request.body(), request)
    report = await run_in_threadpool(api.inspect, source, options(request))
    return JSONResponse(report.with_flags().as_dict())


def status(request: Request, job: str, wait: float = 0) -> Response:
    fake, end = fake_of(request), time.monotonic() + min(wait, HELD_STEP)
    if job not in fake.jobs:
        return problem("not-found", 404)
    while fake.held and time.monotonic() < end:
        time.sleep(HELD_STEP / 5)
    tag = f'"{hashlib.sha256(repr(document(fake, job)).encode()).hexdigest()}"'
    if tag == request.headers.get("If-None-Match"):
        return Response(status_code=304)
    return JSONResponse(document(fake, job), headers={"ETag": tag})


def cancel(request: Request, job: str) -> Response:
    fake_of(request).jobs[job]["status"] = "cancelled"
    return Response(status_code=204)


def result(request: Request, job: str) -> Response:
    fake = fake_of(request)
    path = fake.jobs[job]["path"]
    if fake.instead:
        path = path.with_name("instead")
        path.write_bytes(fake.instead.pop(0))
    data = path.read_bytes()
    sha256 = hashlib.sha256(data)
    shown = base64.b64encode(sha256.digest()).decode() if fake.digest is None else fake.digest
    headers = {"ETag": f'"{sha256.hexdigest()}"', "Repr-Digest": f"sha-256=:{shown}:"}
    media = "application/zip" if data.startswith(b"PK") else "application/octet-stream"
    return FileResponse(path, headers=headers, media_type=media)


def report(request: Request, job: str) -> Response:
    return JSONResponse(fake_of(request).jobs[job]["report"].with_flags().as_dict())


def application(current: list[Fake]) -> FastAPI:
    app = FastAPI()
    app.state.current = current
    app.middleware("http")(ordered)
    for method, path, answer in (
        ("POST", "/v1/fold", fold),
        ("POST", "/v1/inspect", inspect),
        ("GET", "/v1/jobs/{job}", status),
        ("DELETE", "/v1/jobs/{job}", cancel),
        ("GET", "/v1/jobs/{job}/result", result),
        ("GET", "/v1/jobs/{job}/report", report),
    ):
        app.add_api_route(path, answer, methods=[method], response_model=None)
    return app


def shape(path: str) -> str:
    """A path with the id of a job left open, as tests name it."""
    parts = path.split("/")
    return "/".join(["{job}" if index == 3 else part for index, part in enumerate(parts)])


def received(folder: Path, data: bytes, request: Request) -> Path:
    if request.headers["Content-Type"] == "application/zip":
        (folder / "in.zip").write_bytes(data)
        (folder / "in").mkdir()
        return read_archive(folder / "in.zip", folder / "in")
    source = folder / request.query_params.get("name", "model.onnx")
    source.write_bytes(data)
    return source


def options(request: Request) -> Options:
    chosen: dict[str, Any] = {}
    for name, declared in option_fields().items():
        values = request.query_params.getlist(name)
        if not values:
            continue
        default = declared["default"]
        if isinstance(default, tuple):
            chosen[name] = values
        elif isinstance(default, bool):
            chosen[name] = json.loads(values[0])
        else:
            chosen[name] = type(default)(values[0])
    return Options(**chosen)


def work(fake: Fake, job: str, data: bytes, request: Request) -> dict[str, Any]:
    """Fold now; what a job says of it."""
    folder = Path(tempfile.mkdtemp(dir=fake.folder))
    source = received(folder, data, request)
    target = folder / "out" / source.name
    target.parent.mkdir()
    made: dict[str, Any] = {"status": "done", "input": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}}
    try:
        made["report"] = api.fold(source, target, options(request))
    except ReportedError as error:
        slug = SLUGS[type(error)]
        body = json.loads(problem(slug, 422, str(error).replace(f"{source.parent}/", "")).body)
        return made | {"status": "failed", "problem": body, "report": error.report}
    made["path"] = target
    if source.parent.name == "in":
        made["path"] = folder / "out.zip"
        write_archive(target, made["path"])
    if fake.spoil is not None:
        fake.spoil(made["path"])
    return made | fake.after


def document(fake: Fake, job: str) -> dict[str, Any]:
    made = fake.jobs[job]
    plain: dict[str, Any] = {"id": job, "status": made["status"], "stage": None, "progress": 1.0}
    plain |= {"input": made["input"], "problem": made.get("problem"), "result": None}
    report: Report | None = made.get("report")
    plain["report"] = None if report is None else {"href": f"/v1/jobs/{job}/report"}
    if fake.held and made["status"] == "done":
        return plain | {"status": "running", "stage": "folding", "progress": 0.25, "report": None}
    if made["status"] == "done":
        data = made["path"].read_bytes()
        plain["result"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return plain


@contextmanager
def serving(current: list[Fake]) -> Iterator[str]:
    """The address of the service while it runs; `current[0]` is its state."""
    config = uvicorn.Config(
        application(current), host="127.0.0.1", port=0, log_config=None, ws="none", lifespan="off", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


class Wire:
    """A connection to the service that breaks: each one passes on so many bytes up and down, then is cut."""

    def __init__(self, url: str, cuts: list[tuple[int | None, int | None]]) -> None:
        self._target = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._cuts = cuts  # of the next connections; None passes on everything
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self.sent = b""  # what clients have sent through it
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            far = socket.create_connection(self._target)
            up, down = self._cuts.pop(0) if self._cuts else (None, None)
            for ends, allowed, on_data in (((near, far), up, self._note), ((far, near), down, len)):
                way = (*ends, allowed, on_data)
                self._threads.append(threading.Thread(target=self._pass_on, args=way, daemon=True))
                self._threads[-1].start()

    def _note(self, data: bytes) -> None:
        self.sent += data

    @staticmethod
    def _pass_on(
        source: socket.socket, target: socket.socket, allowed: int | None, on_data: Callable[[bytes], None]
    ) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                on_data(data)
                if allowed is not None and len(data) >= allowed:
                    target.sendall(data[:allowed])
                    break
                target.sendall(data)
                allowed = None if allowed is None else allowed - len(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
