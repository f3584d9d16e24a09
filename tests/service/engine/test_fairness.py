"""Fairness, with real folds: who comes late is next, behind any number of jobs of another key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.ledger import records
from service.ledger.records import Quota
from tests.service.http.test_http import make_key
from tests.support.service.server import Running, held, model_bytes
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


def ask(running: Running, headers: dict[str, str], data: bytes) -> str:
    answer = running.client.post("/v1/fold", content=data, headers=headers | {"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def status(running: Running, headers: dict[str, str], job: str) -> str:
    return str(running.client.get(f"/v1/jobs/{job}", headers=headers).json()["status"])


@pytest.mark.parametrize("many", [1, 40])
def test_a_fold_waits_for_one_of_another_key_at_most(tmp_path: Path, many: int) -> None:
    with Running(tmp_path / "data", workers=1, require_keys=True) as running:
        running.app.state.service.engine._turns._extra = False
        loud, quiet = make_key(running), make_key(running)
        gates = [tmp_path / f"gate{number}" for number in range(many)]
        jobs = [ask(running, loud, held(gate, seed)) for seed, gate in enumerate(gates)]
        until(lambda: status(running, loud, jobs[0]) == "running")
        mine = ask(running, quiet, model_bytes(1000))
        assert status(running, quiet, mine) == "queued"
        gates[0].touch()  # the one that runs ends, and none of the others can
        until(lambda: status(running, quiet, mine) == "done")
        assert "done" not in [status(running, loud, job) for job in jobs[1:]]
        for gate in gates:
            gate.touch()


def test_a_small_fold_does_not_wait_for_large_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SMALL_BYTES", len(model_bytes()))
    with Running(tmp_path / "data", workers=1) as running:
        gate = tmp_path / "gate"
        large = [ask(running, {}, held(gate, seed)) for seed in range(3)]
        until(lambda: status(running, {}, large[0]) == "running")
        assert running.client.post("/v1/fold", content=model_bytes()).status_code == 200
        assert [status(running, {}, job) for job in large] == ["running", "queued", "queued"]
        gate.touch()


def test_what_a_client_waits_for_goes_before_what_it_does_not(tmp_path):
    with Running(tmp_path / "data", workers=1) as running:
        running.app.state.service.engine._turns._extra = False
        gates = [tmp_path / f"gate{number}" for number in range(4)]
        jobs = [ask(running, {}, held(gate, seed)) for seed, gate in enumerate(gates)]
        until(lambda: status(running, {}, jobs[0]) == "running")
        last = running.client.post("/v1/fold", content=held(gates[3], 3), headers={"Prefer": "wait=0"})  # again
        assert last.json()["id"] == jobs[3]
        gates[0].touch()
        until(lambda: status(running, {}, jobs[3]) == "running")
        for gate in gates:
            gate.touch()


def test_inspections_do_not_wait_for_folds(tmp_path):
    with Running(tmp_path / "data", workers=1) as running:
        gate = tmp_path / "gate"
        jobs = [ask(running, {}, held(gate, seed)) for seed in range(3)]
        assert running.client.post("/v1/inspect", content=model_bytes()).status_code == 200
        assert "done" not in [status(running, {}, job) for job in jobs]
        gate.touch()


def test_a_key_has_the_turns_of_its_weight(tmp_path):
    with Running(tmp_path / "data", workers=1, require_keys=True) as running:
        running.app.state.service.engine._turns._extra = False
        light, heavy = make_key(running), make_key(running, quota=Quota(weight=2))
        gates = [tmp_path / f"gate{number}" for number in range(7)]
        first = ask(running, light, held(gates[0], 0))
        until(lambda: status(running, light, first) == "running")
        jobs = [(light, ask(running, light, held(gates[seed], seed)), gates[seed]) for seed in (1, 2)]
        jobs += [(heavy, ask(running, heavy, held(gates[seed], seed)), gates[seed]) for seed in (3, 4, 5, 6)]
        gates[0].touch()
        order, left = [], list(jobs)
        while left:
            until(lambda: any(status(running, headers, job) == "running" for headers, job, _ in left))
            (now,) = [one for one in left if status(running, one[0], one[1]) == "running"]
            order.append("heavy" if now[0] is heavy else "light")
            left.remove(now)
            now[2].touch()
            until(lambda now=now: status(running, now[0], now[1]) == "done")
        assert order[:3].count("heavy") == 2
