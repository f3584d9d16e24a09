"""Look for cycles of garbage more rarely while a large structure is built that stays."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Python's own are 700, 10, 10: it walks a graph of 24,000 operators so often that this is an eighth of all planning.
# Cycles that a refusal leaves (an exception and its frames) are young, and are still found among 50,000 objects.
RARE = (50_000, 20, 100)


@contextmanager
def collected_rarely() -> Iterator[None]:
    """Raise the thresholds of the garbage collector; it stays off if the caller has turned it off.

    They hold for the whole process, so other threads collect more rarely, too.
    """
    before = gc.get_threshold()
    if before[0]:
        gc.set_threshold(*RARE)
    try:
        yield
    finally:
        gc.set_threshold(*before)
