"""Health, metrics and version: for operators and monitoring."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from service.gauges import observe
from service.http.access import Caller, may
from service.openapi.answers import OF_KEYS, Responses, problems
from service.problems import Problem
from service.process.walls import Kind
from service.state import Here, Service
from service.threads import in_thread

router = APIRouter(tags=["server"])

PACKAGES = ("bnfold", "onnx", "onnxruntime", "numpy")


class AliveView(BaseModel):
    """The server is alive."""

    status: Literal["alive"] = "alive"


Check = Literal["ok", "failed"]


class ReadyView(BaseModel):
    """Whether the server can accept work, and the result of each check."""

    status: Literal["ready", "not ready"]
    disk: Check
    ledger: Check
    engine: Check
    sandbox: Kind


class VersionView(BaseModel):
    """The versions, and the settings that a client can need."""

    bnfold: str
    onnx: str
    onnxruntime: str
    numpy: str
    sandbox: bool
    max_upload_bytes: int


NOT_READY: dict[str, Any] = {"model": ReadyView, "description": "It cannot take work now, and why"}
FIGURES: Responses = {200: {"description": "The figures", "content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.get("/livez", operation_id="livez")
async def livez() -> AliveView:
    """Report that the server is alive."""
    return AliveView()


@router.get("/readyz", operation_id="readyz", response_model=ReadyView, responses={503: NOT_READY})
async def readyz(here: Here) -> Response:
    """Report whether the server can accept work: there is disk space, the ledger is writable, the engine runs jobs."""
    checks = await _checks(here)
    ready = all(checks.values()) and not here.changes.closing
    body = {
        "status": "ready" if ready else "not ready",
        **{name: "ok" if ok else "failed" for name, ok in checks.items()},
        "sandbox": here.sandbox,
    }
    return JSONResponse(body, 200 if ready else 503)


@router.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={**FIGURES, **problems(*OF_KEYS)},
)
async def metrics(_: Annotated[Caller, Depends(may("metrics"))], here: Here) -> Response:
    """Metrics for Prometheus."""
    await observe(here, await _checks(here))
    return Response(generate_latest(here.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/version", operation_id="version")
async def versions(here: Here) -> VersionView:
    """Report the versions of the server and its packages."""
    packages: dict[str, Any] = {name: version(name) for name in PACKAGES}
    return VersionView(**packages, sandbox=here.sandbox != "none", max_upload_bytes=here.settings.max_upload_bytes)


async def _checks(here: Service) -> dict[str, bool]:
    return {"disk": await _disk(here), "ledger": await _ledger(here), "engine": here.engine.works}


async def _disk(here: Service) -> bool:
    try:
        await here.storage.make_room()
    except (Problem, OSError, SQLAlchemyError):
        return False
    return True


async def _ledger(here: Service) -> bool:
    try:
        await in_thread(here.ledger.check)
    except (SQLAlchemyError, OSError):
        return False
    return True
