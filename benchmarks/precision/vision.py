"""Small networks for images, each with what makes its family hard in 16 bits; weights are random, sizes are small."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn


def conv_bn(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, eps: float = 1e-5
) -> nn.Module:
    """A convolution and its BatchNormalization."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=eps))


class Head(nn.Module):
    """A global average and a linear layer."""

    def __init__(self, features: int, classes: int = 32) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)))


class Bottleneck(nn.Module):
    """He et al., "Deep Residual Learning for Image Recognition" (2016)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.reduce, self.middle = conv_bn(inputs, width, 1), conv_bn(width, width, 3, stride)
        self.expand = conv_bn(width, outputs, 1)
        self.identity = conv_bn(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(F.relu(self.middle(F.relu(self.reduce(x)))))
        return F.relu(y + self.identity(x))


def resnet() -> nn.Module:
    """Bottleneck blocks in four stages."""
    layers: list[nn.Module] = [conv_bn(3, 16, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 16
    for number, width in enumerate((16, 32, 64, 96)):
        for place in range(3):
            layers.append(Bottleneck(inputs, width, 2 if place == 0 and number else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, Head(inputs))


class Dense(nn.Module):
    """A layer of DenseNet: normalization and activation come before each convolution (Huang et al. 2017)."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.first, self.second = nn.BatchNorm2d(inputs), nn.BatchNorm2d(4 * growth)
        self.reduce = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.grow = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.grow(F.relu(self.second(self.reduce(F.relu(self.first(x))))))
        return torch.cat([x, y], 1)


def densenet() -> nn.Module:
    """Three blocks of six layers, transitions between them."""
    layers: list[nn.Module] = [conv_bn(3, 32, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    features = 32
    for block in range(3):
        layers += [Dense(features + 16 * place, 16) for place in range(6)]
        features += 96
        layers += [nn.BatchNorm2d(features), nn.ReLU()]
        if block < 2:
            layers += [nn.Conv2d(features, features // 2, 1, bias=False), nn.AvgPool2d(2)]
            features //= 2
    return nn.Sequential(*layers, Head(features))


class Squeeze(nn.Module):
    """Channel attention (Hu et al. 2018)."""

    def __init__(self, features: int, gate: nn.Module) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(features, features // 4, 1), nn.Conv2d(features // 4, features, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))


class Inverted(nn.Module):
    """An inverted residual with channel attention (Howard et al. 2019; Tan and Le 2019)."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, kernel: int, act: type[nn.Module], gate: nn.Module
    ) -> None:
        super().__init__()
        wide = 4 * inputs
        self.body = nn.Sequential(
            conv_bn(inputs, wide, 1), act(), conv_bn(wide, wide, kernel, stride, wide), act(), Squeeze(wide, gate),
            conv_bn(wide, outputs, 1),
        )  # fmt: skip
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.skips else self.body(x)


def _mobile(act: type[nn.Module], gate: nn.Module, widths: tuple[int, ...]) -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, widths[0], 3, 2), act()]
    for inputs, outputs in pairwise(widths):
        layers += [Inverted(inputs, outputs, 2, 5, act, gate)]
        layers.append(Inverted(outputs, outputs, 1, 3, act, gate))
    return nn.Sequential(*layers, conv_bn(widths[-1], 128, 1), act(), Head(128))


def mobilenetv3() -> nn.Module:
    """Hardswish and a hard sigmoid as the gate."""
    return _mobile(nn.Hardswish, nn.Hardsigmoid(), (16, 24, 40, 64))


def efficientnet() -> nn.Module:
    """SiLU and a sigmoid as the gate."""
    return _mobile(nn.SiLU, nn.Sigmoid(), (16, 24, 40, 80))


class UNet(nn.Module):
    """Down and up again with ConvTranspose, each level joined with its counterpart (Ronneberger et al. 2015)."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        steps = list(pairwise((3, *widths)))
        self.down = nn.ModuleList(nn.Sequential(conv_bn(a, b), nn.ReLU(), conv_bn(b, b), nn.ReLU()) for a, b in steps)
        ups = [(b, a) for a, b in pairwise(widths)][::-1]
        self.up = nn.ModuleList(nn.Sequential(nn.ConvTranspose2d(a, b, 2, 2), nn.BatchNorm2d(b)) for a, b in ups)
        self.join = nn.ModuleList(nn.Sequential(conv_bn(2 * b, b), nn.ReLU()) for _, b in ups)
        self.last = nn.Conv2d(widths[0], 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for level, part in enumerate(self.down):
            x = part(F.max_pool2d(x, 2) if level else x)
            kept.append(x)
        for part, join, skip in zip(self.up, self.join, kept[-2::-1], strict=True):
            x = join(torch.cat([part(x), skip], 1))
        return torch.sigmoid(self.last(x))


class LinearNorm(nn.Module):
    """A linear layer over the last axis, and a BatchNormalization of its features, as LeViT has it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return self.norm(y.flatten(0, 1)).reshape_as(y)


class Attention(nn.Module):
    """Attention with a learned bias of each offset (Graham et al. 2021)."""

    def __init__(self, features: int, tokens: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.size = heads, features // heads
        self.qkv, self.out = LinearNorm(features, 3 * features), LinearNorm(features, features)
        self.bias = nn.Parameter(torch.randn(heads, tokens, tokens))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, features = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) * self.size**-0.5 + self.bias
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, features)
        return x + self.out(F.hardswish(y))


class Mixing(nn.Module):
    """The feed-forward part of LeViT."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.wide, self.narrow = LinearNorm(features, 2 * features), LinearNorm(2 * features, features)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(F.hardswish(self.wide(x)))


class LeViT(nn.Module):
    """A convolutional stem, then attention over 4 x 4 tokens."""

    def __init__(self, features: int = 64, blocks: int = 4) -> None:
        super().__init__()
        widths = (3, 16, 32, 48, features)
        self.stem = nn.Sequential(
            *(part for a, b in pairwise(widths) for part in (conv_bn(a, b, 3, 2), nn.Hardswish()))
        )
        self.blocks = nn.Sequential(
            *(part for _ in range(blocks) for part in (Attention(features, 16), Mixing(features)))
        )
        self.head = nn.Sequential(nn.BatchNorm1d(features), nn.Linear(features, 32))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x).flatten(2).transpose(1, 2)).mean(1))


class Next(nn.Module):
    """A block of ConvNeXt (Liu et al. 2022): depthwise 7 x 7, LayerNormalization, GELU, a small scale per channel."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(features, features, 7, padding=3, groups=features)
        self.norm = nn.LayerNorm(features, eps=1e-6)
        self.wide, self.narrow = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)
        self.scale = nn.Parameter(0.1 * torch.rand(features))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.narrow(F.gelu(self.wide(y)))).permute(0, 3, 1, 2)


class Channels(nn.Module):
    """A LayerNormalization of the channels, written out as the original code of ConvNeXt does."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        return self.weight[:, None, None] * ((x - mean) / torch.sqrt(variance + 1e-6)) + self.bias[:, None, None]


def convnext() -> nn.Module:
    """Three stages of two blocks."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 4, 4), Channels(32)]
    for width in (32, 64, 96):
        if width > 32:
            layers += [Channels(width - 32), nn.Conv2d(width - 32, width, 2, 2)]
        layers += [Next(width), Next(width)]
    return nn.Sequential(*layers, Head(96))
