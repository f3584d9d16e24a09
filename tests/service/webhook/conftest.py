"""Webhooks in the tests: a receiver on a busy machine has the time that everything else has."""

from __future__ import annotations

import pytest

from service.webhook import receivers
from tests.support.waiting import PATIENCE


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "SECONDS", PATIENCE)
    monkeypatch.setattr(receivers, "TIMEOUTS", dict.fromkeys(receivers.TIMEOUTS, PATIENCE))
