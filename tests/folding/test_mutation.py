"""A fixed slice of the mutation check: the tests of the algebra notice when one line of algebra is broken."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests import mutation

# file, and how the one mutant of the line is described
SLICE = [
    ("graph/sites.py", "beta - scale * mean  ->  beta + scale * mean"),
    ("algebra/affine.py", "self.scale * first.shift + self.shift  ->  self.scale * first.shift - self.shift"),
    ("algebra/equalization.py", "second - first  ->  second + first"),
    ("rules/normalization.py", "scale * beta.values() + shift  ->  scale * beta.values() - shift"),
    ("rules/rule.py", "scale * old.values() + shift  ->  scale * old.values() - shift"),
    ("rules/gemm.py", "shift / beta  ->  shift * beta"),
    (
        "rules/convolution.py",
        (
            "require(a.is_linear or not is_padded(node, weight), 'zero-padding',...  ->  "
            "require(True, 'zero-padding', 'a shift does not pass zero padding')"
        ),
    ),
]  # fmt: skip


NOTHING = ("algebra/affine.py", "nothing")


@pytest.fixture(scope="module")
def killed_by():
    """What `mutation.killer` says of every mutant of the slice and of the code as it is.

    In processes of their own: this one has the modules of the unbroken package in memory already.
    """
    found = {(mutant.file, mutant.what): mutant for mutant in mutation.mutants()}
    found[NOTHING] = mutation.Mutant(NOTHING[0], 0, NOTHING[1], (mutation.ROOT / "folding" / NOTHING[0]).read_text())
    with ProcessPoolExecutor(mutation.WORKERS, multiprocessing.get_context("spawn")) as pool:
        judged = {chosen: pool.submit(mutation.killer, found[chosen]) for chosen in SLICE}
        judged[NOTHING] = pool.submit(mutation.killer, found[NOTHING], mutation.FIRST)  # the others run here anyway
        return {chosen: verdict.result() for chosen, verdict in judged.items()}


@pytest.mark.parametrize("chosen", SLICE, ids=[file for file, _ in SLICE])
def test_the_tests_notice(killed_by, chosen):
    assert killed_by[chosen] in mutation.SUITES  # a test failed, and not only what runs the tests


def test_what_is_not_broken_is_not_noticed(killed_by):
    """The slice means something: the same way of running it passes on the code as it is."""
    assert killed_by[NOTHING] is None
