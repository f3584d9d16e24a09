"""The clock of the system jumps, by eight days and back, and nothing that is kept becomes older by that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from service.settings import DAY
from tests.support.service.server import Running, ended, held, model_bytes, submit
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

real = time.time


@pytest.fixture
def jump(monkeypatch) -> Callable[[float], None]:
    def by(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + seconds)

    return by


def swept(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait until the server has looked for what it can remove, twice: one look may have begun before."""
    storage, looks = running.app.state.service.storage, []
    honest = storage.sweep

    async def look(*args: float) -> int:
        count: int = await honest(*args)
        looks.append(count)
        return count

    monkeypatch.setattr(storage, "sweep", look)
    until(lambda: len(looks) > 1)


@pytest.mark.parametrize("days", [8, -8, 8000])
@pytest.mark.parametrize("when", ["while it runs", "between two servers"])
def test_a_jump_removes_nothing(tmp_path, monkeypatch, jump, days, when):
    with Running(tmp_path / "data", sweep_seconds=0.05) as running:
        first = running.client.post("/v1/fold", content=model_bytes())
        failed = submit(running.client, b"x")
        ended(running.client, failed)
        if when == "while it runs":
            jump(days * DAY)
            swept(running, monkeypatch)
            result = running.client.get(f"/v1/jobs/{first.headers['Bnfold-Job']}/result")
            assert result.content == first.content
            jump(0)
            swept(running, monkeypatch)
    jump(days * DAY)
    with Running(tmp_path / "data", sweep_seconds=0.05) as running:
        swept(running, monkeypatch)
        assert running.client.get(f"/v1/jobs/{failed}").status_code == 200
        jump(0)
        swept(running, monkeypatch)
        result = running.client.get(f"/v1/jobs/{first.headers['Bnfold-Job']}/result")
        assert result.content == first.content


def test_a_jump_lets_no_job_wait_for_longer(tmp_path, jump):
    """A key whose jobs wait for too long is sent away: see `max_queue_seconds`."""
    with Running(tmp_path / "data", workers=1) as running:
        for seed in range(3):
            submit(running.client, held(tmp_path / "gate", seed))
        jump(8 * DAY)
        last = submit(running.client, model_bytes())
        (tmp_path / "gate").touch()
        assert ended(running.client, last)["status"] == "done"


def test_what_was_not_used_while_a_server_ran_goes_still(tmp_path):
    with Running(tmp_path / "data", sweep_seconds=0.05) as running:
        job = running.client.post("/v1/fold", content=model_bytes()).headers["Bnfold-Job"]
        running.app.state.service.ledger._database.clock._stored += 8 * DAY  # it ran for so long
        until(lambda: running.client.get(f"/v1/jobs/{job}").status_code == 404)
