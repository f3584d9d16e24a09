"""Random PyTorch modules: the random graphs of the gate in PyTorch's words, by a seed.

A chain of steps over images, sequences or vectors: convolutions of every kind, linear layers, normalizations before
and after them, called as functions and shared, residual sums, channels joined and taken apart, images resampled,
pooling, padding and activations. Every epsilon and slope is a float32, which is what an ONNX file holds of it, so that
float64 shows errors of the algebra alone.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  as PyTorch's documentation has it

from tests.support.torch.modules import trained

if TYPE_CHECKING:
    from collections.abc import Callable

EPSILON = 2.0**-10  # exact in float32
SLOPE = 0.25
MOST_STEPS = 7
CHANNELS = (2, 4, 6)

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORMALIZATIONS = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOLS = {1: (F.max_pool1d, F.avg_pool1d), 2: (F.max_pool2d, F.avg_pool2d), 3: (F.max_pool3d, F.avg_pool3d)}


class Chain(nn.Module):
    """Steps one after the other; each is a module with its own way to call it."""

    def __init__(self, steps: list[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in self.steps:
            x = step(x)
        return x


class Apply(nn.Module):
    """A step without weights."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Residual(nn.Module):
    """``x + f(x)``, with a part of the sum scaled, subtracted or joined."""

    def __init__(self, inner: nn.Module, how: str) -> None:
        super().__init__()
        self.inner, self.how = inner, how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(x)
        if self.how == "sub":
            return y - x
        if self.how == "in-place":
            y += x
            return y
        return torch.cat([x, y], 1) if self.how == "cat" else x + y


class Functional(nn.Module):
    """A normalization and a convolution whose weights are plain parameters, called as functions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.rand(channels) + 0.5), nn.Parameter(torch.randn(channels))
        self.register_buffer("mean", torch.randn(channels))
        self.register_buffer("var", torch.rand(channels) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, self.mean, self.var, self.gamma, self.beta, eps=EPSILON)


class Shared(nn.Module):
    """One step that is called twice, with something in between."""

    def __init__(self, step: nn.Module, between: nn.Module) -> None:
        super().__init__()
        self.step, self.between = step, between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.step(self.between(self.step(x)))


class Tokens(nn.Module):
    """Linear on the last axis of an image, and back: (N, C, ...) -> (N, ..., C) -> (N, C, ...)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rank = x.ndim  # permute, since TorchScript writes a negative axis of movedim as it is, which ONNX forbids
        return self.inner(x.permute(0, *range(2, rank), 1)).permute(0, rank - 1, *range(1, rank - 1))


class Resampled(nn.Module):
    """A convolution that halves the size or doubles it, and the way back."""

    def __init__(self, inner: nn.Module, back: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.inner, self.back = inner, back

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.back(self.inner(x))


class Halves(nn.Module):
    """One half of the channels through a step, the other as it is, exchanged."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, other = x.chunk(2, 1)
        return torch.cat([other, self.step(one)], 1)


class Scaled(nn.Module):
    """``scale * x + shift`` with a parameter for every channel."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        shape = (channels, *(1,) * rank)
        self.scale, self.shift = nn.Parameter(torch.rand(shape) + 0.5), nn.Parameter(torch.randn(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x + self.shift


class Maker:
    """Draws the steps; `rank` is the number of axes behind the channels (0: vectors), `size` their length."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rank = self.rng.choice((0, 1, 1, 2, 2, 2, 3))
        self.size = 6
        self.channels = self.rng.choice(CHANNELS)

    def module(self) -> tuple[nn.Module, torch.Tensor]:
        """A module and an example input, in float64."""
        first, rank = self.channels, self.rank
        steps = [self.step() for _ in range(self.rng.randint(2, MOST_STEPS))]
        if self.rank and self.rng.random() < 0.4:
            steps.append(self.head())
        shape = (2, first, *(self.size,) * rank)
        return trained(Chain(steps), self.rng.randrange(1 << 30)).double(), torch.randn(shape, dtype=torch.float64)

    def step(self, depth: int = 0) -> nn.Module:
        """One step; it may change the channels."""
        kinds: list[Callable[[int], nn.Module]] = [
            self.weighted,
            self.weighted,
            self.normalization,
            self.normalization,
            self.activation,
            self.affine,
        ]
        if self.rank:
            kinds += [self.pool, self.padding, self.tokens, self.places, self.resampled]
        if depth < 2 and self.channels % 2 == 0:
            kinds.append(self.halves)
        if depth < 2:
            kinds += [self.residual, self.shared, self.block, self.block]
        return self.rng.choice(kinds)(depth)

    def weighted(self, _: int = 0, outputs: int | None = None) -> nn.Module:
        """A convolution or a linear layer."""
        inputs, rng = self.channels, self.rng
        self.channels = rng.choice(CHANNELS) if outputs is None else outputs
        bias = rng.random() < 0.5
        if not self.rank:
            return nn.Linear(inputs, self.channels, bias=bias)
        groups = self.groups(inputs)
        kernel, dilation = rng.choice(((1, 1), (3, 1), (3, 2)))
        padding = kernel // 2 * dilation
        if rng.random() < 0.25:
            return TRANSPOSED[self.rank](
                inputs, self.channels, kernel, padding=padding, dilation=dilation, groups=groups, bias=bias
            )
        mode = rng.choice(("zeros", "zeros", "zeros", "reflect", "replicate")) if self.rank < 3 else "zeros"
        given: Any = "same" if dilation == 1 and rng.random() < 0.2 else padding  # ONNX Runtime refuses both together
        more: dict[str, Any] = {"padding": given, "dilation": dilation, "padding_mode": mode}
        return CONVOLUTIONS[self.rank](inputs, self.channels, kernel, groups=groups, bias=bias, **more)

    def groups(self, inputs: int) -> int:
        """A number of groups that divides both numbers of channels."""
        return self.rng.choice([g for g in (1, 1, 2, inputs) if inputs % g == 0 and self.channels % g == 0])

    def normalization(self, _: int = 0) -> nn.Module:
        """A normalization over the channels, as a module or called as a function."""
        if self.rng.random() < 0.2:
            return Functional(self.channels)
        return NORMALIZATIONS[self.rank](self.channels, eps=EPSILON, affine=self.rng.random() < 0.9)

    def activation(self, _: int = 0) -> nn.Module:
        """An activation."""
        kinds = (nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(SLOPE), nn.Hardtanh(-2, 2), nn.Sigmoid(), nn.SiLU())
        more = (nn.PReLU(), nn.PReLU(self.channels), nn.ReLU6(), nn.ELU(), nn.Tanh(), nn.Dropout(), nn.Identity())
        return self.rng.choice((*kinds, *more))

    def affine(self, _: int = 0) -> nn.Module:
        """A map with plain numbers, or with a parameter for every channel."""
        kinds = Apply(lambda x: x * 2), Apply(lambda x: x + 0.5), Apply(lambda x: (x - 1) / 4)
        return self.rng.choice((*kinds, Scaled(self.channels, self.rank)))

    def pool(self, _: int = 0) -> nn.Module:
        """A pooling that keeps the size."""
        pool = self.rng.choice(POOLS[self.rank])
        return Apply(lambda x: pool(x, 3, stride=1, padding=1))

    def padding(self, _: int = 0) -> nn.Module:
        """A padding by a number or by the edge, cut off again on the other side."""
        sides, mode = [1, 0] * self.rank, self.rng.choice(("constant", "replicate"))
        return Apply(lambda x: F.pad(x, sides, mode=mode)[:, :, *(slice(n) for n in x.shape[2:])])

    def tokens(self, _: int = 0) -> nn.Module:
        """A linear layer over the channels of every place, with a LayerNorm before or behind it at times."""
        inputs = self.channels
        self.channels = self.rng.choice(CHANNELS)
        layer: nn.Module = nn.Linear(inputs, self.channels, bias=self.rng.random() < 0.5)
        if self.rng.random() < 0.3:
            layer = nn.Sequential(nn.LayerNorm(inputs, eps=EPSILON), layer)
        if self.rng.random() < 0.2:
            layer = nn.Sequential(layer, nn.LayerNorm(self.channels, eps=EPSILON))
        return Tokens(layer)

    def places(self, _: int = 0) -> nn.Module:
        """A linear layer over the last axis, and a normalization over the channels, which are another one."""
        layer = nn.Linear(self.size, self.size, bias=self.rng.random() < 0.5)
        return Chain([layer, self.normalization()])

    def resampled(self, _: int = 0) -> nn.Module:
        """A convolution with strides, its normalization, and the size as it was."""
        inputs, bias = self.channels, self.rng.random() < 0.5
        self.channels = self.rng.choice(CHANNELS)
        groups, normal = self.groups(inputs), self.normalization()
        pool = POOLS[self.rank][1]
        if self.rng.random() < 0.5:
            layer = TRANSPOSED[self.rank](inputs, self.channels, 2, stride=2, groups=groups, bias=bias)
            return Resampled(Chain([layer, normal]), lambda x: pool(x, 2))
        layer = CONVOLUTIONS[self.rank](inputs, self.channels, 3, stride=2, padding=1, groups=groups, bias=bias)
        mode = self.rng.choice(("nearest", ("linear", "bilinear", "trilinear")[self.rank - 1]))
        return Resampled(Chain([layer, normal]), lambda x: F.interpolate(x, scale_factor=2.0, mode=mode))

    def halves(self, depth: int) -> nn.Module:
        """Channels that are taken apart and joined."""
        channels = self.channels
        self.channels = channels // 2
        first = self.rng.choice((self.weighted, self.normalization))()  # nothing in place, which PyTorch refuses there
        inner = [first, self.step(depth + 1), self.weighted(outputs=channels // 2)]
        self.channels = channels
        return Halves(Chain(inner))

    def residual(self, depth: int) -> nn.Module:
        """A sum of the input and of what a few steps make of it."""
        inputs, how = self.channels, self.rng.choice(("add", "add", "sub", "cat", "in-place"))
        inner = [self.step(depth + 1), self.weighted(outputs=inputs), self.normalization()]
        if self.rng.random() < 0.3:
            inner.insert(0, self.normalization_of(inputs))
        self.channels = inputs * (1 + (how == "cat"))
        return Residual(Chain(inner), how)

    def normalization_of(self, channels: int) -> nn.Module:
        """A normalization of so many channels."""
        return NORMALIZATIONS[self.rank](channels, eps=EPSILON)

    def shared(self, _: int) -> nn.Module:
        """A layer, a normalization or both, called twice."""
        channels = self.channels
        step = self.rng.choice(
            (
                lambda: self.weighted(outputs=channels),
                self.normalization,
                lambda: Chain([self.weighted(outputs=channels), self.normalization()]),
            )
        )()
        return Shared(step, self.activation())

    def block(self, _: int) -> nn.Module:
        """What networks are made of: a layer, its normalization and an activation, or the normalization first."""
        if self.rng.random() < 0.3:
            return Chain([self.normalization(), self.activation(), self.weighted()])
        return Chain([self.weighted(), self.normalization(), self.activation()])

    def head(self) -> nn.Module:
        """A pooling over all places, a classifier, and a normalization of vectors."""
        axes = tuple(range(2, 2 + self.rank))
        pool: nn.Module = Apply(lambda x: x.mean(axes))
        if self.rng.random() < 0.5:
            pool = Chain(
                [(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[self.rank - 1](1), nn.Flatten()]
            )
        inputs, self.rank = self.channels, 0
        self.channels = self.rng.choice(CHANNELS)
        return Chain([pool, nn.Linear(inputs, self.channels), self.normalization()])


def drawn(seed: int) -> tuple[nn.Module, torch.Tensor]:
    """The module of a seed and an example input, in float64; the same on every machine."""
    torch.manual_seed(seed)
    return Maker(seed).module()
