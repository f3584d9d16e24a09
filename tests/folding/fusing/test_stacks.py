"""Random stacks of idioms compute the same after they were fused, folded and fused, and fused and written out."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from folding.fusing.forms import FORMS, write_out
from tests.support.models import fold
from tests.support.ready.fusing import Fake, assert_equal, fused, operators, rewritten
from tests.support.strategies.stacks import fusible_stacks

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "30"))
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
    there, _ = fused(model)
    after, changes = rewritten(write_out, there, LACKING)
    if changes:
        assert_equal(model, after, feeds)


@SETTINGS
@given(fusible_stacks(), st.frozensets(st.sampled_from(sorted({*FORMS, "Attention", "Gemm", "InstanceNormalization"}))))
def test_random_stacks_compute_the_same_for_random_targets(drawn, lacks):
    """What a target lacks is not written, and what it has is not written out again."""
    model, feeds = drawn
    target = Fake(lacks=lacks)
    there, _ = rewritten(write_out, fused(model)[0], target)
    formless = {"GroupNormalization"} if "InstanceNormalization" in lacks else set()
    assert not (lacks - formless) & FORMS.keys() & set(operators(there))
    back, changes = fused(there, target)
    assert not lacks & set(operators(back)) - set(operators(there))
    if changes:
        assert_equal(model, back, feeds)
    assert rewritten(write_out, back, target) == (back, [])
