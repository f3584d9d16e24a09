"""Rates: how often a key may ask, in a window that moves with time.

`limits` reads the notation. Its own windows are of the system's clock: after a jump forwards they let all through, and
after one back they let nobody in. These are of the clock of the process.
"""

from __future__ import annotations

import time
from collections import deque

from limits import parse


class Rates:
    """The times at which keys asked."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, str], deque[float]] = {}

    def hit(self, rate: str, key: str) -> float:
        """Count a request of a key, and return 0; or the seconds until it may ask again, and count nothing."""
        limit, now = parse(rate), time.monotonic()
        asked = self._asked.setdefault((rate, key), deque(maxlen=limit.amount))
        opens = asked[0] + limit.get_expiry() if len(asked) == limit.amount else now
        if opens > now:
            return opens - now
        asked.append(now)
        return 0.0
