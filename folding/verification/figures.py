"""The figures of one output over all samples: the worst of each, and whether they say anything."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from folding.verification import advice
from folding.verification.judge import is_float, wide

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from folding.report.model import OutputError
    from folding.verification.originals import Sample


def merged(a: OutputError, b: OutputError) -> OutputError:
    """The figures of one output over two samples: the worse of each, and the tolerance that decided."""
    decisive = max(a, b, key=lambda error: (not error.ok, error.max_absolute))
    return replace(
        decisive,
        max_absolute=max(a.max_absolute, b.max_absolute),
        max_relative=max(a.max_relative, b.max_relative),
        mean_relative=max(a.mean_relative, b.mean_relative),
        noise=max(a.noise, b.noise),
    )


def hidden(found: Sequence[Sample], outputs: Iterable[OutputError]) -> dict[str, str]:
    """The outputs of which the comparison says nothing, since any other numbers would have passed, too; and why."""
    reasons = {}
    for output in outputs:
        varies = _spread(found, output.name)
        if 0 < varies < output.tolerance:
            less = f"varies by {varies:.2g} on the samples, less than the {output.tolerance:.2g} that rounding"
            reasons[output.name] = f'output "{output.name}" {less} to 16 bits explains; {advice.HALVES}'
    return reasons


def _spread(found: Sequence[Sample], name: str) -> float:
    """How far the numbers of an output are apart; of a single one, its size; 0 if there are none."""
    values = [wide(sample.outputs[name].value).ravel() for sample in found if name in sample.outputs]
    values = [value[np.isfinite(value)] for value in values if is_float(value)]
    known = np.concatenate([value for value in values if value.size] or [np.zeros(1)])
    return float(known.max() - known.min()) or float(np.abs(known).max())
