"""How often a key may ask: in a window that moves with the clock of the process, whatever that of the system does."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from service.auth import rates
from service.auth.rates import Rates


@pytest.fixture
def clock(monkeypatch):
    """The two clocks."""
    clock = SimpleNamespace(monotonic=1000.0, system=time.time())
    fake = SimpleNamespace(monotonic=lambda: clock.monotonic, time=lambda: clock.system)
    monkeypatch.setattr(rates, "time", fake)
    return clock


def test_the_window_moves(clock):
    asked = Rates()
    assert [asked.hit("2/minute", "a"), asked.hit("2/minute", "a")] == [0, 0]
    assert asked.hit("2/minute", "a") == 60
    assert asked.hit("2/minute", "b") == 0  # another key
    clock.monotonic += 59
    assert asked.hit("2/minute", "a") == 1
    clock.monotonic += 1
    assert [asked.hit("2/minute", "a"), asked.hit("2/minute", "a")] == [0, 0]
    assert asked.hit("2/minute", "a") == 60


@pytest.mark.parametrize("days", [8, -8, 8000])
def test_a_jump_of_the_systems_clock_neither_lets_through_nor_locks_out(clock, days):
    asked = Rates()
    assert asked.hit("1/hour", "a") == 0
    clock.system += days * 86400
    assert asked.hit("1/hour", "a") == 3600
    clock.monotonic += 3600
    assert asked.hit("1/hour", "a") == 0
