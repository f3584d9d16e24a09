"""Statistics of samples for BatchNormalizations in training mode, in place of those that they store."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from folding import onnxfile
from folding.editing.surgery import set_constant
from folding.editing.writeback import with_outputs
from folding.graph.dtypes import FLOAT_TYPES
from folding.graph.weights import Weight, rounded
from folding.verification.parent import available_memory
from folding.verification.statistics import collect

if TYPE_CHECKING:
    from folding.graph.node import Node
    from folding.options import Options
    from folding.verification.statistics import Statistics

MEAN, VARIANCE = 3, 4  # inputs of BatchNormalization


def calibrate(nodes: list[Node], options: Options) -> list[Node]:
    """Set mean and variance of these operators of the main graph to those of their data; return those that have them.

    The original runs once over all samples. With one batch, the result equals what training mode computed on it: each
    operator's data is what the operators before it, which used the statistics of that batch, made.

    Raises:
        OptionError: the original does not run on the samples.
    """
    settled = [node for node in nodes if all(node.dtype(index) in FLOAT_TYPES for index in (MEAN, VARIANCE))]
    if not settled:
        return []
    graph = settled[0].scope.graph
    values = list(dict.fromkeys(node.inputs[0] for node in settled))
    assert options.inputs is not None  # noqa: S101  the options require it
    with tempfile.TemporaryDirectory(prefix="bnfold-calibrate-") as folder:
        path = Path(folder, "model.onnx")
        onnxfile.write(with_outputs(graph, values), path)
        found = collect(path, values, str(options.inputs), options.verify_timeout, available_memory())
    return [node for node in settled if _set(node, found[node.inputs[0]])]


def _set(node: Node, found: Statistics) -> bool:
    """Set mean and variance, rounded to the types of the old ones; return whether these hold them."""
    new = {}
    for index, numbers in ((MEAN, found.mean), (VARIANCE, found.variance)):
        dtype = node.dtype(index)
        assert dtype is not None  # noqa: S101  checked before
        with np.errstate(over="ignore", under="ignore"):
            stored = rounded(numbers, dtype)
        if not np.isfinite(stored).all():
            return False
        new[index] = Weight(dtype, stored.shape, stored)
    for index, weight in new.items():
        set_constant(node, index, weight, node.key)
    return True
