"""The networks of the comparison, each with what makes its inputs; the seed is fixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from benchmarks.precision import others, vision

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Made = tuple[Callable[[], nn.Module], Callable[[int], tuple[Tensor, ...]]]

SEED = 20150211
BATCHES, BATCH = 8, 16  # from which the statistics are taken; their average, not the last one, as after long training
DEVIATION = 0.3  # of trained gammas and betas

NETWORKS: dict[str, Made] = {
    "ResNet": (vision.resnet, others.images),
    "DenseNet": (vision.densenet, others.images),
    "MobileNetV3": (vision.mobilenetv3, others.images),
    "EfficientNet": (vision.efficientnet, others.images),
    "U-Net": (vision.UNet, others.images),
    "LeViT": (vision.LeViT, others.images),
    "ConvNeXt": (vision.convnext, others.images),
    **others.conformers,
    "GRU and LSTM": (others.Recurrent, others.signals),
    "tabular MLP": (others.Tabular, others.tables),
    "If and Loop": (others.Control, others.controls),
    "Resize, GridSample, TopK": (others.Sampling, others.images),
    "BN with epsilon 1e-12": (others.SmallVariance, others.images),
    "beyond 65504": (others.Beyond, others.images),
}


@torch.no_grad()
def made(name: str) -> nn.Module:
    """A network in inference mode, whose BatchNormalizations have the statistics of its own activations."""
    make, inputs = NETWORKS[name]
    torch.manual_seed(SEED)
    network = make()
    parts = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for part in parts:
        part.weight.copy_((1 + DEVIATION * torch.randn_like(part.weight)).abs())
        part.bias.normal_(0, DEVIATION)
        part.momentum = None  # the average of all batches
    network.train()
    for _ in range(BATCHES):
        network(*inputs(BATCH))
    return network.eval()


def sampled(name: str, batch: int, seed: int) -> tuple[Tensor, ...]:
    """Inputs of a network; other seeds give other ones."""
    torch.manual_seed(SEED + seed)
    return NETWORKS[name][1](batch)
