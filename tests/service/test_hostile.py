"""Hostile uploads over HTTP: each is answered as its row says, and neither the server nor a neighbour feels it."""

from __future__ import annotations

import re

import pytest

from tests.support.hostile.run import Table, run
from tests.support.hostile.uploads import TESTED_ALONE, UPLOADS
from tests.support.service.server import MIB

GROWTH = 48 * MIB  # of the server over all uploads: the largest is in memory as a few blocks
CHILD_BYTES = 2 * 2 << 30  # two processes of a fold, each with what it may have
# The worst, for processes that bubblewrap does not hold: they hang, die, eat memory, and point at other files.
WORST = [
    "a Loop that never ends", "a Loop that doubles its state", "Max of nothing", "a match of nothing",
    "a list of 2 ** 40 sizes", "sparse constants of 2 GiB", "data in /proc/self/environ", "the whole path",
]  # fmt: skip
# Of the rows that the reader and the archives are tested with by themselves, one in so many; `make hostile` sends all.
ONE_IN = 4
SENT = [name for name in UPLOADS if name not in TESTED_ALONE] + list(TESTED_ALONE)[::ONE_IN]


@pytest.fixture(scope="module")
def table() -> Table:
    return run({name: UPLOADS[name] for name in SENT}, sandbox="auto")


@pytest.fixture(scope="module")
def bare() -> Table:
    return run({name: UPLOADS[name] for name in WORST}, sandbox="off")


def judge(name: str, table: Table) -> None:
    upload, outcome = UPLOADS[name], table.outcomes[name]
    summary = f"{outcome.status} {outcome.ends}: {outcome.says}"
    assert re.match(upload.ends, outcome.ends), summary
    assert re.search(upload.says, outcome.says), summary
    assert (outcome.status == 200) == outcome.ends.startswith(("verified", "not verified")), summary
    assert outcome.status < 500, summary
    assert outcome.says.isprintable()
    assert outcome.peak < CHILD_BYTES


@pytest.mark.parametrize("name", SENT)
def test_is_answered(name: str, table: Table) -> None:
    judge(name, table)


@pytest.mark.parametrize("name", WORST)
def test_is_answered_without_a_sandbox(name: str, bare: Table) -> None:
    assert not bare.sandbox
    judge(name, bare)


@pytest.mark.parametrize("which", ["table", "bare"])
def test_nobody_else_feels_it(which: str, request: pytest.FixtureRequest) -> None:
    found: Table = request.getfixturevalue(which)
    assert found.folds > 0
    assert found.wrong == []
    assert found.left == []
    assert found.after - found.before < GROWTH
    assert "Traceback" not in found.log
