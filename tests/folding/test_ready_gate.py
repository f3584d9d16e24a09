"""The gate beyond folding: random graphs compute the same after cleaning, fusing and conversion for any target."""

from __future__ import annotations

from dataclasses import replace

import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from folding.errors import OptionError
from folding.targets.model import NAMES, load
from tests.folding.test_gate import DIGITS, EXAMPLES, FIXED, gate, with_options
from tests.support.models import assert_same_function, fold
from tests.support.strategies.graphs import graphs, wrapped
from tests.support.structures import in_inference_mode

ready_gate = settings(gate, max_examples=EXAMPLES // 4 if FIXED else EXAMPLES)  # each is folded, cleaned, fused twice
SINGLE = 1e-3  # long chains of random weights, in float32


@st.composite
def with_targets(draw, models):
    """A model, feeds for it, and options of every kind, what makes it ready among them."""
    before, feeds, options = draw(with_options(models))
    if any(function.domain in ("", "ai.onnx") for function in before.functions):  # they are no functions of a target
        return before, feeds, options
    return (
        before,
        feeds,
        replace(
            options,
            target=draw(st.sampled_from([None, *NAMES])),
            allow_fallback=True,
            clean=draw(st.booleans()),
            fuse=draw(st.booleans()),
            fold_norms=draw(st.booleans()),
        ),
    )


def is_valid(model):
    """Whether the checker finds nothing wrong with a model, types and shapes included."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def check(before, feeds, options):
    """The result computes the same and is valid, and making it ready again changes nothing."""
    try:
        after, _ = fold(before, options)
    except OptionError as error:  # the target has another range of operator sets, and an operator has no other form
        assert "opset" in str(error)  # noqa: PT017  the options that do so are drawn
        return
    narrows = options.target is not None and load(options.target).narrow
    assert_same_function(in_inference_mode(before, options), after, feeds, SINGLE if narrows else DIGITS)
    if is_valid(before):  # references compute some graphs in float64 that the standard does not allow
        onnx.checker.check_model(after, full_check=True)
    try:
        again, second = fold(after, options)
    except OptionError:  # all that `only` named is gone
        assert options.only or options.keep
    else:
        assert again == after, second.changes
        assert not second.changed


@ready_gate
@given(with_targets(graphs()))
def test_random_graphs_keep_their_function(drawn):
    check(*drawn)


@ready_gate
@given(with_targets(wrapped()))
def test_random_structures_keep_their_function(drawn):
    check(*drawn)
