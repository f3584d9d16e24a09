"""The second judge: PyTorch before, the folded module, and the folded ONNX files, on one random module.

In float64 all must agree to rounding: ONNX Runtime computes what it has kernels for, onnx's reference evaluator
the rest (convolutions). In float32 ONNX Runtime computes all of it, and may be as far off as PyTorch itself, and some.
Every module goes through TorchScript, every `DYNAMO_EVERY`-th and whatever TorchScript cannot export through dynamo,
which takes ten times as long. `fold_module` leaves axes open with every `OPEN_EVERY`-th, which takes longer, too.
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
from tests.support.torch.randommodules import drawn

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

EXACT = 1e-11  # of the largest output, in float64: a hundred roundings of chains whose values are of order one
NOISES = 30  # float32's error, as a multiple of that of PyTorch in float32, or of 30 roundings
DYNAMO_EVERY = 10
OPEN_EVERY = 4
UNEXPORTED = math.nan
CHOICES = tuple(
    Options(clamp=clamp, leftover=leftover, verify=False)  # type: ignore[arg-type]
    for clamp in ("never", "always")
    for leftover in ("keep", "affine", "conv")
)


class Judged(NamedTuple):
    """The errors of one seed relative to the largest output, and the normalizations before and after.

    A file that no exporter wrote has the error NaN; one that dynamo was not asked for has None.
    """

    seed: int
    in_module: float
    in_torchscript: float
    in_dynamo: float | None
    in_single: float  # of TorchScript's file in float32, as a multiple of what is accepted
    before: int
    after_module: int
    after_file: int

    @property
    def files(self) -> list[float]:
        """The errors of the files that were written."""
        return [one for one in (self.in_torchscript, self.in_dynamo) if one is not None and not math.isnan(one)]

    @property
    def is_equal(self) -> bool:
        """Whether all agree, and one file at least was compared."""
        return bool(self.files) and max(self.in_module, *self.files) <= EXACT and not self.in_single > 1


def judged(seed: int) -> Judged:
    """Fold the module of a seed both ways and compare."""
    module, x = drawn(seed)
    options = CHOICES[seed % len(CHOICES)]
    before = _run(module, x)
    shapes = None if seed % OPEN_EVERY == 0 else {"x": None}
    folded = folding.fold_module(module, x, options, dynamic_shapes=shapes)
    in_module, report = _apart(before, _run(folded, x)), folded.meta["bnfold"]
    with TemporaryDirectory() as folder:
        path = Path(folder, "module.onnx")
        in_torchscript, after = _exported(module, x, options, "torchscript", before, path)
        in_dynamo = None
        if seed % DYNAMO_EVERY == 0 or math.isnan(in_torchscript):
            in_dynamo, _ = _exported(module, x, options, "dynamo", before, path)
        in_single = UNEXPORTED if math.isnan(in_torchscript) else _single(seed, options, path)
    assert np.array_equal(before, _run(module, x)), "the module is not changed"
    return Judged(seed, in_module, in_torchscript, in_dynamo, in_single, report.bn_before, report.bn_after, after)


def _exported(
    module: nn.Module, x: torch.Tensor, options: Options, exporter: str, before: NDArray[np.float64], path: Path
) -> tuple[float, int]:
    """The error of an exporter's file in float64, and the normalizations in it; NaN where it writes none."""
    try:
        report = folding.from_torch(module, x, path, options, exporter=exporter)  # type: ignore[arg-type]
    except folding.ExportError:
        return UNEXPORTED, 0
    return _apart(before, _file(module, path, x)), report.bn_after


def _single(seed: int, options: Options, path: Path) -> float:
    """The error in float32, as a multiple of what is accepted."""
    module, x = drawn(seed)
    single, given = module.float(), x.float()
    folding.from_torch(single, given, path, options, exporter="torchscript")
    found, rough = _file(single, path, given), _run(single, given)
    exact = _run(single.double(), given.double())
    return _apart(exact, found) / max(NOISES * _apart(exact, rough), NOISES * float(np.finfo(np.float32).eps))


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
