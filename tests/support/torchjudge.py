"""The second judge: PyTorch before, the folded module, and the folded ONNX file, on one random module.

In float64 all three must agree to rounding: ONNX Runtime computes what it has kernels for, onnx's reference evaluator
the rest (convolutions). In float32 ONNX Runtime computes all of it, and may be as far off as PyTorch itself, and some.
"""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

import folding
from folding import Options
from folding.torch.examples import Example
from folding.torch.reference import _loaded, fed
from folding.verification.runtime import RuntimeRefusalError
from tests.support.randommodules import drawn

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

EXACT = 1e-11  # of the largest output, in float64: a hundred roundings of chains whose values are of order one
NOISES = 30  # float32's error, as a multiple of that of PyTorch in float32, or of 30 roundings
CHOICES = tuple(
    Options(clamp=clamp, leftover=leftover, verify=False)  # type: ignore[arg-type]
    for clamp in ("never", "always")
    for leftover in ("keep", "affine", "conv")
)


class Judged(NamedTuple):
    """The errors of one seed relative to the largest output, and the normalizations before and after."""

    seed: int
    in_module: float
    in_file: float  # NaN where nothing computes it in float64
    in_single: float  # in float32, as a multiple of what is accepted
    before: int
    after_module: int
    after_file: int

    @property
    def is_equal(self) -> bool:
        """Whether all agree."""
        return self.in_module <= EXACT and not self.in_file > EXACT and self.in_single <= 1


def judged(seed: int) -> Judged:
    """Fold the module of a seed both ways and compare."""
    module, x = drawn(seed)
    options = CHOICES[seed % len(CHOICES)]
    before = _run(module, x)
    folded = folding.fold_module(module, x, options)
    report = folded.meta["bnfold"]
    with TemporaryDirectory() as folder:
        path = Path(folder, "double.onnx")
        try:
            written = folding.from_torch(module, x, path, options, exporter="torchscript")
        except folding.ExportError:  # TorchScript cannot export everything
            return Judged(seed, _apart(before, _run(folded, x)), math.nan, 0.0, report.bn_before, report.bn_after, 0)
        try:
            in_file = _apart(before, _file(module, path, x))
        except RuntimeRefusalError:  # onnx's reference evaluator fails on a padded MaxPool of other ranks than 2
            in_file = math.nan
        single, path = drawn(seed)[0].float(), Path(folder, "single.onnx")
        folding.from_torch(single, x.float(), path, options, exporter="torchscript")
        rounding = np.finfo(np.float32).eps * NOISES
        exact = _run(single.double(), x.float().double())
        noise = _apart(exact, _run(drawn(seed)[0].float(), x.float()))
        in_single = _apart(exact, _file(single.float(), path, x.float())) / max(NOISES * noise, rounding)
    after = report.bn_after
    assert np.array_equal(before, _run(module, x)), "the module is not changed"
    return Judged(seed, _apart(before, _run(folded, x)), in_file, in_single, report.bn_before, after, written.bn_after)


def _run(module: nn.Module, x: torch.Tensor) -> NDArray[np.float64]:
    with torch.no_grad():
        return np.asarray(module(x).numpy(), np.float64)


def _file(module: nn.Module, path: Path, x: torch.Tensor) -> NDArray[np.float64]:
    model = _loaded(path)
    (value,) = model.run(fed(Example.of(module, x), [name for name, *_ in model.inputs])).values()
    return np.asarray(value, np.float64)


def _apart(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The largest difference, relative to the largest value."""
    assert one.shape == other.shape
    return float(np.abs(one - other).max() / max(float(np.abs(one).max()), np.finfo(np.float64).tiny))
