"""What a comparison says of an output: nothing, where its numbers are closer together than what is tolerated."""

from __future__ import annotations

import numpy as np
import pytest

from folding.report.model import OutputError
from folding.verification import advice
from folding.verification.figures import hidden
from folding.verification.judge import Reference
from folding.verification.originals import Sample


def samples(*values):
    return [Sample({}, {"y": Reference.of("y", np.asarray(value))}) for value in values]


def error(tolerance):
    return OutputError("y", 0.0, 0.0, 0.0, tolerance, ok=True)


@pytest.mark.parametrize(
    ("values", "is_hidden"),
    [
        ([np.float32([0, 1e-6])], True),  # a sigmoid that is closed
        ([np.float32([0, 1e-6]), np.float32([0.5, 0])], False),  # another sample opens it
        ([np.float32([5, 5.001])], True),
        ([np.float32([5])], False),  # a single number: its size counts
        ([np.float32([5, 5])], False),
        ([np.float32([1e-6])], True),
        ([np.float32([0, 0])], False),  # nothing depends on the samples, which is reported on its own
        ([np.float32([np.nan, np.inf])], False),
        ([np.float32([])], False),
        ([np.int64([0, 1])], False),
    ],
)
def test_an_output_that_varies_less_than_is_tolerated_is_hidden(values, is_hidden):
    found = hidden(samples(*values), [error(0.01)])
    assert list(found) == (["y"] if is_hidden else [])
    assert all(advice.HALVES in reason and "varies by" in reason for reason in found.values())


def test_an_output_with_a_tolerance_of_its_size_is_not():
    assert not hidden(samples(np.float32([0, 1e-6])), [error(1e-9)])
