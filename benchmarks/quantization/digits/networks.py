"""Small networks to train on small images: separable convolutions, inverted residuals and residual blocks.

Kernels, expansions and the order of the stages are those of the papers, with fewer repetitions; a channel count is a
quarter of theirs or less. Images have one channel and 16 pixels, so the first convolution and a stage or two keep the
resolution.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CLASSES = 10


class Stage(NamedTuple):
    """Blocks behind each other; the first one has the stride."""

    repeats: int
    channels: int
    stride: int = 1
    kernel: int = 3
    expansion: int = 1


class Residual(nn.Module):
    """What a body makes of its input, added to what a shortcut makes of it."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, last: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut, self.last = body, shortcut or nn.Identity(), last or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The sum, and what comes last."""
        return self.last(self.shortcut(x) + self.body(x))


def _unit(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, groups: int = 1,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> Iterator[nn.Module]:  # fmt: skip
    yield nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    yield nn.BatchNorm2d(outputs)
    if activation is not nn.Identity:
        yield activation()


def separable(inputs: int, stride: int, stage: Stage) -> nn.Module:
    """A depthwise and a pointwise convolution (Howard et al. 2017, figure 3)."""
    depthwise = _unit(inputs, inputs, stage.kernel, stride, groups=inputs)
    return nn.Sequential(*depthwise, *_unit(inputs, stage.channels))


def inverted(inputs: int, stride: int, stage: Stage, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    """More channels, a depthwise convolution, and fewer channels without activation (Sandler et al. 2018, table 1)."""
    wide = inputs * stage.expansion
    expansion = _unit(inputs, wide, activation=activation) if stage.expansion > 1 else ()
    depthwise = _unit(wide, wide, stage.kernel, stride, groups=wide, activation=activation)
    body = nn.Sequential(*expansion, *depthwise, *_unit(wide, stage.channels, activation=nn.Identity))
    return Residual(body) if (inputs, stride) == (stage.channels, 1) else body


def basic(inputs: int, stride: int, stage: Stage) -> nn.Module:
    """Two convolutions and a shortcut (He et al. 2016, figure 5, left)."""
    body = nn.Sequential(
        *_unit(inputs, stage.channels, stage.kernel, stride),
        *_unit(stage.channels, stage.channels, stage.kernel, activation=nn.Identity),
    )
    if (inputs, stride) == (stage.channels, 1):
        return Residual(body, last=nn.ReLU())
    shortcut = nn.Sequential(*_unit(inputs, stage.channels, 1, stride, activation=nn.Identity))
    return Residual(body, shortcut, nn.ReLU())


def network(
    block: Callable[[int, int, Stage], nn.Module], stem: int, stages: Sequence[Stage], head: int = 0,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Module:  # fmt: skip
    """Blocks between a first convolution and, where `head` is given, a last one; the mean of all pixels; classes."""
    parts, channels = [*_unit(1, stem, 3, activation=activation)], stem
    for stage in stages:
        for number in range(stage.repeats):
            parts.append(block(channels, 1 if number else stage.stride, stage))
            channels = stage.channels
    if head:
        parts += _unit(channels, head, activation=activation)
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(head or channels, CLASSES))


MOBILENET_V1 = (Stage(1, 16), Stage(2, 32, 2), Stage(2, 64, 2), Stage(3, 128), Stage(2, 192, 2))
MOBILENET_V2 = (
    Stage(1, 8), Stage(2, 12, 2, expansion=6), Stage(2, 16, expansion=6), Stage(2, 24, 2, expansion=6),
    Stage(2, 32, expansion=6), Stage(1, 48, 2, expansion=6),
)  # fmt: skip
MNASNET = (
    Stage(1, 8), Stage(2, 12, 2, 3, 3), Stage(2, 16, 1, 5, 3), Stage(2, 24, 2, 5, 6), Stage(2, 32, 1, 3, 6),
    Stage(2, 48, 2, 5, 6),
)  # fmt: skip
FBNET_C = (
    Stage(1, 8), Stage(1, 12, 2, 3, 6), Stage(1, 12, 1, 3, 1), Stage(1, 16, 1, 5, 6), Stage(1, 16, 1, 5, 3),
    Stage(1, 24, 2, 5, 6), Stage(1, 24, 1, 5, 3), Stage(2, 32, 1, 5, 6), Stage(1, 32, 1, 5, 3),
    Stage(1, 48, 2, 5, 6), Stage(1, 64, 1, 3, 6),
)  # fmt: skip
RESNET = (Stage(2, 16), Stage(2, 32, 2), Stage(2, 64, 2))

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MobileNetV1": partial(network, separable, 8, MOBILENET_V1),
    "MobileNetV2": partial(network, inverted, 8, MOBILENET_V2, 128),
    "MobileNetV2, ReLU6": partial(
        network, partial(inverted, activation=nn.ReLU6), 8, MOBILENET_V2, 128, activation=nn.ReLU6
    ),
    "MnasNet": partial(network, inverted, 8, MNASNET, 128),
    "FBNet-C": partial(network, inverted, 8, FBNET_C, 192),
    "ResNet": partial(network, basic, 16, RESNET),
}
