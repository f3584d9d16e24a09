"""Inspections are no jobs of the ledger, and are bounded as jobs are."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from service.ledger.records import Quota
from tests.service.http.test_http import guarded, make_key, slug
from tests.support.service.server import held, model_bytes
from tests.support.waiting import until

__all__ = ["guarded"]  # a fixture


def test_inspections_are_jobs_too(guarded, tmp_path):
    headers, other = make_key(guarded, quota=Quota(open_jobs=1)), make_key(guarded, quota=Quota(open_jobs=1))
    with ThreadPoolExecutor() as threads:
        first = threads.submit(guarded.client.post, "/v1/inspect", content=held(tmp_path / "gate"), headers=headers)
        engine = guarded.app.state.service.engine
        until(engine._inspecting.total)
        refused = guarded.client.post("/v1/inspect", content=model_bytes(), headers=headers)
        assert (slug(refused), refused.headers["Retry-After"]) == ("quota-exceeded", "30")
        assert guarded.client.post("/v1/inspect", content=model_bytes(), headers=other).status_code == 200
        (tmp_path / "gate").touch()
        assert first.result().status_code == 200
    assert not engine._inspecting
    assert guarded.client.post("/v1/inspect", content=model_bytes(), headers=headers).status_code == 200


def test_inspections_that_wait_are_bounded(guarded, monkeypatch):
    headers, engine = make_key(guarded), guarded.app.state.service.engine
    most = guarded.settings.max_queue
    monkeypatch.setattr(engine, "_inspecting", Counter({"another": most}))
    assert slug(guarded.client.post("/v1/inspect", content=model_bytes(), headers=headers)) == "busy"
