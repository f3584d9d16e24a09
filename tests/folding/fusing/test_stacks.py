"""Random stacks of idioms compute the same after they were fused, folded and fused, and fused and written out."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings

from folding.fusing.forms import FORMS, write_out
from tests.support.fusing import Fake, assert_equal, fused, rewritten
from tests.support.models import fold
from tests.support.strategies.stacks import fusible_stacks

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
FIXED = "FUZZ_EXAMPLES" not in os.environ
SETTINGS = settings(
    max_examples=EXAMPLES, derandomize=FIXED, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
LACKING = Fake(lacks=frozenset(FORMS))


@SETTINGS
@given(fusible_stacks())
def test_random_stacks_compute_the_same_after_they_were_fused(drawn):
    model, feeds = drawn
    after, changes = fused(model)
    if changes:
        assert len(after.graph.node) <= len(model.graph.node)
        assert_equal(model, after, feeds)


@SETTINGS
@given(fusible_stacks())
def test_random_stacks_compute_the_same_after_they_were_folded_and_fused(drawn):
    """And folding what was fused changes nothing that folding had left."""
    model, feeds = drawn
    after, _ = fused(fold(model)[0])
    assert_equal(model, after, feeds)


@SETTINGS
@given(fusible_stacks())
def test_random_stacks_compute_the_same_after_their_operators_were_written_out(drawn):
    model, feeds = drawn
    operators, _ = fused(model)
    after, changes = rewritten(write_out, operators, LACKING)
    if changes:
        assert_equal(model, after, feeds)
