"""The queueing model agrees with what is known exactly."""

from __future__ import annotations

import math

import pytest

from benchmarks.capacity import plan
from benchmarks.capacity.load import without_loss
from benchmarks.capacity.queueing import Load, erlang_c
from tests.support import ROOT


@pytest.mark.parametrize(("servers", "offered", "probability"), [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (3, 2.0, 4 / 9)])
def test_the_probability_to_wait_is_that_of_erlang(servers, offered, probability):
    assert erlang_c(servers, offered) == pytest.approx(probability)


def test_many_servers_overflow_nothing():
    assert 0 < erlang_c(100_000, 99_000.0) < 1


@pytest.mark.parametrize("use", [0.1, 0.5, 0.9])
def test_of_one_server_the_wait_is_that_of_pollaczek_and_khinchine(use):
    for variation in (0.0, 1.0, 4.0):
        exact = use * 2.0 * (1 + variation) / (2 * (1 - use))
        assert Load(use / 2, 2.0, variation).wait(1) == pytest.approx(exact)


def test_what_cannot_be_done_waits_for_ever():
    assert Load(1.0, 2.0, 1.0).wait(2) == math.inf
    assert Load(1.0, 2.0, 1.0).utilization(4) == 0.5


@pytest.mark.parametrize("wait", [10.0, 1.0, 0.1])
def test_the_fewest_servers_are_found(wait):
    load = Load(10.0, 1.4, 0.5)
    servers = load.servers(wait)
    assert load.wait(servers) <= wait < load.wait(servers - 1)


def test_a_queue_without_loss():
    assert without_loss([0, 1, 2], [5, 1, 1], 1) == pytest.approx((0 + 4 + 4) / 3)
    assert without_loss([0, 1, 2], [5, 1, 1], 2) == 0


def test_the_plan_is_that_of_the_document():
    text = (ROOT / "docs" / "capacity.md").read_text()
    for rate in plan.RATES:
        for size in plan.SIZES:
            assert plan.row(rate / 60, size) in text
    assert plan.slots(10.0, 1.0) == 13
    assert plan.slots(0.1, 1.0) == 1
