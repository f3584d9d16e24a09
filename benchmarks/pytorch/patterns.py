"""The patterns of the comparison with PyTorch's own fusers: small modules, each with an input and what can fold.

All are in inference mode with statistics as after a training. Lengths agree on purpose where an axis could be mistaken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  as PyTorch's documentation has it

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 20150211
Normalization = nn.modules.batchnorm._BatchNorm


class Pattern(nn.Module):
    """Layers a, b, c and normalizations bn, bn2 in the order that `rule` calls them."""

    def __init__(self, rule: Callable[[Pattern, torch.Tensor], torch.Tensor], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.rule = rule

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Call the layers."""
        return self.rule(self, x)


class Case(NamedTuple):
    """One pattern: what makes it, the shape of its input, the normalizations in it and those that must stay."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    count: int = 1
    stays: int = 0


def pattern(rule: Callable[..., torch.Tensor], **parts: nn.Module) -> nn.Module:
    """A pattern with statistics."""
    return with_statistics(Pattern(rule, **parts))


@torch.no_grad()
def with_statistics(module: nn.Module) -> nn.Module:
    """The module in inference mode, as after a training."""
    generator = torch.Generator().manual_seed(SEED)
    for part in module.modules():
        if isinstance(part, Normalization):
            for value, low, high in (
                (part.weight, 0.5, 1.5), (part.bias, -1, 1), (part.running_mean, -1, 1), (part.running_var, 0.5, 2)
            ):  # fmt: skip
                if value is not None:
                    value.uniform_(low, high, generator=generator)
    return module.eval()


def chain(*parts: nn.Module) -> nn.Module:
    """A Sequential with statistics."""
    return with_statistics(nn.Sequential(*parts))


def _functional(m: Pattern, x: torch.Tensor) -> torch.Tensor:
    bn = m.bn
    y = F.conv2d(x, m.a.weight, m.a.bias)
    return F.batch_norm(y, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps)


def _conv(inputs: int = 4, outputs: int = 4, kernel: int = 1, **more: object) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel, **more)  # type: ignore[arg-type]


def _tied() -> nn.Module:
    module = Pattern(lambda m, x: m.bn(m.a(x)) + m.b(x).relu(), a=_conv(), b=_conv(), bn=nn.BatchNorm2d(4))
    module.get_submodule("b").weight = module.get_submodule("a").weight
    return with_statistics(module)


def _halves(m: Pattern, x: torch.Tensor) -> torch.Tensor:
    one, other = m.a(x).chunk(2, 1)
    return torch.cat([m.bn(one), m.bn2(other)], 1)


def _weight_normed() -> nn.Module:
    return torch.nn.utils.parametrizations.weight_norm(_conv())


IMAGE, TOKENS = (2, 4, 6, 6), (2, 4, 4)
CASES: dict[str, Case] = {
    "conv1d, bn": Case(lambda: chain(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)), (2, 4, 8)),
    "conv2d, bn": Case(lambda: chain(_conv(4, 6, 3), nn.BatchNorm2d(6)), IMAGE),
    "conv3d, bn": Case(lambda: chain(nn.Conv3d(4, 6, 3), nn.BatchNorm3d(6)), (2, 4, 4, 4, 4)),
    "depthwise conv, bn": Case(lambda: chain(_conv(4, 8, 3, groups=4), nn.BatchNorm2d(8)), IMAGE),
    "conv, bn without gamma and beta": Case(lambda: chain(_conv(), nn.BatchNorm2d(4, affine=False)), IMAGE),
    "convtranspose, bn": Case(lambda: chain(nn.ConvTranspose2d(4, 6, 2, stride=2), nn.BatchNorm2d(6)), IMAGE),
    "grouped convtranspose, bn": Case(
        lambda: chain(nn.ConvTranspose2d(4, 4, 2, stride=2, groups=2), nn.BatchNorm2d(4)), IMAGE
    ),
    "grouped convtranspose to more channels, bn": Case(
        lambda: chain(nn.ConvTranspose2d(4, 8, 3, groups=2), nn.BatchNorm2d(8)), IMAGE
    ),
    "grouped convtranspose1d, bn": Case(
        lambda: chain(nn.ConvTranspose1d(4, 4, 3, groups=4), nn.BatchNorm1d(4)), (2, 4, 8)
    ),
    "linear, bn": Case(lambda: chain(nn.Linear(4, 6), nn.BatchNorm1d(6)), (3, 4)),
    "linear, bn on 3-D input": Case(lambda: chain(nn.Linear(4, 4), nn.BatchNorm1d(4)), TOKENS),
    "linear, transpose, bn": Case(
        lambda: pattern(lambda m, x: m.bn(m.a(x).transpose(1, 2)), a=nn.Linear(4, 4), bn=nn.BatchNorm1d(4)), TOKENS
    ),
    "linear, dropout, bn": Case(lambda: chain(nn.Linear(4, 6), nn.Dropout(), nn.BatchNorm1d(6)), (3, 4)),
    "conv, relu, bn, conv": Case(lambda: chain(_conv(), nn.ReLU(), nn.BatchNorm2d(4), _conv(kernel=3)), IMAGE),
    "conv, prelu, bn, conv": Case(lambda: chain(_conv(), nn.PReLU(4), nn.BatchNorm2d(4), _conv(kernel=3)), IMAGE),
    "bn, linear": Case(lambda: chain(nn.BatchNorm1d(4), nn.Linear(4, 6)), (3, 4)),
    "bn, conv": Case(lambda: chain(nn.BatchNorm2d(4), _conv(kernel=3)), IMAGE),
    "bn read by two conv": Case(
        lambda: pattern(lambda m, x: m.a(y := m.bn(x)) + m.b(y).relu(), a=_conv(), b=_conv(), bn=nn.BatchNorm2d(4)),
        IMAGE,
    ),
    "bn, conv with padding": Case(lambda: chain(nn.BatchNorm2d(4), _conv(kernel=3, padding=1)), IMAGE),
    "bn, relu, conv": Case(lambda: chain(nn.BatchNorm2d(4), nn.ReLU(), _conv()), IMAGE),
    "conv, bn, bn": Case(lambda: chain(_conv(), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), IMAGE, count=2),
    "conv and bn, called twice": Case(
        lambda: pattern(lambda m, x: m.bn(m.a(m.bn(m.a(x)).relu())), a=_conv(), bn=nn.BatchNorm2d(4)), IMAGE, count=2
    ),
    "weight tied to another conv, bn": Case(_tied, IMAGE),
    "shared conv, two bn": Case(
        lambda: pattern(
            lambda m, x: m.bn(m.a(x)) + m.bn2(m.a(x * 2)), a=_conv(), bn=nn.BatchNorm2d(4), bn2=nn.BatchNorm2d(4)
        ),
        IMAGE,
        count=2,
    ),
    "two conv, shared bn": Case(
        lambda: pattern(lambda m, x: m.bn(m.b(m.bn(m.a(x)).relu())), a=_conv(), b=_conv(), bn=nn.BatchNorm2d(4)),
        IMAGE,
        count=2,
    ),
    "conv read twice, bn": Case(
        lambda: pattern(lambda m, x: (y := m.a(x)) * m.bn(y).sigmoid(), a=_conv(), bn=nn.BatchNorm2d(4)), IMAGE, stays=1
    ),
    "functional conv and bn": Case(lambda: pattern(_functional, a=_conv(), bn=nn.BatchNorm2d(4)), IMAGE),
    "x + bn(conv(x))": Case(lambda: pattern(lambda m, x: x + m.bn(m.a(x)), a=_conv(), bn=nn.BatchNorm2d(4)), IMAGE),
    "bn(conv(x)) - x": Case(lambda: pattern(lambda m, x: m.bn(m.a(x)) - x, a=_conv(), bn=nn.BatchNorm2d(4)), IMAGE),
    "conv += bn(conv), in place": Case(
        lambda: pattern(lambda m, x: m.a(x).add_(m.bn(m.b(x))), a=_conv(), b=_conv(), bn=nn.BatchNorm2d(4)), IMAGE
    ),
    "bn(conv * 0.5 + 1)": Case(
        lambda: pattern(lambda m, x: m.bn(m.a(x) * 0.5 + 1), a=_conv(), bn=nn.BatchNorm2d(4)), IMAGE
    ),
    "bn(conv + conv)": Case(
        lambda: pattern(lambda m, x: m.bn(m.a(x) + m.b(x)), a=_conv(), b=_conv(), bn=nn.BatchNorm2d(4)), IMAGE
    ),
    "cat of conv, bn": Case(
        lambda: pattern(lambda m, x: m.bn(torch.cat([m.a(x), m.b(x)], 1)), a=_conv(), b=_conv(), bn=nn.BatchNorm2d(8)),
        IMAGE,
    ),
    "conv, chunk, two bn": Case(
        lambda: pattern(_halves, a=_conv(), bn=nn.BatchNorm2d(2), bn2=nn.BatchNorm2d(2)), IMAGE, count=2
    ),
    "conv, upsample, bn": Case(lambda: chain(_conv(), nn.Upsample(scale_factor=2), nn.BatchNorm2d(4)), IMAGE),
    "conv, pixel shuffle, bn": Case(lambda: chain(_conv(4, 16), nn.PixelShuffle(2), nn.BatchNorm2d(4)), IMAGE),
    "conv, average pool, bn": Case(lambda: chain(_conv(), nn.AvgPool2d(2), nn.BatchNorm2d(4)), IMAGE),
    "conv, flatten, bn": Case(lambda: chain(_conv(4, 2), nn.Flatten(), nn.BatchNorm1d(72)), IMAGE, stays=1),
    "weight-normalized conv, bn": Case(lambda: chain(_weight_normed(), nn.BatchNorm2d(4)), IMAGE),
    "RepVGG block": Case(
        lambda: pattern(
            lambda m, x: m.bn(m.a(x)) + m.bn2(m.b(x)) + m.bn3(x),
            a=_conv(kernel=3, padding=1),
            b=_conv(),
            bn=nn.BatchNorm2d(4),
            bn2=nn.BatchNorm2d(4),
            bn3=nn.BatchNorm2d(4),
        ),
        IMAGE,
        count=3,
    ),
    "conv, bn without statistics": Case(
        lambda: chain(_conv(), nn.BatchNorm2d(4, track_running_stats=False)), IMAGE, count=0
    ),
}
