"""Residual networks, Conv -> BatchNormalization -> Relu, as nodes and statistics of weights, without values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from onnx import helper

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import NodeProto

IMAGE_CHANNELS = 3
EXPANSION = 4  # of a bottleneck block's last convolution (He et al. 2015, table 1)
RELU_GAIN = 2.0  # a Relu halves the second moment, so weights of variance 2 / fan_in keep it (He et al. 2015)
BLOCK_GAMMA = 0.3  # of the last BatchNormalization of a block: small, so that the sum of many blocks stays bounded
SPREAD = 0.1  # of every BatchNormalization parameter; var = 1 +- 0.1 stays positive even 5 deviations away


@dataclass(frozen=True)
class Weight:
    """A float32 constant: its values are normal with this mean and standard deviation."""

    name: str
    shape: tuple[int, ...]
    mean: float
    deviation: float

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Stage:
    """Blocks of one width; the first one has the stride."""

    width: int
    blocks: int
    stride: int = 1


@dataclass(frozen=True)
class Architecture:
    """The shape of a residual network, after He et al. 2015 (tables 1 and 6)."""

    image: int  # height and width of the input
    stem: int  # channels after the first convolution
    stages: tuple[Stage, ...]
    bottleneck: bool = False  # 1x1, 3x3, 1x1 with `EXPANSION`, instead of two 3x3
    imagenet_stem: bool = False  # 7x7 with stride 2 and a max pooling, instead of one 3x3
    classes: int = 10


@dataclass
class Network:
    """Nodes and weights of one network, built layer by layer: every method returns the name of the value it makes."""

    nodes: list[NodeProto] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)

    @property
    def normalizations(self) -> int:
        """Number of BatchNormalizations."""
        return sum(node.op_type == "BatchNormalization" for node in self.nodes)

    def node(self, op: str, inputs: list[str], name: str, **attributes: object) -> str:
        """Append one node."""
        self.nodes.append(helper.make_node(op, inputs, [f"{name}.output"], name, **attributes))  # type: ignore[arg-type]
        return f"{name}.output"

    def weight(self, name: str, shape: tuple[int, ...], mean: float, deviation: float) -> str:
        """Append one weight."""
        self.weights.append(Weight(name, shape, mean, deviation))
        return name

    def conv_bn(
        self, x: str, name: str, channels: tuple[int, int], kernel: int, stride: int, gamma: float = 1.0
    ) -> str:
        """A convolution without bias, with "same" padding, and its BatchNormalization; `channels` are in and out."""
        inputs, outputs = channels
        weight = self.weight(
            f"{name}.conv.weight", (outputs, inputs, kernel, kernel), 0.0, math.sqrt(RELU_GAIN / (inputs * kernel**2))
        )
        pads, sizes = [kernel // 2] * 4, [kernel] * 2
        x = self.node("Conv", [x, weight], f"{name}.conv", kernel_shape=sizes, strides=[stride] * 2, pads=pads)
        means = {"weight": gamma, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
        statistics = [self.weight(f"{name}.bn.{key}", (outputs,), mean, SPREAD) for key, mean in means.items()]
        return self.node("BatchNormalization", [x, *statistics], f"{name}.bn")

    def relu(self, x: str, name: str) -> str:
        """One Relu."""
        return self.node("Relu", [x], f"{name}.relu")

    def basic(self, x: str, name: str, channels: tuple[int, int], stride: int) -> str:
        """The residual branch of two 3x3 convolutions."""
        x = self.relu(self.conv_bn(x, f"{name}.1", channels, 3, stride), f"{name}.1")
        return self.conv_bn(x, f"{name}.2", (channels[1], channels[1]), 3, 1, BLOCK_GAMMA)

    def bottleneck(self, x: str, name: str, channels: tuple[int, int], stride: int) -> str:
        """The residual branch of 1x1, 3x3 and 1x1 convolutions."""
        inputs, outputs = channels
        width = outputs // EXPANSION
        x = self.relu(self.conv_bn(x, f"{name}.1", (inputs, width), 1, 1), f"{name}.1")
        x = self.relu(self.conv_bn(x, f"{name}.2", (width, width), 3, stride), f"{name}.2")
        return self.conv_bn(x, f"{name}.3", (width, outputs), 1, 1, BLOCK_GAMMA)

    def block(self, x: str, name: str, branch: Callable[..., str], channels: tuple[int, int], stride: int) -> str:
        """``relu(branch(x) + x)``; x goes through a 1x1 convolution if the shapes differ."""
        inputs, outputs = channels
        is_identity = inputs == outputs and stride == 1
        shortcut = x if is_identity else self.conv_bn(x, f"{name}.shortcut", channels, 1, stride)
        added = self.node("Add", [branch(x, name, channels, stride), shortcut], f"{name}.add")
        return self.relu(added, name)

    def stem(self, x: str, architecture: Architecture) -> str:
        """The layers before the blocks."""
        if not architecture.imagenet_stem:
            return self.relu(self.conv_bn(x, "stem", (IMAGE_CHANNELS, architecture.stem), 3, 1), "stem")
        x = self.relu(self.conv_bn(x, "stem", (IMAGE_CHANNELS, architecture.stem), 7, 2), "stem")
        return self.node("MaxPool", [x], "stem.pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])

    def head(self, x: str, features: int, classes: int) -> str:
        """A global average and a linear layer."""
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x], "head.pool")], "head.flatten")
        weight = self.weight("head.weight", (classes, features), 0.0, 1 / math.sqrt(features))
        bias = self.weight("head.bias", (classes,), 0.0, SPREAD)
        return self.node("Gemm", [x, weight, bias], "head", transB=1)


def build(architecture: Architecture) -> Network:
    """The network from the value "input" to its last node's output."""
    network = Network()
    expansion = EXPANSION if architecture.bottleneck else 1
    block = partial(network.block, branch=network.bottleneck if architecture.bottleneck else network.basic)
    x, features = network.stem("input", architecture), architecture.stem
    for number, stage in enumerate(architecture.stages, 1):
        for index in range(stage.blocks):
            channels = (features, stage.width * expansion)
            x = block(x, f"stage{number}.{index}", channels=channels, stride=1 if index else stage.stride)
            features = channels[1]
    network.head(x, features, architecture.classes)
    return network
