"""The application: the routes, the handlers that report errors as problems, and the lifespan of the server."""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route
from starlette.staticfiles import StaticFiles

from service.auth.audit import audit
from service.blobs import StoreError
from service.http import batches as routes_batches
from service.http import blobs as routes_blobs
from service.http import fold as routes_fold
from service.http import health as routes_health
from service.http import jobs as routes_jobs
from service.http import mine as routes_mine
from service.http import reference as routes_reference
from service.http import resumable as routes_resumable
from service.http import status as routes_status
from service.http.middleware import DOORS, LOOPBACK_NAMES, Around, log_fields
from service.openapi.document import finished
from service.openapi.events import events
from service.problems import Problem, respond
from service.process.forkserver import Program
from service.state import lock, make_service
from service.threads import in_thread
from service.webhook.receivers import Receivers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from service.settings import Settings

LOG = logging.getLogger("bnfold")
NO_LEDGER = "the server cannot read or write its ledger now, so nothing was accepted; try again later"
NO_STORE = "the server cannot use its blob store now; try again later"
LEDGER_AGAIN = {"Retry-After": "10"}
STATIC = Path(__file__).parents[1] / "static"
ROUTES = (
    routes_fold, routes_batches, routes_resumable, routes_mine, routes_jobs, routes_blobs, routes_health, routes_status,
    routes_reference,
)  # fmt: skip
ASKED_FOR_AGAIN = {"Cache-Control": "no-cache"}
THREADS = 32  # operations that may wait for the disk at the same time
CLIENT_LEFT = 499  # nginx logs the same status; no client reads the response
DESCRIPTION = """\
Fold BatchNormalization and other per-channel affine maps into the weights of an ONNX model.

    curl -fT model.onnx http://127.0.0.1:8000/v1/fold -o folded.onnx
"""
# What newer versions of the framework could record by themselves has whole URLs; `service.tracing` has the spans.
NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False}
OF_THE_FRAMEWORK = {404: "not-found", 405: "method-not-allowed", 416: "range-not-satisfiable"}


class Application(FastAPI):
    """FastAPI, with an OpenAPI document that is completed for these settings."""

    def __init__(self, settings: Settings, **given: Any) -> None:
        super().__init__(**given)
        self._settings = settings

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            self.openapi_schema = finished(super().openapi(), self._settings)
        return self.openapi_schema


class Page(StaticFiles):
    """The files of the page. A browser revalidates them each time; the status is 304 if nothing changed."""

    def file_response(self, *given: Any, **named: Any) -> Response:
        """The response with one file."""
        response = super().file_response(*given, **named)
        response.headers.update(ASKED_FOR_AGAIN)
        return response


def create_app(settings: Settings, program: Program | None = None, receivers: Receivers | None = None) -> FastAPI:
    """The service as an ASGI application. It locks the data folder from its start-up to its shutdown.

    Tests replace `program`, which child processes run, and `receivers`, which sends webhooks. Start-up raises
    RuntimeError if another server uses the folder, or if the sandbox is required and does not work.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncGenerator[None]:
        right = lock(settings.data)
        try:
            with ThreadPoolExecutor(THREADS, "bnfold") as threads:
                asyncio.get_running_loop().set_default_executor(threads)
                app.state.service = service = make_service(settings, program or Program(), receivers or Receivers())
                await service.engine.start()
                await service.partials.start(settings.sweep_seconds)
                service.webhooks.start()
                service.guests.start()
                yield
                service.changes.close()
                seconds = settings.shutdown_seconds
                await service.guests.stop()
                await service.partials.stop()
                await asyncio.gather(service.engine.stop(seconds), service.webhooks.stop(seconds))
                service.ledger.close()
                await in_thread(service.traces.close)
        finally:
            os.close(right)

    about = {"title": "bnfold", "version": version("bnfold"), "description": DESCRIPTION, "webhooks": events}
    plain = {"docs_url": None, "redoc_url": None, "redirect_slashes": False, "telemetry": NO_TELEMETRY}
    app = Application(settings, lifespan=life, **about, **plain)
    for routes in ROUTES:
        _answer_head(routes.router)
        app.include_router(routes.router)
    _add_page(app)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(SQLAlchemyError, _without_ledger)
    app.add_exception_handler(StoreError, _without_store)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_the_framework)
    app.add_exception_handler(ClientDisconnect, _left)
    names = (
        (*map(str.lower, settings.allowed_hosts), *LOOPBACK_NAMES)
        if settings.allowed_hosts or settings.is_loopback
        else ()
    )
    app.add_middleware(Around, names=names, root=settings.root_path)
    return app


def _answer_head(router: APIRouter) -> None:
    """Let every operation that answers GET answer HEAD, too, RFC 9110; the document describes those that differ."""
    routes = [route for route in router.routes if isinstance(route, APIRoute)]
    answered = {route.path for route in routes if "HEAD" in (route.methods or ())}
    for route in routes:
        if "GET" in (route.methods or ()) and route.path not in answered:
            given = {"response_class": route.response_class, "response_model": route.response_model}
            path = route.path.removeprefix(router.prefix)
            router.add_api_route(path, route.endpoint, methods=["HEAD"], include_in_schema=False, **given)


def _add_page(app: FastAPI) -> None:
    if not STATIC.is_dir():
        return
    app.mount("/static", Page(directory=STATIC))

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=ASKED_FOR_AGAIN)


async def _problem(request: Request, error: Exception) -> Response:
    problem = error if isinstance(error, Problem) else Problem("internal", "")
    service = request.app.state.service
    service.metrics.refusals.labels(problem.slug).inc()
    if problem.slug in DOORS:
        audit(service.settings.data, "refused", problem=problem.slug, **log_fields(request.scope))
    return respond(problem, service.settings.root_path)


async def _without_ledger(request: Request, error: Exception) -> Response:
    cause = str(getattr(error, "orig", None) or error).partition("\n")[0]
    LOG.error("the ledger cannot be used: %s", cause, extra={"request": request.state.request_id})
    return await _problem(request, Problem("unavailable", NO_LEDGER, headers=LEDGER_AGAIN))


async def _without_store(request: Request, error: Exception) -> Response:
    LOG.error("the blob store cannot be used: %s", error, extra={"request": request.state.request_id})
    return await _problem(request, Problem("unavailable", NO_STORE, headers=LEDGER_AGAIN))


async def _invalid(request: Request, error: Exception) -> Response:
    """Answer with all errors that the framework found in the parameters, as one problem."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    detail = "; ".join(_described(".".join(str(part) for part in e["loc"][1:]), e) for e in found)
    return await _problem(request, Problem("invalid-option", detail))


def _described(name: str, error: dict[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return f"there is no option {name!r:.100}; /docs lists those that there are"
    return f"{name}: {error['msg'].lower()}"


async def _of_the_framework(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = {name.lower(): value for name, value in (getattr(error, "headers", None) or {}).items()}
    if status == HTTPStatus.METHOD_NOT_ALLOWED and (allowed := _allowed(request)):
        headers["allow"] = ", ".join(allowed)
    slug = OF_THE_FRAMEWORK.get(status, "bad-request" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "internal")
    details = {
        "not-found": f"there is nothing at {request.url.path}; {_document(request)} lists what there is",
        "method-not-allowed": f"{request.method} is not allowed here; {headers.get('allow', 'another method')} is",
    }
    return await _problem(request, Problem(slug, details.get(slug, HTTPStatus(status).phrase), headers=headers))


def _document(request: Request) -> str:
    return f"{request.app.state.service.settings.root_path}/docs"


def _allowed(request: Request) -> list[str]:
    """The methods of a path. The framework reports only those of the first matching route."""
    found: set[str] = set()
    for routes in ROUTES:
        for route in routes.router.routes:
            if isinstance(route, Route) and route.matches(request.scope)[0] != Match.NONE:
                found |= route.methods or set()
    return sorted(found)


async def _left(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)
