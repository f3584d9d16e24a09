"""``python -m benchmarks.quantization.pytorch``: PyTorch's own 8 bits; writes results/quantization-pytorch.md.

`prepare_fx` and `convert_fx` of torch.ao.quantization on a module as it is, after `fold_module`, and after
`fold_module` with `equalize`; with the settings for x86 (a step for each output channel of a weight) and for QNNPACK
(one step for all). The networks, images and figures are those of `benchmarks.quantization`.
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from benchmarks.pytorch.versions import measured
from benchmarks.quantization.export import CALIBRATION, NETWORKS, SEED, TESTS, built, images, quiet
from benchmarks.quantization.measure import agreement, sqnr
from folding import Options, fold_module

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RESULT = Path(__file__).parents[1] / "results" / "quantization-pytorch.md"
STATES = ("unfolded", "folded", "folded + equalized")
BACKENDS = {"x86": "per channel", "qnnpack": "per tensor"}
HEAD = """\
# 8 bits in PyTorch, before and after a fold

Written by `python -m benchmarks.quantization.pytorch`. {measured} PyTorch's own quantization (`prepare_fx`,
`convert_fx`, static, default settings) of a module as it is, after `fold_module`, and after `fold_module` with
`equalize=True`. Networks, images and figures are those of [quantization.md](quantization.md): no network is trained,
so the figures distinguish the states and say nothing of accuracies. `prepare_fx` folds a normalization that directly
follows a convolution itself. "Fused" counts convolutions that compute their activation, too, and sums that do.

| network | before quantization | weights | SQNR | same largest output | fused |
| --- | --- | --- | ---: | ---: | ---: |
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.quantization.pytorch", description=__doc__)
    parser.add_argument("--network", action="append", choices=NETWORKS, help="one of them, repeatable (default: all)")
    parser.add_argument("--output", type=Path, default=RESULT, help="where the table goes (default: results)")
    given = parser.parse_args(argv)
    quiet()
    lines = []
    for name in given.network or NETWORKS:
        for line in _lines(name):
            print(line, flush=True)
            lines.append(line)
    given.output.write_text(HEAD.format(measured=measured()) + "\n".join(lines) + "\n")
    return 0


@torch.no_grad()
def _lines(name: str) -> Iterator[str]:
    network, calibration, tests = built(name), images(CALIBRATION, SEED + 1), images(TESTS, SEED + 2)
    exact = [network(tests).numpy()]
    for state in STATES:
        module = copy.deepcopy(network)
        if state != "unfolded":
            module = fold_module(module, calibration[:2], Options(equalize=state != "folded"))
        for backend, weights in BACKENDS.items():
            quantized = converted(module, backend, calibration)
            found = [quantized(tests).numpy()]
            figures = f"{sqnr(exact, found):.1f} dB | {agreement(exact, found):.0%} | {_fused(quantized)}"
            yield f"| {name} | {state} | {weights} | {figures} |"


def converted(module: torch.nn.Module, backend: str, calibration: torch.Tensor) -> torch.fx.GraphModule:
    """A copy of a module in 8 bits, with the default settings for a backend, by the ranges of the samples."""
    torch.backends.quantized.engine = backend
    prepared = prepare_fx(copy.deepcopy(module), get_default_qconfig_mapping(backend), (calibration[:1],))
    for image in calibration.split(1):
        prepared(image)
    return convert_fx(prepared)


def _fused(quantized: torch.fx.GraphModule) -> int:
    layers = sum("ReLU" in type(part).__name__ and "Conv" in type(part).__name__ for part in quantized.modules())
    return layers + sum("add_relu" in str(node.target) for node in quantized.graph.nodes)


if __name__ == "__main__":
    sys.exit(main())
