"""What a number of folds a minute takes: `python -m benchmarks.capacity.plan`, by the model and the costs measured."""

from __future__ import annotations

import math
from typing import NamedTuple

from benchmarks.capacity.queueing import Load

RATES = (10, 1_000, 100_000)  # folds a minute
WAIT = 1.0  # seconds that a job may wait in the mean
BUSY = 0.8  # of the slots at most: the rest is for a machine that is lost, and for what the model does not know
VARIATION = 0.5  # of the service times of one size; measured: 0 to 0.9
SLOTS_OF_WORKER = 8
TRANSACTIONS = 12.0  # of one fold, from `benchmarks.capacity.database`
AT_REST = 2.2  # transactions a second of a worker
CONNECTIONS = 5  # of a worker
LOG_BYTES = 10.2 * 1024  # of the write-ahead log, of one fold
TRANSFERS = 4  # of a model, to and from the store: upload, input of the fold, result, delivery
KEPT = 2  # of a model, in the store: input and result
HEAD = (
    "folds a minute",
    "model",
    "slots",
    "workers",
    "their processors",
    "processors of the API",
    "PostgreSQL",
    "store",
    "kept in a day",
)


class Size(NamedTuple):
    """The cost of one fold, from `benchmarks.capacity.costs`."""

    name: str
    bytes: int
    seconds: float  # that a slot is taken
    fold: float  # processor seconds of the fold
    server: float  # and of the API


SIZES = (
    Size("1 MB", 1_000_550, 0.18, 0.17, 0.05),
    Size("10 MB", 10_860_710, 0.42, 0.38, 0.10),
    Size("100 MB", 103_901_289, 2.44, 2.05, 0.44),
)


def main() -> None:
    print(f"| {' | '.join(HEAD)} |")
    print(f"|{' --- |' * len(HEAD)}")
    for rate in RATES:
        for size in SIZES:
            print(row(rate / 60, size))


def slots(rate: float, seconds: float) -> int:
    """The folds at a time for so many a second, each of which takes a slot for so long."""
    return max(Load(rate, seconds, VARIATION).servers(WAIT), math.ceil(rate * seconds / BUSY))


def row(rate: float, size: Size) -> str:
    at_a_time = slots(rate, size.seconds)
    workers = math.ceil(at_a_time / SLOTS_OF_WORKER)
    transactions = rate * TRANSACTIONS + workers * AT_REST
    postgres = f"{transactions:,.0f}/s, {rate * LOG_BYTES / 1e6:.2g} MB/s, {workers * CONNECTIONS:,} connections"
    moved, kept = rate * size.bytes * TRANSFERS, rate * size.bytes * KEPT * 24 * 60 * 60
    parts = (f"{rate * 60:,.0f}", size.name, f"{at_a_time:,}", f"{workers:,}", _short(rate * size.fold / BUSY),
             _short(rate * size.server), postgres, f"{moved / 1e6:,.0f} MB/s", f"{_short(kept / 1e12)} TB")  # fmt: skip
    return f"| {' | '.join(parts)} |"


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
