"""A cancellation waits for the thread, and swallows what the thread says then."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from service.threads import in_thread
from tests.support.waiting import LOOK_EVERY, PATIENCE


@pytest.mark.parametrize("error", [None, OSError("late")])
def test_a_cancellation_gets_through_when_the_thread_has_ended(error, caplog):
    may_end, began, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        may_end.wait(PATIENCE)
        ended.set()
        if error is not None:
            raise error

    async def story() -> None:
        task = asyncio.create_task(in_thread(work))
        while not began.is_set():
            await asyncio.sleep(LOOK_EVERY)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(story())
    gc.collect()
    assert not caplog.records


def test_what_the_thread_gives_or_raises_comes_back():
    assert asyncio.run(in_thread(divmod, 7, 2)) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(divmod, 1, 0))
