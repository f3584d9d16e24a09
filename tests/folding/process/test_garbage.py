"""Thresholds of the garbage collector are raised for a while, and come back."""

import gc

import pytest

from folding.process.garbage import RARE, collected_rarely


def test_thresholds_come_back_after_an_error():
    before = gc.get_threshold()
    found = []

    @collected_rarely()
    def fails() -> None:
        found.append(gc.get_threshold())
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fails()
    assert found == [RARE]
    assert gc.get_threshold() == before


def test_a_collector_that_is_off_stays_off():
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with collected_rarely():
            assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)
