"""Benchmarks silence the packages that they measure; other tests hear them again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _loud_afterwards() -> Iterator[None]:
    before = logging.root.manager.disable
    yield
    logging.disable(before)
