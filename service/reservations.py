"""Reservations: uploads on their way. They count before their last byte: in number, in a quota, on the disk."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.ledger.records import Usage, has_share
from service.problems import Problem
from service.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Generator

    from service.ledger.interface import Ledger
    from service.ledger.records import Quota

STEP = 64 << 20  # bytes that an upload of unknown size reserves at a time
RETRY_AFTER = {"Retry-After": "10"}
NOTHING = Usage(open_jobs=0, bytes=0)


def require_place(what: str, key: str, mine: int, free: int) -> None:
    """Require that a key that has `mine` places may take another one of those that are `free`.

    Raises:
        Problem: busy: there is none; quota-exceeded: the key has its share.
    """
    if free <= 0:
        raise Problem("busy", f"the server has no place for more {what} now; try again later", headers=RETRY_AFTER)
    if not has_share(key, mine, free):
        detail = f"{mine} {what} of this key have not ended, and {free} places are left for all; wait until one has"
        raise Problem("quota-exceeded", detail, headers=RETRY_AFTER)


async def usage_of(ledger: Ledger, key: str, quota: Quota) -> Usage:
    """What a key uses, if its quota limits that; it is counted, which takes the longer the more the key has."""
    is_limited = quota.open_jobs is not None or quota.bytes is not None
    return await in_thread(ledger.usage, key) if is_limited else NOTHING


@dataclass(eq=False)
class Reservation:
    """The room of one upload: the bytes that it may have, and those that arrived."""

    key: str
    quota: Quota
    bytes: int = 0
    arrived: int = 0
    is_complete: bool = False  # it counts as a job or an inspection then, and its bytes are on the disk
    is_in_pieces: bool = False  # over several requests, which count themselves; see `service.partials`


class Reservations:
    """All uploads of a server, at most `most` at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: list[Reservation] = []

    @property
    def coming(self) -> int:
        """The bytes that are reserved and did not arrive yet."""
        return sum(max(one.bytes - one.arrived, 0) for one in self._open if not one.is_complete)

    @property
    def count(self) -> int:
        """The number of uploads that arrive now."""
        return sum(not (one.is_complete or one.is_in_pieces) for one in self._open)

    def remember(self, reservation: Reservation) -> None:
        """Count a reservation that outlasts a request, until it is forgotten."""
        self._open.append(reservation)

    def forget(self, reservation: Reservation) -> None:
        """Count a reservation no more."""
        if reservation in self._open:
            self._open.remove(reservation)

    @contextmanager
    def begun(self, key: str, quota: Quota, usage: Usage) -> Generator[Reservation]:
        """Room for an upload of a key, without any bytes yet.

        Raises:
            Problem: busy: there are too many uploads; quota-exceeded: of this key, with its open jobs.
        """
        arriving = [one for one in self._open if not (one.is_complete or one.is_in_pieces)]
        mine, free = sum(one.key == key for one in arriving), self._most - len(arriving)
        require_place("uploads", key, mine, free)
        if quota.open_jobs is not None and mine and usage.open_jobs + mine >= quota.open_jobs:
            detail = f"this key may have {quota.open_jobs} open at a time, uploads included; wait until one has ended"
            raise Problem("quota-exceeded", detail, headers=RETRY_AFTER)
        reservation = Reservation(key, quota)
        self._open.append(reservation)
        try:
            yield reservation
        finally:
            self._open.remove(reservation)

    def grow(self, reservation: Reservation, size: int, usage: Usage) -> None:
        """Let an upload have `size` bytes.

        A key that holds too much may still send one upload at a time: it may be one that is held already.

        Raises:
            Problem: too-large: the quota of its key is smaller than that; quota-exceeded.
        """
        quota = reservation.quota.bytes
        if quota is not None:
            if size > quota:
                raise Problem("too-large", f"the upload has {size:,} bytes, and this key may keep {quota:,} in all")
            others = sum(one.bytes for one in self._open if one.key == reservation.key and one is not reservation)
            if others and usage.bytes + others + size > quota:
                detail = f"this key holds or sends {usage.bytes + others:,} of {quota:,} bytes; wait, or delete blobs"
                raise Problem("quota-exceeded", detail, headers=RETRY_AFTER)
        reservation.bytes = size
