"""Small PyTorch modules for tests: trained statistics without a training, and a residual network of named parts."""

from __future__ import annotations

import torch
from torch import nn

SEED = 20150211
LEAST = 0.3  # of a variance and of |gamma|: no channel is amplified beyond what rounding explains

Normalization = nn.modules.batchnorm._BatchNorm


def trained(module: nn.Module, seed: int = SEED) -> nn.Module:
    """The module in inference mode, its normalizations with statistics and parameters as after a training."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.empty_like(like).uniform_(low, high, generator=generator)

    with torch.no_grad():
        for part in module.modules():
            if not isinstance(part, Normalization):
                continue
            if part.affine:
                part.weight.copy_(uniform(part.weight, LEAST, 1.5) * (1 - 2 * (uniform(part.weight, 0, 1) < 0.1)))
                part.bias.copy_(uniform(part.bias, -1, 1))
            if part.running_mean is not None and part.running_var is not None:
                part.running_mean.copy_(uniform(part.running_mean, -1, 1))
                part.running_var.copy_(uniform(part.running_var, LEAST, 2))
    return module.eval()


class Block(nn.Module):
    """A residual block of ResNet: conv1, bn1, conv2, bn2, and the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class Small(nn.Module):
    """A stem, two blocks, a normalization before the pooling and one behind the classifier: 7 normalizations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(Block(8), Block(8))
        self.pre = nn.BatchNorm2d(8)
        self.drop = nn.Dropout()
        self.head = nn.Linear(8, 5)
        self.after = nn.BatchNorm1d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pre(self.layer1(torch.relu(self.bn(self.stem(x)))))
        return self.after(self.head(self.drop(x.mean((2, 3)))))


SMALL_NORMALIZATIONS = ["bn", *(f"layer1.{i}.bn{j}" for i in (0, 1) for j in (1, 2)), "pre", "after"]


def small() -> nn.Module:
    """A `Small` with statistics, always the same one: a factory for `bnfold from-torch`."""
    torch.manual_seed(SEED)
    return trained(Small())


def small_with_inputs() -> tuple[nn.Module, torch.Tensor]:
    """A `Small` and an example input."""
    return small(), torch.randn(2, 3, 12, 12)


def training() -> nn.Module:
    """A `Small` in training mode."""
    return small().train()


NOT_A_MODULE = 3
