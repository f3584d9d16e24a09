"""A trained network as it is, folded, and folded and equalized, in float32 and in 8 bits: what it classifies right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from benchmarks.quantization.export import exported
from benchmarks.quantization.measure import outputs, quantized, sqnr
from benchmarks.quantization.pytorch import BACKENDS, STATES, converted
from folding import Options, fold, fold_module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from benchmarks.quantization.digits.training import Labelled
    from benchmarks.quantization.measure import Array

FLOAT = "float32"
UNFOLDED = STATES[0]
WEIGHTS = {"Conv", "Gemm"}  # the operators whose second input is one, with the outputs on its first axis


class Quality(NamedTuple):
    """How good a model is: the share that it classifies right, its noise against float32 in decibels, its size."""

    accuracy: float
    sqnr: float
    nbytes: int


@dataclass(frozen=True)
class Row:
    """A network in one state and one arithmetic, in both runtimes. `skews` has that of each weight, in float32.

    `pytorch` is None where PyTorch itself computes something else; see `clamps`.
    """

    network: str
    state: str  # what was done to it before
    weights: str  # FLOAT, "per tensor" or "per channel"
    onnxruntime: Quality
    pytorch: Quality | None
    skews: tuple[float, ...] = ()


@torch.no_grad()
def rows(name: str, network: nn.Module, calibration: Tensor, tests: Labelled, folder: Path) -> Iterator[Row]:
    """All rows of a network; its files stay in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    original, small, weights = (folder / file for file in ("unfolded.onnx", "quantized.onnx", "weights.pt"))
    exported(network, calibration[:1], original)
    samples, feeds = ({"input": images.numpy()} for images in (calibration, tests.images))
    exact = outputs(original, feeds)
    has_clamps = any(isinstance(part, nn.ReLU6) for part in network.modules())
    right = {backend for backend in BACKENDS if clamps(backend) or not has_clamps}

    def judged(found: list[Array], file: Path) -> Quality:
        right = found[0].argmax(1) == tests.labels.numpy()
        return Quality(float(right.mean()), sqnr(exact, found), file.stat().st_size)

    def ran(module: nn.Module) -> Quality:
        torch.save(module.state_dict(), weights)
        return judged([module(tests.images).numpy()], weights)

    for state in STATES:
        model, module = original, network
        if state != UNFOLDED:
            model, options = folder / f"{state}.onnx", Options(equalize=state != "folded")
            fold(original, model, options)
            module = fold_module(network, calibration[:2], options)
        yield Row(name, state, FLOAT, judged(outputs(model, feeds), model), ran(module), tuple(skews(model)))
        for backend, steps in BACKENDS.items():
            quantized(model, small, samples, per_channel=steps == "per channel")
            theirs = ran(converted(module, backend, calibration)) if backend in right else None
            yield Row(name, state, steps, judged(outputs(small, feeds), small), theirs)


def clamps(backend: str) -> bool:
    """Whether a backend of PyTorch clamps right: QNNPACK permutes images that have the channels last (2.13)."""
    torch.backends.quantized.engine = backend
    images = torch.quantize_per_tensor(torch.arange(24.0).reshape(1, 2, 3, 4), 0.1, 0, torch.quint8)
    images = images.contiguous(memory_format=torch.channels_last)
    return torch.equal(nn.ReLU6()(images).dequantize(), nn.ReLU6()(images.dequantize()))


def skews(model: Path) -> Iterator[float]:
    """The skew of every weight of a model."""
    graph = onnx.load(model).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in WEIGHTS:
            yield skew(numpy_helper.to_array(constants[node.input[1]]))


def skew(weight: np.ndarray[Any, Any]) -> float:
    """How many times the range of the median channel the largest one has; the first axis counts channels.

    Channels without any weight do not count.
    """
    ranges = np.abs(weight.reshape(len(weight), -1)).max(1)
    return float(ranges.max() / np.median(ranges[ranges > 0]))
