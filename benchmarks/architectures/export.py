"""One export in a process of its own: ``python -m benchmarks.architectures.export MAKE SHAPE ARGUMENTS EXPORTER OUT``.

Prints, as JSON, how many BatchNormalizations the module has. Nothing is downloaded: weights come from a fixed seed.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import resource
import sys
import warnings
from contextlib import redirect_stdout
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

SEED = 20150211
OPSET = 17  # of the TorchScript exporter, its newest with a stable operator set; the dynamo exporter chooses its own
MEMORY = 12 << 30  # bytes; ten times what the largest export takes
BATCH = 4  # of the samples that set the running statistics: a normalization of vectors needs several
MEAN_ERROR = 0.5  # deviation of trained means from those of other data, in standard deviations
VARIANCES = (0.5, 2.0)  # the same for the variance, as a ratio
DEVIATION, LEAST, NEGATIVE = 0.3, 0.05, 0.05  # of trained gammas; the last is the share of negative ones
SMALL = 0.3  # where a residual branch starts at zero (Goyal et al. 2017, section 5.1), it stays smaller than the others

Normalization = nn.modules.batchnorm._BatchNorm  # the common base class


def _absent(name: str) -> _Name:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Name(name, (), {})


class _Name(type):
    """A class whose attributes are again such classes."""

    def __getattr__(cls, name: str) -> _Name:
        return _absent(name)


class AbsentPackage:
    """Replaces torchvision, which timm imports only for its data sets, and which would install another torch."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        """The specification of a package, for torchvision and all names below it."""
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] == "torchvision" else None  # type: ignore[arg-type]

    def create_module(self, _: ModuleSpec) -> None:
        """Use Python's default module."""

    def exec_module(self, module: ModuleType) -> None:
        """Make every attribute exist, as a class that does nothing."""
        module.__getattr__ = _absent  # type: ignore[method-assign]


def normalizations(module: nn.Module) -> list[Normalization]:
    """The BatchNormalizations of a module, each once."""
    return [part for part in module.modules() if isinstance(part, Normalization)]


def build(make: str, arguments: dict[str, Any]) -> nn.Module:
    """The module that "module:callable" returns, in inference mode."""
    module, _, name = make.partition(":")
    torch.manual_seed(SEED)
    built: nn.Module = getattr(importlib.import_module(module), name)(**arguments)
    return built.eval()


@torch.no_grad()
def train(network: nn.Module, shape: Sequence[int]) -> None:
    """Set parameters and statistics to values like those after training: the statistics of one batch, disturbed.

    If the statistics did not match the activations, the activations would vanish or grow within a few layers, and so
    would the rounding errors: a comparison would show little.
    """
    for name, buffer in network.named_buffers():
        if name.endswith(".index"):  # the channels that CondenseNet's training selects; without it, all are channel 0
            buffer.copy_(torch.randperm(len(buffer)))
    parts = normalizations(network)
    momenta = [part.momentum for part in parts]
    for part in parts:
        if part.affine:
            size = 1.0 if part.weight.any() else SMALL
            gamma = (1 + DEVIATION * torch.randn_like(part.weight)).abs().clamp(min=LEAST)
            part.weight.copy_(size * torch.where(torch.rand_like(gamma) < NEGATIVE, -gamma, gamma))
            part.bias.normal_(0, size * DEVIATION)
        part.momentum = 1.0  # only the next batch counts
        part.train()
    half = (BATCH // 2, *shape[1:])
    network(torch.cat([torch.randn(half), torch.rand(half)]))  # inputs like those of the verification
    for part, momentum in zip(parts, momenta, strict=True):
        part.eval()
        part.momentum = momentum
        if part.running_mean is not None and part.running_var is not None:
            variance = part.running_var.clamp(min=part.eps)
            part.running_mean += MEAN_ERROR * variance.sqrt() * torch.randn_like(variance)
            part.running_var.copy_(variance * torch.empty_like(variance).uniform_(*VARIANCES))


@torch.no_grad()
def judge(network: nn.Module, shape: Sequence[int]) -> None:
    """Check that the output is finite and depends on the input; raises ValueError if not."""
    one, other = (_tensors(network(torch.randn(*shape))) for _ in range(2))
    if not all(torch.isfinite(tensor).all() for tensor in one):
        raise ValueError("the output is not finite")
    if all(torch.allclose(a, b) for a, b in zip(one, other, strict=True)):
        raise ValueError("the output does not depend on the input")


def _tensors(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    return [tensor for part in output for tensor in _tensors(part)]


def export(network: nn.Module, shape: Sequence[int], exporter: str, target: Path) -> None:
    """Write `target`, whole or not at all."""
    staged = target.with_suffix(".part")
    options: dict[str, Any] = {"dynamo": False, "opset_version": OPSET}
    if exporter == "dynamo":
        options = {"dynamo": True, "external_data": False, "verbose": False}
    torch.onnx.export(network, (torch.randn(*shape),), str(staged), **options)
    staged.rename(target)


def main(make: str, shape: str, arguments: str, exporter: str, target: str) -> None:
    """Do one export. The prints of exporters and packages go to standard error."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    sys.meta_path.append(AbsentPackage())  # type: ignore[arg-type]
    sizes = json.loads(shape)
    with redirect_stdout(sys.stderr):
        network = build(make, json.loads(arguments))
        train(network, sizes)
        judge(network, sizes)
        export(network, sizes, exporter, Path(target))
    print(json.dumps({"normalizations": len(normalizations(network))}), flush=True)
    os._exit(0)  # skips PyTorch's clean-up, which takes seconds


if __name__ == "__main__":
    main(*sys.argv[1:])
