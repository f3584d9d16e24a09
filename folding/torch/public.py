"""A graph of ATen operators in PyTorch's public functions, which its quantization knows (`prepare_fx`) and people read.

The functions call the same kernels. Of an operator with arguments that its function does not take, nothing changes.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  its usual name

if TYPE_CHECKING:
    from collections.abc import Callable

aten: Any = torch.ops.aten


class Public(NamedTuple):
    """A function, or a method of tensors as a text, for at most `most` arguments by place and for those in `names`."""

    target: Callable[..., Any] | str
    most: int
    names: tuple[str, ...] = ()


PUBLIC: dict[Any, Public] = {
    aten.add.Tensor: Public(operator.add, 2),
    aten.sub.Tensor: Public(operator.sub, 2),
    aten.mul.Tensor: Public(operator.mul, 2),
    aten.div.Tensor: Public(operator.truediv, 2),
    aten.matmul.default: Public(torch.matmul, 2),
    aten.cat.default: Public(torch.cat, 2, ("dim",)),
    aten.stack.default: Public(torch.stack, 2, ("dim",)),
    aten.relu.default: Public(F.relu, 1),
    aten.relu6.default: Public(F.relu6, 1),
    aten.hardtanh.default: Public(F.hardtanh, 3),
    aten.leaky_relu.default: Public(F.leaky_relu, 2),
    aten.elu.default: Public(F.elu, 2),
    aten.gelu.default: Public(F.gelu, 1, ("approximate",)),
    aten.silu.default: Public(F.silu, 1),
    aten.hardswish.default: Public(F.hardswish, 1),
    aten.hardsigmoid.default: Public(F.hardsigmoid, 1),
    aten.sigmoid.default: Public(torch.sigmoid, 1),
    aten.tanh.default: Public(torch.tanh, 1),
    aten.clamp.default: Public(torch.clamp, 3),
    aten.max_pool1d.default: Public(F.max_pool1d, 6),
    aten.max_pool2d.default: Public(F.max_pool2d, 6),
    aten.max_pool3d.default: Public(F.max_pool3d, 6),
    aten.avg_pool1d.default: Public(F.avg_pool1d, 6),
    aten.avg_pool2d.default: Public(F.avg_pool2d, 7),
    aten.avg_pool3d.default: Public(F.avg_pool3d, 7),
    aten.adaptive_avg_pool1d.default: Public(F.adaptive_avg_pool1d, 2),
    aten.adaptive_avg_pool2d.default: Public(F.adaptive_avg_pool2d, 2),
    aten.adaptive_avg_pool3d.default: Public(F.adaptive_avg_pool3d, 2),
    aten.mean.dim: Public(torch.mean, 3),
    aten.flatten.using_ints: Public(torch.flatten, 3),
    aten.softmax.int: Public(torch.softmax, 2),
    aten.permute.default: Public("permute", 2),
    aten.reshape.default: Public("reshape", 2),
    aten.transpose.int: Public("transpose", 3),
    aten.view.default: Public("view", 2),
    aten.squeeze.dim: Public("squeeze", 2),
    aten.unsqueeze.default: Public("unsqueeze", 2),
}


def write_publicly(graph: torch.fx.Graph) -> None:
    """Call public functions where there is one for an operator with its arguments."""
    for node in graph.nodes:
        found = PUBLIC.get(node.target) if node.op == "call_function" else None
        if found is None or len(node.args) > found.most or not set(node.kwargs) <= set(found.names):
            continue
        node.op = "call_method" if isinstance(found.target, str) else "call_function"
        node.target = found.target
