"""The gate: random graphs compute the same before and after folding, are valid, and fold no further."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from folding.errors import OptionError
from folding.rules import RULES
from tests.support.models import NO_VERIFY, assert_left, assert_same_function, fold
from tests.support.strategies.graphs import STEPS, graphs, wrapped
from tests.support.structures import in_inference_mode, operators

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200" if "MUTANT" in os.environ else "350"))
FIXED = "FUZZ_EXAMPLES" not in os.environ  # continuous integration sees the same graphs every time
# A mutant needs no small example: that one was found is the answer.
PHASES = [Phase.generate] if "MUTANT" in os.environ else list(Phase)
DIGITS = 1e-9  # long chains of random weights reach large values in between and cancel
OTHER = 1.25  # the factor of what a caller gives in place of an overridable initializer
FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}
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


@st.composite
def with_options(draw, models):
    """A model, feeds for it, and options of every kind; patterns match at least one of its operators."""
    before, feeds = draw(models)
    options = replace(
        NO_VERIFY,
        clamp=draw(st.sampled_from(["never", "always"])),
        leftover=draw(st.sampled_from(["keep", "keep", "affine", "conv"])),
        merge_branches=draw(st.integers(0, 3)) > 0,
        freeze_initializers=draw(st.booleans()),
    )
    names = sorted({node.name for node in operators(before) if node.name})
    if not any(name.startswith("constant_bn") for name in names):  # in a function, these may be called with constants
        options = replace(options, freeze_training=draw(st.booleans()))
    pattern = st.sampled_from(["*bn*", *(f"*{name}" for name in names)])
    choice = draw(st.sampled_from(["", "", "", "keep", "only"]))
    if choice and any("bn" in name for name in names):
        options = replace(options, **{choice: (draw(pattern),)})
    # Other scales change shapes, and other exponents leave the real numbers.
    fixed = {name for node in operators(before) if node.op_type in {"Pow", "Resize"} for name in node.input}
    tensors = [t.name for t in before.graph.initializer if t.data_type in FLOATS and t.name not in fixed]
    if tensors and draw(st.integers(0, 3)) == 0:
        before, others = _overridable(before, draw(st.lists(st.sampled_from(tensors), min_size=1, unique=True)))
        if not options.freeze_initializers:
            feeds = {**feeds, **others}
    return before, feeds, options


def _overridable(model, names):
    """The model with these initializers as graph inputs too, and other values for them."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    chosen = {t.name: t for t in result.graph.initializer if t.name in names}
    for name, tensor in chosen.items():
        result.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    return result, {name: np.asarray(numpy_helper.to_array(tensor) * OTHER) for name, tensor in chosen.items()}


def statuses(before, feeds, options):
    """What became of the affines of a model, once it is certain that it computes the same and folds no further."""
    after, report = fold(before, options)
    read = {name: value for name, value in feeds.items() if any(name == given.name for given in after.graph.input)}
    assert feeds.keys() - read.keys() <= {t.name for t in before.graph.initializer} or options.freeze_initializers
    assert_same_function(in_inference_mode(before, options), after, feeds, DIGITS)
    assert_left(after, report)
    try:
        again, second = fold(after, options)
    except OptionError:  # all that `only` named is folded
        assert options.only
    else:
        assert again == after
        assert not second.changed
    assert all(outcome.node for outcome in report.outcomes)
    return [outcome.status for outcome in report.outcomes]


@gate
@given(with_options(graphs()))
def test_random_graphs_keep_their_function(drawn):
    folded.update(statuses(*drawn))


@gate
@given(with_options(wrapped()))
def test_random_structures_keep_their_function(drawn):
    folded_inside.update(statuses(*drawn))


def test_random_graphs_do_fold():
    """The test before is not vacuous: of the affines it drew, a good part moved."""
    assert folded["folded"] > EXAMPLES / 8
    assert folded["kept"] > EXAMPLES / 8
    assert folded_inside["folded"] > EXAMPLES / 8


def test_every_operator_with_a_rule_is_drawn():
    assert set(RULES) - {"Upsample"} <= set(STEPS)  # it ended before the operator sets that are drawn
