"""/docs and /problems: the interface and the types of problems, as pages."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from service.openapi import page
from service.problems import KINDS, TYPE, Problem
from service.state import Here

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs(request: Request, here: Here) -> HTMLResponse:
    """The interface, as a page."""
    return HTMLResponse(page.interface(request.app.openapi(), here.settings.root_path))


@router.get(TYPE)
async def problems(here: Here) -> HTMLResponse:
    """All types of problems."""
    return HTMLResponse(page.problems(here.settings.root_path))


@router.get(TYPE + "{slug}")
async def problem(slug: str, here: Here) -> HTMLResponse:
    """One type of problem: where the `type` of a problem leads."""
    if slug not in KINDS:
        raise Problem("not-found", f"there is no such type of problem; {TYPE} lists all")
    return HTMLResponse(page.problem(slug, here.settings.root_path))
