"""The gate: random graphs compute the same before and after folding, are valid, and fold no further."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import sampled_from

from folding.rules import RULES
from tests.support.models import NO_VERIFY, assert_left, assert_same_function, fold
from tests.support.strategies.graphs import STEPS, graphs, wrapped

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200" if "MUTANT" in os.environ else "500"))
FIXED = "FUZZ_EXAMPLES" not in os.environ  # continuous integration sees the same graphs every time
# A mutant needs no small example: that one was found is the answer.
PHASES = [Phase.generate] if "MUTANT" in os.environ else list(Phase)
DIGITS = 1e-9  # long chains of random weights reach large values in between and cancel
OPTIONS = sampled_from([NO_VERIFY, replace(NO_VERIFY, clamp="always")])
folded: Counter[str] = Counter()
folded_inside: Counter[str] = Counter()


gate = settings(
    max_examples=EXAMPLES,
    derandomize=FIXED,
    database=None,
    deadline=None,
    phases=PHASES,
    suppress_health_check=list(HealthCheck),
)


def statuses(before, feeds, options):
    """What became of the affines of a model, once it is certain that it computes the same and folds no further."""
    after, report = fold(before, options)
    assert_same_function(before, after, feeds, DIGITS)
    assert_left(after, report)
    again, second = fold(after, options)
    assert again == after
    assert not second.changed
    return [outcome.status for outcome in report.outcomes]


@gate
@given(graphs(), OPTIONS)
def test_random_graphs_keep_their_function(drawn, options):
    folded.update(statuses(*drawn, options))


@gate
@given(wrapped(), OPTIONS)
def test_random_structures_keep_their_function(drawn, options):
    folded_inside.update(statuses(*drawn, options))


def test_random_graphs_do_fold():
    """The test before is not vacuous: of the affines it drew, a good part moved."""
    assert folded["folded"] > EXAMPLES / 8
    assert folded["kept"] > EXAMPLES / 8
    assert folded_inside["folded"] > EXAMPLES / 8


def test_every_operator_with_a_rule_is_drawn():
    assert set(RULES) - {"Upsample"} <= set(STEPS)  # it ended before the operator sets that are drawn
