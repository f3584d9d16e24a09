"""Health, metrics and version: for what runs and watches the server."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError

from service.access import Caller, may
from service.problems import Problem
from service.state import Here, Service
from service.threads import in_thread

router = APIRouter(tags=["server"])

PACKAGES = ("bnfold", "onnx", "onnxruntime", "numpy")


@router.get("/livez", operation_id="livez")
async def livez() -> dict[str, str]:
    """The server answers."""
    return {"status": "alive"}


@router.get("/readyz", operation_id="readyz", responses={503: {"description": "It cannot take work now, and why"}})
async def readyz(here: Here) -> Response:
    """The server can take work: there is disk space, the ledger can be written, the engine delivers."""
    checks = {"disk": _disk(here), "ledger": await _ledger(here), "engine": here.engine.works}
    ready = all(checks.values()) and not here.changes.closing
    told = {
        "status": "ready" if ready else "not ready",
        **{name: "ok" if ok else "failed" for name, ok in checks.items()},
    }
    return JSONResponse(told, 200 if ready else 503)


@router.get("/metrics", operation_id="metrics", response_class=Response)
async def metrics(_: Annotated[Caller, Depends(may("metrics"))], here: Here) -> Response:
    """Figures for Prometheus."""
    waiting, oldest = await in_thread(here.ledger.queue)
    here.metrics.waiting.set(waiting)
    here.metrics.oldest.set(0 if oldest is None else time.time() - oldest)
    return Response(generate_latest(here.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/version", operation_id="version")
async def versions(here: Here) -> dict[str, Any]:
    """What runs here."""
    told: dict[str, Any] = {name: version(name) for name in PACKAGES}
    return told | {"sandbox": here.is_sandboxed, "max_upload_bytes": here.settings.max_upload_bytes}


def _disk(here: Service) -> bool:
    try:
        here.storage.blobs.require_space()
    except (Problem, OSError):
        return False
    return True


async def _ledger(here: Service) -> bool:
    try:
        await in_thread(here.ledger.check)
    except (SQLAlchemyError, OSError):
        return False
    return True
