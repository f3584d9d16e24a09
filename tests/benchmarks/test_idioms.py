"""The stacks of PyTorch's exporters: one module of each outcome."""

from __future__ import annotations

import warnings

import pytest

idioms = pytest.importorskip("benchmarks.idioms")


@pytest.mark.parametrize(
    ("name", "opset", "shown"),
    [
        ("GELU()", 17, "4 of 4 recognized"),
        ("GELU()", 20, "4 of 4 exported"),
        ("relu6(x + 3) / 6", 17, "4 of 4 fused"),
        ("attention, boolean mask", 23, "4 of 4 fused"),
        ("GELU with 1.5 for sqrt(2)", 20, "0 of 4"),
        ("softmax, sum over another axis", 17, "0 of 4"),
    ],
)
def test_a_stack_is_recognized(name, opset, shown):
    case = (idioms.CASES | idioms.MISSES)[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, x = idioms.exported(case, dynamo=False, opset=opset)
    found = idioms.outcome(model, case, x)
    assert found.shown() == shown
    assert found.error <= idioms.TOLERANCE
