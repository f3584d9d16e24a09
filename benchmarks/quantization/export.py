"""One network in a process of its own: ``python -m benchmarks.quantization.export NAME FOLDER``.

Writes model.onnx with its BatchNormalizations, calibration.npz and tests.npz. Nothing is downloaded: weights are
random, channels are skewed, and the statistics are those of the network's own activations.
"""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn

from benchmarks.architectures.export import AbsentPackage, normalizations

NETWORKS = {
    "MobileNetV1": "timm.models:mobilenetv1_100",  # with ReLU in place of ReLU6, as in the paper's section 5.1
    "MobileNetV2": "timm.models:mobilenetv2_100",
    "MnasNet": "timm.models:mnasnet_100",
    "FBNet-C": "timm.models:fbnetc_100",
    "ResNet-18": "timm.models:resnet18",
}
SEED = 20190611
OPSET = 17
SIZE = 64  # pixels
CALIBRATION, TESTS = 16, 48  # images
COARSE = (2, 4, 8, 16, 32)  # pixels of the noises that make an image: natural ones have as much of each scale
SPREAD = 0.5  # standard deviation of log gamma; see `skew`


def images(number: int, seed: int) -> Tensor:
    """Images with the spectrum of natural ones: noise of several scales, in grey and in color."""
    made = torch.Generator().manual_seed(seed)
    total = torch.zeros(number, 3, SIZE, SIZE)
    for size in COARSE:
        grey = torch.randn(number, 1, size, size, generator=made)
        color = torch.randn(number, 3, size, size, generator=made) / 2
        total += F.interpolate(grey + color, (SIZE, SIZE), mode="bilinear", align_corners=False)
    return total / total.std((1, 2, 3), keepdim=True)


@torch.no_grad()
def skew(network: nn.Module) -> None:
    """Give the normalizations gammas whose logarithms are normal, and the statistics of their own activations.

    Nagel et al. (2019, figure 2) show channels of a trained MobileNetV2 whose ranges differ by a factor of 100 within
    one weight. Two standard deviations of `SPREAD` on both sides are a factor of 7, and the statistics add theirs.
    """
    for part in normalizations(network):
        part.weight.copy_(torch.exp(SPREAD * torch.randn_like(part.weight)))
        part.bias.copy_(part.weight * torch.randn_like(part.bias) / 2)
        part.momentum = 1.0  # only the next batch counts
        part.train()
    network(images(TESTS, SEED))
    network.eval()


def built(name: str) -> nn.Module:
    """One network with its skewed channels; the same every time."""
    torch.manual_seed(SEED)
    module, _, maker = NETWORKS[name].partition(":")
    arguments = {"act_layer": nn.ReLU} if name.startswith("MobileNet") else {}
    network: nn.Module = getattr(importlib.import_module(module), maker)(**arguments).eval()
    skew(network)
    return network


def quiet() -> None:
    """One thread, no warnings, and no torchvision."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    sys.meta_path.append(AbsentPackage())  # type: ignore[arg-type]


def exported(network: nn.Module, example: Tensor, target: Path) -> None:
    """Write a network with its BatchNormalizations; in inference mode this exporter would fold some itself."""
    torch.onnx.export(
        network, (example,), str(target), dynamo=False, opset_version=OPSET,
        training=torch.onnx.TrainingMode.PRESERVE, input_names=["input"], output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
    )  # fmt: skip


def main(name: str, folder: str) -> None:
    """Export one network."""
    quiet()
    network, place = built(name), Path(folder)
    np.savez(place / "calibration.npz", input=images(CALIBRATION, SEED + 1).numpy())
    np.savez(place / "tests.npz", input=images(TESTS, SEED + 2).numpy())
    exported(network, images(1, 0), place / "model.onnx")


if __name__ == "__main__":
    main(*sys.argv[1:])
