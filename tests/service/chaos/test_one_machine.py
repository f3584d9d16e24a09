"""Chaos on one machine. CHAOS_SEEDS says how often each scenario happens alone, CHAOS_OUT where the records go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.service.chaos.models import Real
from tests.service.chaos.one_machine import SCENARIOS, OneMachine
from tests.service.chaos.run import name_of, run, runs, seeds
from tests.support.service import clock
from tests.support.service.server import INSTANT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("scenarios", runs(SCENARIOS), ids=name_of)
def test_nothing_accepted_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenarios, seed) -> None:
    monkeypatch.setenv(clock.FOLLOWS, "1")
    settings = {name: value for scenario in scenarios for name, value in scenario.settings.items()}
    setup = OneMachine(tmp_path, seed, settings)
    if all(scenario.is_real for scenario in scenarios):
        setup.make = Real(tmp_path / "models")
    else:
        monkeypatch.setenv(INSTANT.module, "1")
    run(setup, scenarios)
