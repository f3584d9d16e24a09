"""Forms: ONNX's operators as PyTorch's, where folding changed their constants or made them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from onnx import helper
from torch import nn

from folding.torch.arguments import arguments
from folding.torch.layers import CONVOLUTIONS, NORMALIZATIONS, NOWHERE

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx
    from torch.fx import Node as Fx

    from folding.torch.layers import Layers
    from folding.torch.skeleton import Origin

    Form = Callable[["Carrying", onnx.NodeProto], Fx | None]

aten: Any = torch.ops.aten


class Carrying(Protocol):
    """What a form asks of the graph under construction."""

    graph: torch.fx.Graph
    layers: Layers
    pending: dict[str, tuple[Fx, torch.Tensor, str]]  # products with a bias to come: input, weight and module, by value

    def value(self, name: str) -> Fx: ...  # noqa: D102  the new node of a value or a constant
    def tensor(self, name: str) -> torch.Tensor: ...  # noqa: D102  the values of a constant
    def is_constant(self, name: str) -> bool: ...  # noqa: D102
    def is_changed(self, name: str) -> bool: ...  # noqa: D102  whether folding made a constant, or changed it
    def origin(self, node: onnx.NodeProto) -> Origin | None: ...  # noqa: D102
    def at(self, node: onnx.NodeProto) -> str: ...  # noqa: D102  the module that an operator belongs to
    def only_reader(self, name: str) -> onnx.NodeProto | None: ...  # noqa: D102
    def is_result(self, name: str) -> bool: ...  # noqa: D102  whether the module returns it


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _optional(node: onnx.NodeProto, place: int) -> str:
    return node.input[place] if place < len(node.input) else ""


# --- layers ---------------------------------------------------------------------------------------------------


def _conv(carry: Carrying, node: onnx.NodeProto) -> Fx | None:
    bias = _optional(node, 2)
    if not carry.is_constant(node.input[1]) or (bias and not carry.is_constant(bias)):
        return None
    weight, a = carry.tensor(node.input[1]), _attributes(node)
    rank, transposed = weight.ndim - 2, node.op_type == "ConvTranspose"
    groups, pads = int(a.get("group", 1)), list(a.get("pads", [0] * 2 * rank))
    read, padding = carry.value(node.input[0]), pads[:rank]
    if pads[:rank] != pads[rank:]:
        if transposed:
            return None
        sides = [side for axis in reversed(range(rank)) for side in (pads[axis], pads[rank + axis])]
        read, padding = carry.graph.call_function(aten.constant_pad_nd.default, (read, sides, 0.0)), [0] * rank
    grouped = weight.shape[1] * groups  # Conv has the inputs of a group on this axis, ConvTranspose the outputs
    inputs, outputs = (weight.shape[0], grouped) if transposed else (grouped, weight.shape[0])
    more = {"output_padding": tuple(a.get("output_padding", [0] * rank))} if transposed else {}
    layer = CONVOLUTIONS[transposed, rank](
        inputs,
        outputs,
        tuple(weight.shape[2:]),
        stride=tuple(a.get("strides", [1] * rank)),
        padding=tuple(padding),
        dilation=tuple(a.get("dilations", [1] * rank)),
        groups=groups,
        bias=bool(bias),
        device=NOWHERE,
        **more,
    )
    weights = {"weight": weight, "bias": carry.tensor(bias) if bias else None}
    return carry.layers.call(carry.at(node), layer, read, weights)


def _linear(carry: Carrying, at: str, read: Fx, weight: torch.Tensor, bias: torch.Tensor | None) -> Fx:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device=NOWHERE)
    return carry.layers.call(at, layer, read, {"weight": weight, "bias": bias})


def _gemm(carry: Carrying, node: onnx.NodeProto) -> Fx | None:
    a, bias = _attributes(node), _optional(node, 2)
    scaled = a.get("alpha", 1.0) != 1 or (bias and a.get("beta", 1.0) != 1) or a.get("transA", 0)
    if scaled or not carry.is_constant(node.input[1]) or (bias and not carry.is_constant(bias)):
        return None
    weight = carry.tensor(node.input[1])
    weight = weight if a.get("transB", 0) else weight.t()
    shift = _along_last(carry.tensor(bias), weight.shape[0]) if bias else None
    if bias and shift is None:
        return None
    return _linear(carry, carry.at(node), carry.value(node.input[0]), weight, shift)


def _along_last(value: torch.Tensor, length: int) -> torch.Tensor | None:
    """A constant that varies along the last axis only, as a bias of this length."""
    if value.numel() == 1:
        return value.reshape(1).expand(length).contiguous()
    varies = value.shape[-1] == length == value.numel()
    return value.reshape(length) if varies else None


def _matmul(carry: Carrying, node: onnx.NodeProto) -> Fx | None:
    left, right = node.input
    if carry.is_constant(right) and carry.tensor(right).ndim == 2 and not carry.is_constant(left):
        weight, read = carry.tensor(right).t(), carry.value(left)
        if _bias_to_come(carry, node, weight.shape[0]):
            carry.pending[node.output[0]] = read, weight, carry.at(node)
            return read  # a placeholder: only the Add asks for it, and takes what is pending
        return _linear(carry, carry.at(node), read, weight, None)
    if carry.origin(node) is not None and not (carry.is_changed(left) or carry.is_changed(right)):
        return None
    return carry.graph.call_function(aten.matmul.default, (carry.value(left), carry.value(right)))


def _bias_to_come(carry: Carrying, node: onnx.NodeProto, length: int) -> bool:
    """Whether all that reads a product is an Add of a constant that varies along the last axis."""
    reader = carry.only_reader(node.output[0])
    if reader is None or reader.op_type != "Add" or reader.domain:
        return False
    other = next((name for name in reader.input if name != node.output[0]), "")
    return bool(other) and carry.is_constant(other) and _along_last(carry.tensor(other), length) is not None


def _batch_norm(carry: Carrying, node: onnx.NodeProto) -> Fx | None:
    origin = carry.origin(node)
    if origin is None or not all(map(carry.is_constant, node.input[1:])):
        return None
    read = arguments(origin.node)
    rank = read["input"].meta["val"].ndim
    if rank not in NORMALIZATIONS:
        return None
    gamma, beta, mean, variance = map(carry.tensor, node.input[1:])
    variance = variance - (read["eps"] - float(np.float32(read["eps"])))  # as the translation has it
    kind = read["running_var"].meta["val"].dtype
    plain = all(name.startswith("#") and not carry.is_changed(name) for name in node.input[1:3])
    layer = NORMALIZATIONS[rank](
        len(mean), eps=read["eps"], momentum=read["momentum"], affine=not plain, device=NOWHERE
    )
    weights = {} if plain else {"weight": gamma, "bias": beta}
    buffers = {
        "running_mean": mean.to(kind),
        "running_var": variance.to(kind),
        "num_batches_tracked": carry.layers.tracked(carry.at(node)),
    }
    return carry.layers.call(carry.at(node), layer, carry.value(node.input[0]), weights | buffers)


def _layer_norm(carry: Carrying, node: onnx.NodeProto) -> Fx | None:
    origin = carry.origin(node)
    if origin is None or not any(map(carry.is_changed, node.input[1:])):
        return None
    a, bias = arguments(origin.node), _optional(node, 2)
    layer = nn.LayerNorm(a["normalized_shape"], eps=a["eps"], bias=bool(bias), device=NOWHERE)
    weights = {"weight": carry.tensor(node.input[1]), "bias": carry.tensor(bias) if bias else None}
    shaped = {name: None if one is None else one.reshape(tuple(a["normalized_shape"])) for name, one in weights.items()}
    return carry.layers.call(carry.at(node), layer, carry.value(node.input[0]), shaped)


def _prelu(carry: Carrying, node: onnx.NodeProto) -> Fx | None:
    """A layer where the slope varies along the channels; else ``max(x, 0) + slope * min(x, 0)``."""
    origin = carry.origin(node)
    if origin is None or not carry.is_constant(node.input[1]):
        return None
    slope, read, rank = carry.tensor(node.input[1]), carry.value(node.input[0]), origin.node.meta["val"].ndim
    whole = slope.reshape((1,) * (rank - slope.ndim) + slope.shape)
    if slope.numel() == 1 or (rank > 1 and slope.numel() == whole.shape[1]):
        layer = nn.PReLU(slope.numel(), device=NOWHERE)
        return carry.layers.call(carry.at(node), layer, read, {"weight": slope.reshape(-1)})
    above = carry.graph.call_function(aten.clamp.default, (read, 0, None))
    below = carry.graph.call_function(aten.clamp.default, (read, None, 0))
    scaled = carry.graph.call_function(aten.mul.Tensor, (below, carry.value(node.input[1])))
    return carry.graph.call_function(aten.add.Tensor, (above, scaled))


# --- arithmetic -----------------------------------------------------------------------------------------------


def _binary(target: Any) -> Form:
    def form(carry: Carrying, node: onnx.NodeProto) -> Fx | None:
        for name in node.input:
            if name in carry.pending:
                (other,) = (one for one in node.input if one != name)
                read, weight, at = carry.pending.pop(name)
                return _linear(carry, at, read, weight, _along_last(carry.tensor(other), weight.shape[0]))
        origin = carry.origin(node)
        if origin is not None and origin.slots is not None and not any(map(carry.is_changed, node.input)):
            return None
        made = carry.value(node.input[0])
        for name in node.input[1:]:
            made = carry.graph.call_function(target, (made, carry.value(name)))
        return made

    return form


def _clip(carry: Carrying, node: onnx.NodeProto) -> Fx | None:
    bounds = [_optional(node, place) for place in (1, 2)]
    if carry.origin(node) is not None and not any(map(carry.is_changed, filter(None, bounds))):
        return None
    low, high = (carry.tensor(name).item() if name else None for name in bounds)
    return carry.graph.call_function(aten.clamp.default, (carry.value(node.input[0]), low, high))


def _pad(carry: Carrying, node: onnx.NodeProto) -> Fx | None:
    value = _optional(node, 2)
    if not value or not carry.is_changed(value) or carry.tensor(value).numel() != 1:
        return None
    pads = carry.tensor(node.input[1]).tolist()
    rank = len(pads) // 2
    sides = [side for axis in reversed(range(rank)) for side in (pads[axis], pads[rank + axis])]
    given = (carry.value(node.input[0]), sides, carry.tensor(value).item())
    return carry.graph.call_function(aten.constant_pad_nd.default, given)


def _identity(carry: Carrying, node: onnx.NodeProto) -> Fx | None:
    """A copy is needed only where the module returns it."""
    return None if carry.is_result(node.output[0]) else carry.value(node.input[0])


FORMS: dict[str, Form] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "PRelu": _prelu,
    "Add": _binary(aten.add.Tensor),
    "Sub": _binary(aten.sub.Tensor),
    "Mul": _binary(aten.mul.Tensor),
    "Div": _binary(aten.div.Tensor),
    "Max": _binary(aten.maximum.default),
    "Min": _binary(aten.minimum.default),
    "Clip": _clip,
    "Pad": _pad,
    "Identity": _identity,
}
