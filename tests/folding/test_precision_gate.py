"""The gate of precision: random graphs in 16 bits are valid, and right where every 16-bit value is rounded."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from folding import Options
from folding.api import fold_model
from folding.errors import OptionError
from folding.verification.parent import verify
from tests.folding.test_ready_gate import is_valid
from tests.support.halved import single
from tests.support.inprocess import in_process
from tests.support.strategies.graphs import graphs, wrapped
from tests.support.strategies.stacks import stacks

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "30"))  # graphs, each in every precision
FIXED = "FUZZ_EXAMPLES" not in os.environ  # continuous integration sees the same graphs every time
PRECISIONS = ("fp16", "bf16", "mixed")
IO_TYPES = st.sampled_from(["keep", "samples", "lower"])  # of inputs and outputs, and whether the samples are given
verdicts: Counter[str] = Counter()

gate = settings(
    max_examples=EXAMPLES, derandomize=FIXED, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def check(model, feeds, io_types):
    """Every precision gives a valid file that its verification does not refuse, and that a second run leaves alone.

    Ranges are those of the samples that are verified, or those of others.
    """
    for precision in PRECISIONS:
        verdicts[outcome(model, feeds, io_types, precision)] += 1


def outcome(model, feeds, io_types, precision):
    """What became of a model in one precision: the status of its verification, or why there is none."""
    feeds = {name: value.astype(np.float32) if value.dtype == np.float64 else value for name, value in feeds.items()}
    with in_process(), tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        onnx.save(model, before)
        is_right = is_valid(model)
        options = Options(verify=False, precision=precision)
        if io_types == "samples":
            np.savez(Path(folder, "samples.npz"), **feeds)
            options = replace(options, inputs=Path(folder, "samples.npz"))
        elif io_types == "lower":
            options = replace(options, io_types="lower")
        try:
            result, report = fold_model(model, options)
        except OptionError:  # ONNX Runtime does not run the model on these samples
            assert options.inputs is not None
            assert not runs(before, feeds)
            return "the original does not run"
        onnx.checker.check_model(result, full_check=is_right)
        if not any(change.stage == "lowered" for change in report.changes):
            return "nothing lowered"
        status = "invalid before"
        if is_right:  # references compute some graphs in float64 that the standard does not allow
            onnx.save(result, after)
            verdict = verify(before, after, inputs=feeds)
            status = verdict.status
            assert status != "failed", (precision, verdict)
        again, second = fold_model(result, options)
        assert not second.changes
        # With the names of other values, shape inference may know more, and what it knows let a map fold.
        assert again == result or any(one.status != "kept" for one in second.outcomes)
        return status


def runs(path, feeds):
    """Whether ONNX Runtime runs a model on these samples, as far as its verification against itself shows."""
    try:
        return verify(path, path, inputs=feeds).status != "not verified"
    except OptionError:
        return False


@gate
@given(graphs(), IO_TYPES)
def test_random_graphs(drawn, io_types):
    check(single(drawn[0]), drawn[1], io_types)


@gate
@given(wrapped(), IO_TYPES)
def test_random_graphs_in_other_clothes(drawn, io_types):
    check(single(drawn[0]), drawn[1], io_types)


@gate
@given(stacks(), IO_TYPES)
def test_random_stacks(drawn, io_types):
    check(*drawn, io_types)


def test_random_graphs_are_lowered_and_judged():
    """The tests before are not vacuous: most of what they drew was lowered and verified."""
    assert verdicts["verified"] > sum(verdicts.values()) / 2, verdicts
