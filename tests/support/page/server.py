"""A service for the tests of the page: it speaks the same HTTP and folds in its own process, slowly where asked to.

The name of an upload says what is to happen to it: "slow" takes its time, "wrong" fails its verification,
"busy" is refused. Everything else is folded as the library folds it.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any

import onnx
import uvicorn
from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from onnx import numpy_helper

import folding
from folding.errors import FoldingError, ModelError
from folding.options import Options
from folding.report.errors import NothingToFoldError, TargetError, VerificationError
from folding.report.html import render_html
from service.http.middleware import SAFE_HEADERS
from service.options import FoldQuery  # noqa: TC001  FastAPI reads the annotation
from service.problems import as_dict
from tests.support import ROOT
from tests.support.waiting import FOREVER, PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from folding import Report

STATIC = ROOT / "service" / "static"
POLICY = SAFE_HEADERS["Content-Security-Policy"]
SLOW_STEP = 0.12  # seconds between two steps of a slow fold: visible to a test, bearable for who waits
STEPS = 5
POLL = 0.01  # seconds between two looks at a job that somebody waits for
LONG = 5000  # times as slow: what is very slow is cancelled, not waited for
SHARES = {"folding": (0.0, 0.3), "writing": (0.3, 0.3), "verifying": (0.6, 0.4)}  # where a stage begins, its part
SLUGS = {
    ModelError: "invalid-model",
    VerificationError: "verification-failed",
    NothingToFoldError: "nothing-to-fold",
    TargetError: "target-refused",
}


@dataclass
class Job:
    """One fold and its state, in the form that the service gives it."""

    id: str
    name: str
    folder: Path
    options: Options
    status: str = "queued"
    stage: str | None = None
    progress: float = 0.0
    problem: dict[str, Any] | None = None
    report: Report | None = None
    version: int = 0
    sent_version: int = 0  # the last that was sent to somebody
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def source(self) -> Path:
        return self.folder / "in.onnx"

    @property
    def target(self) -> Path:
        return self.folder / "out.onnx"

    def change(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self, name, value)
        self.version += 1

    @property
    def tag(self) -> str:
        return f'"{self.version}"'

    @property
    def has_ended(self) -> bool:
        return self.status in {"done", "failed", "cancelled"}

    def document(self) -> dict[str, Any]:
        self.sent_version = self.version
        place = f"/v1/jobs/{self.id}"
        written = self.status == "done"
        return {
            "id": self.id,
            "status": self.status,
            "stage": self.stage,
            "progress": self.progress,
            "created": "2026-11-20T10:00:00Z",
            "updated": "2026-11-20T10:00:01Z",
            "attempts": 1,
            "name": self.name,
            "input": {"sha256": digest(self.source), "bytes": self.source.stat().st_size},
            "options": {"verify": self.options.verify},
            "result": {
                "sha256": digest(self.target),
                "bytes": self.target.stat().st_size,
                "href": f"{place}/result",
            }
            if written
            else None,
            "report": {"href": f"{place}/report"} if self.report else None,
            "problem": self.problem,
            "links": {"self": place, "result": f"{place}/result", "report": f"{place}/report"},
        }


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refusal(slug: str, detail: str, **headers: str) -> JSONResponse:
    problem = as_dict(slug, detail)
    return JSONResponse(problem, problem["status"], headers, "application/problem+json")


class Fake:
    """The state of the fake service: its jobs, and the API key it asks for, if any."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: dict[str, Job] = {}
        self.key: str | None = None
        self.url = ""
        self._numbers = count()
        self._done: dict[tuple[str, Options], tuple[Report, bytes]] = {}
        self.app = self._app()

    def work(self, job: Job) -> None:
        """Fold, in a thread of its own; the job says how far it is."""
        try:
            if "slow" in job.name:
                self._take_time(job)
            if job.stopped.is_set():
                job.change(status="cancelled", problem=as_dict("cancelled", "You stopped it."))
                return
            job.change(status="running")
            report = self._folded(job)
            if "wrong" in job.name:
                report = self._damaged(job, report)
                job.change(report=report)
                raise VerificationError(f"{job.name}: the folded model differs: {report.verification.reason}", report)
            job.change(status="done", stage=None, progress=1.0, report=report)
        except FoldingError as error:
            slug = next((slug for kind, slug in SLUGS.items() if isinstance(error, kind)), "invalid-option")
            job.report = getattr(error, "report", None)
            job.change(status="failed", stage=None, problem=as_dict(slug, str(error)))

    def _folded(self, job: Job) -> Report:
        """Fold it, or take what came of the same model with the same options before, as the service does."""
        known = (digest(job.source), job.options)
        if known not in self._done:
            progress = None if "slow" in job.name else self._progress(job)  # it has reported it all
            report = folding.fold(job.source, job.target, job.options, progress=progress)
            self._done[known] = (report, job.target.read_bytes())
        report, data = self._done[known]
        job.target.write_bytes(data)
        return report

    @staticmethod
    def _take_time(job: Job) -> None:
        """A step is taken when somebody has seen the one before: none is over before the page knows of it."""
        for stage, (begins, part) in SHARES.items():
            for step in range(1, STEPS):
                job.change(status="running", stage=stage, progress=begins + part * step / STEPS)
                until(lambda: job.sent_version == job.version or job.stopped.is_set(), FOREVER)
                if job.stopped.wait(SLOW_STEP * (LONG if "very" in job.name else 1)):
                    return

    @staticmethod
    def _progress(job: Job) -> Any:
        def progress(stage: str, done: int, total: int) -> None:
            begins, part = SHARES[stage]
            job.change(stage=stage, progress=begins + part * (done / total if total else 0))

        return progress

    @staticmethod
    def _damaged(job: Job, report: Report) -> Report:
        """The report of the fold as if a weight had been folded wrongly: really compared, and really found."""
        model = onnx.load(job.target)
        weight = model.graph.initializer[0]
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.5, weight.name))
        onnx.save(model, job.target)
        return replace(report, verification=folding.verify(job.source, job.target))

    def _app(self) -> FastAPI:
        app = FastAPI()
        app.mount("/static", StaticFiles(directory=STATIC))
        app.middleware("http")(self.guard)
        app.get("/")(self.page)
        app.post("/v1/fold")(self.fold)
        app.post("/v1/inspect")(self.inspect)
        app.get("/v1/jobs/{job}")(self.state)
        app.delete("/v1/jobs/{job}")(self.cancel)
        app.get("/v1/jobs/{job}/result")(self.result)
        app.get("/v1/jobs/{job}/report")(self.report)
        return app

    async def guard(self, request: Request, call_next: Any) -> Response:
        asked = request.url.path.startswith("/v1") and self.key is not None
        if asked and request.headers.get("Authorization") != f"Bearer {self.key}":
            return refusal("unauthorized", "A key is needed: send it as Authorization: Bearer KEY.")
        answer: Response = await call_next(request)
        answer.headers["Content-Security-Policy"] = POLICY
        answer.headers["X-Content-Type-Options"] = "nosniff"
        if request.url.path.startswith("/static"):
            answer.headers["Cache-Control"] = "max-age=600"  # one test after the other loads them
        return answer

    async def page(self) -> FileResponse:
        return FileResponse(STATIC / "index.html")

    async def fold(self, request: Request, query: Annotated[FoldQuery, Query()]) -> Response:
        name, options = asked(query)
        if "busy" in name:
            return refusal("busy", "All workers are busy; try again in 3 seconds.", **{"Retry-After": "3"})
        folder = await self._received(request)
        job = Job(hashlib.sha256(str(folder).encode()).hexdigest(), name, folder, options)
        self.jobs[job.id] = job
        threading.Thread(target=self.work, args=(job,), daemon=True).start()
        return JSONResponse(job.document(), 202, {"Location": f"/v1/jobs/{job.id}"})

    async def inspect(self, request: Request, query: Annotated[FoldQuery, Query()]) -> Response:
        _, options = asked(query)
        folder = await self._received(request)
        report = await asyncio.to_thread(folding.inspect, folder / "in.onnx", options)
        return JSONResponse(report.as_dict())

    async def _received(self, request: Request) -> Path:
        folder = self.folder / str(next(self._numbers))
        folder.mkdir()
        with (folder / "in.onnx").open("wb") as file:
            async for block in request.stream():
                file.write(block)
        return folder

    async def state(self, request: Request, job: str, wait: float = 0) -> Response:
        if (found := self.jobs.get(job)) is None:
            return refusal("not-found", "There is no such job, or it was removed.")
        known, end = request.headers.get("If-None-Match", found.tag), time.monotonic() + wait
        while not found.has_ended and found.tag == known and time.monotonic() < end:
            await asyncio.sleep(POLL)
        tag = found.tag  # before the state: a newer tag on an older state would be answered with 304 for ever
        if tag == request.headers.get("If-None-Match"):
            return Response(status_code=304)
        return JSONResponse(found.document(), headers={"ETag": tag})

    async def cancel(self, job: str) -> Response:
        self.jobs[job].stopped.set()
        return Response(status_code=204)

    async def result(self, job: str) -> FileResponse:
        return FileResponse(self.jobs[job].target, media_type="application/octet-stream")

    async def report(self, job: str, accept: Annotated[str, Header()] = "application/json") -> Response:
        report = self.jobs[job].report
        assert report is not None
        return HTMLResponse(render_html(report)) if "html" in accept else JSONResponse(report.as_dict())


def asked(query: Any) -> tuple[str, Options]:
    """The name and the options of a request."""
    given = query.model_dump()
    return given.pop("name"), Options(**given)


@contextmanager
def serving(folder: Path) -> Iterator[Fake]:
    """The fake service on a free port of loopback, until the end of the block."""
    fake = Fake(folder)
    server = uvicorn.Server(uvicorn.Config(fake.app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    fake.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        for job in fake.jobs.values():
            job.stopped.set()
        server.should_exit = True
        server.force_exit = True
        thread.join(PATIENCE)
