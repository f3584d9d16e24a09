"""Random graphs compute the same after cleaning, and cleaning them again changes nothing."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from tests.support.ready.cleaning import can_run, check
from tests.support.strategies.cleaning import messes

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=SLOW)
@given(messes())
def test_the_same_is_computed(before):
    check(before, runs=can_run(before))
