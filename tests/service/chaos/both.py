"""What happens alike on one machine and in a cluster: folds that hang, slow uploads."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from service.settings import DAY
from tests.service.chaos.models import LARGE, Model, hanging
from tests.service.chaos.uploads import CUT, STEPS, Trickle
from tests.support.service.instant import folded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.service.chaos.run import Setup

FOLD_SECONDS = 8.0  # of a fold that hangs; far more than any other one needs
STALL_SECONDS = 3.0  # in which an upload has to arrive at the lowest rate
JUMPS = (3600.0, 8 * DAY, 8000 * DAY)  # forth and back
LOW_WATER = 8 << 20  # bytes of a small disk
TRICKLED = 40_000  # bytes: faster than the lowest rate
ACCEPTED = b"202"


def hangs(setup: Setup) -> None:
    """Send models whose folds never end."""
    for number in range(setup.rounds):
        setup.pause()
        setup.clients.send(hanging(f"{setup.seed} {number}"))


def lasting(seconds: float, name: str) -> Model:
    """A model whose fold takes so long."""
    content = f"SLOW{seconds}\n{name}".encode()
    return Model(content, folded(content))


def jumps(setup: Setup, folders: Sequence[Path]) -> list[tuple[Path, float]]:
    """Jumps of the clocks of servers and workers with these data folders, back to the right time at the end."""
    made = [(setup.random.choice(folders), sign * seconds) for seconds in JUMPS for sign in (1, -1)]
    setup.random.shuffle(made)
    return made[: 2 * setup.rounds] + [(folder, 0.0) for folder in folders]


def slow_uploads(setup: Setup) -> None:
    """At the same time: uploads that trickle and arrive, that break off, and that are too slow."""
    kinds = (_arrives, _breaks_off, _is_cut) * setup.rounds
    drawn = [random.Random(setup.random.random()) for _ in kinds]
    with ThreadPoolExecutor(len(kinds)) as pool:
        for done in [pool.submit(kind, setup, rng) for kind, rng in zip(kinds, drawn, strict=True)]:
            done.result()


def _arrives(setup: Setup, rng: random.Random) -> None:
    content = b"SLOW0\n" + rng.randbytes(TRICKLED)
    upload = Trickle(rng.choice(setup.urls()), content, len(content))
    upload.send(rng, STEPS)
    answer = upload.answer()
    upload.close()
    assert answer.startswith(ACCEPTED), answer
    setup.clients.jobs[json.loads(answer.removeprefix(ACCEPTED))["id"]] = Model(content, folded(content))


def _breaks_off(setup: Setup, rng: random.Random) -> None:
    upload = Trickle(rng.choice(setup.urls()), rng.randbytes(LARGE), LARGE)
    upload.send(rng, rng.randrange(STEPS))
    upload.close()


def _is_cut(setup: Setup, rng: random.Random) -> None:
    upload = Trickle(rng.choice(setup.urls()), bytes(STEPS), LARGE)
    upload.send(rng, STEPS)  # a byte a step
    answer = upload.answer()
    upload.close()
    assert answer.startswith(CUT), answer
    setup.clients.count_refused()
