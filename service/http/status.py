"""/status: what waits, what runs, and who works, for operators. It changes nothing."""

from __future__ import annotations

import time
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from service.http.access import Caller, may
from service.http.headers import preferred
from service.openapi.answers import HTML_TYPE, JSON_TYPE, OF_KEYS, problems
from service.openapi.headers import accept
from service.state import Here
from service.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

router = APIRouter(tags=["server"])

HEADERS = {
    "Cache-Control": "no-store",
    "Vary": "Accept",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>bnfold</title><style>
body {{ font: 15px system-ui; margin: 2em }} table {{ border-collapse: collapse; margin-bottom: 2em }}
th, td {{ padding: .3em 1em; text-align: left; border-bottom: 1px solid #bbb }}
</style></head><body><h1>{engine}</h1>{tables}</body></html>"""


class StandingView(BaseModel):
    """The open jobs of a key, and the seconds that the one waits that has waited longest."""

    key: str
    waiting: int
    running: int
    parked: int
    oldest: float | None


class WorkerView(BaseModel):
    """A worker: its jobs, and the seconds since its last sign of life."""

    id: int
    name: str
    engine: str
    slots: int
    running: int
    draining: bool
    age: float | None


class StatusView(BaseModel):
    """What waits, what runs, and who works."""

    engine: str
    keys: list[StandingView]
    workers: list[WorkerView]


@router.get(
    "/status",
    operation_id="status",
    response_model=StatusView,
    responses={200: {"content": {HTML_TYPE: {"schema": {"type": "string"}}}}, **problems(*OF_KEYS)},
    openapi_extra={"parameters": [accept(JSON_TYPE, HTML_TYPE)]},
)
async def status(request: Request, _: Annotated[Caller, Depends(may("metrics"))], here: Here) -> Response:
    """What waits, what runs, and which workers there are; as a page with `Accept: text/html`."""
    now = time.time()
    keys = [
        StandingView(
            key=one.key,
            waiting=one.waiting,
            running=one.running,
            parked=one.parked,
            oldest=None if one.since is None else round(max(now - one.since, 0), 3),
        )
        for one in await in_thread(here.ledger.standings)
    ]
    workers = [
        WorkerView(
            **{name: value for name, value in asdict(one).items() if name in WorkerView.model_fields},
            running=len(one.jobs),
        )
        for one in await here.engine.workers()
    ]
    view = StatusView(engine=here.engine_version, keys=keys, workers=workers)
    if preferred(request.headers.get("accept"), (JSON_TYPE, HTML_TYPE)) == HTML_TYPE:
        return Response(_page(view), 200, HEADERS, HTML_TYPE)
    return JSONResponse(view.model_dump(), headers={"Cache-Control": "no-store", "Vary": "Accept"})


def _page(view: StatusView) -> str:
    tables = [
        _table("Keys", list(StandingView.model_fields), (one.model_dump().values() for one in view.keys)),
        _table("Workers", list(WorkerView.model_fields), (one.model_dump().values() for one in view.workers)),
    ]
    return PAGE.format(engine=escape(view.engine), tables="".join(tables))


def _table(title: str, names: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{_shown(value)}</td>' for value in row)}</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _shown(value: object) -> str:
    return "" if value is None else escape(f"{value:.1f}" if isinstance(value, float) else str(value))
