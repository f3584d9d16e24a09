"""The runtime loses nothing: ONNX Runtime's own optimized graph has no more operators and no fewer fused ones."""

from __future__ import annotations

import os

import onnx
import pytest
from hypothesis import HealthCheck, given, settings

from benchmarks.fusions import optimized, worse
from tests.fetch_models import FOLDER, fetch
from tests.folding.test_models import LIGHT, STRUCTURES, TRAINED
from tests.support.models import fold
from tests.support.strategies.stacks import stacks

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
FIXED = "FUZZ_EXAMPLES" not in os.environ


def cost(model):
    """What folding costs the runtime."""
    folded, report = fold(model)
    return worse(optimized(model), optimized(folded)) if report.changed else []


@settings(
    max_examples=EXAMPLES, derandomize=FIXED, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(stacks())
def test_random_stacks_cost_the_runtime_nothing(drawn):
    assert cost(drawn[0]) == []


@pytest.mark.parametrize("name", [row[0] for row in TRAINED + STRUCTURES])
def test_real_models_cost_the_runtime_nothing(name):
    fetch()
    assert cost(onnx.load(next(folder / name for folder in (FOLDER, LIGHT) if (folder / name).exists()))) == []
