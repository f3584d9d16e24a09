"""Operators: the ATen operators that folding knows, each as the ONNX operator that computes the same.

A translation gets the skeleton, the node and its arguments by name, and adds operators; it raises `UntranslatedError`
where ONNX's operator computes something else, and the node is carried over as it is. Axes, paddings and modes are
copied: ONNX and ATen agree on all of them here, except where a translation says so.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from folding.torch import shaping
from folding.torch.arguments import arguments, listed, require
from folding.torch.skeleton import UntranslatedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.fx import Node as Fx

    from folding.torch.skeleton import Operand, Skeleton

    Arguments = dict[str, Any]
    Translation = Callable[[Skeleton, Fx, Arguments], object]

aten: Any = torch.ops.aten


def translate(skeleton: Skeleton) -> None:
    """Add every node of the captured graph to the skeleton, in order."""
    for node in skeleton.captured.nodes:
        if node.op == "placeholder":
            skeleton.placeholder(node)
        elif node.op == "output":
            skeleton.output(node)
        elif node.op == "call_function" and node.target is not operator.getitem and skeleton.constant(node) is None:
            _call(skeleton, node)
        if isinstance(node.meta.get("val"), torch.Tensor) and node.op == "call_function":
            skeleton.note(skeleton.value(node, needed=False), node.meta["val"])


def _call(skeleton: Skeleton, node: Fx) -> None:
    translation = TRANSLATIONS.get(node.target) or shaping.TRANSLATIONS.get(node.target)
    if translation is not None:
        try:
            translation(skeleton, node, arguments(node))
        except UntranslatedError:
            pass
        else:
            return
    skeleton.opaque(node)


# --- operators with weights -----------------------------------------------------------------------------------


def _conv(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    kernel = skeleton.shape(a["weight"])[2:]
    require(None not in kernel, len(skeleton.shape(a["input"])) == len(kernel) + 2)
    rank = len(kernel)
    dilations = listed(a["dilation"], rank)
    if isinstance(a["padding"], str):  # "same" pads the end more, as ONNX's SAME_UPPER
        whole = [d * (k - 1) if a["padding"] == "same" else 0 for d, k in zip(dilations, kernel, strict=True)]  # type: ignore[operator]
        pads = [one // 2 for one in whole] + [one - one // 2 for one in whole]
    else:
        pads = listed(a["padding"], rank) * 2
    fixed = {"strides": listed(a["stride"], rank), "dilations": dilations, "group": a["groups"], "pads": pads}
    transposed = a.get("transposed", False) or ("output_padding" in a and "transposed" not in a)
    if transposed:
        fixed["output_padding"] = listed(a["output_padding"], rank)
    read = [a["input"], a["weight"], *([] if a["bias"] is None else [a["bias"]])]
    skeleton.emit("ConvTranspose" if transposed else "Conv", node, read, kernel_shape=list(kernel), **fixed)


def _linear(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    """``x W^T + b``: Gemm of two axes; of more, MatMul with the transposed weight and an Add of the bias."""
    bias = [] if a["bias"] is None else [a["bias"]]
    if len(skeleton.shape(a["input"])) == 2:
        skeleton.emit("Gemm", node, [a["input"], a["weight"], *bias], transB=1)
        return
    require(len(skeleton.shape(a["weight"])) == 2)
    weight = skeleton.added(node, "weight", skeleton.known(a["weight"]).t())
    product = f"#{node.name}.product" if bias else f"%{node.name}"
    skeleton.emit("MatMul", node, [a["input"], weight], [product], part=True)
    if bias:
        skeleton.note(product, node.meta["val"])
        skeleton.emit("Add", node, [product, *bias], part=True)


def _addmm(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    require(a["beta"] == 1, a["alpha"] == 1)
    skeleton.emit("Gemm", node, [a["mat1"], a["mat2"], a["input"]], part=True)


def _matmul(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    skeleton.emit("MatMul", node, list(a.values()))


def _batch_norm(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    require(a["running_mean"] is not None, a["running_var"] is not None, not a.get("training", False))
    if node.target is not aten.batch_norm.default:
        require(not {user.args[1] for user in node.users if user.target is operator.getitem} - {0})
    mean, epsilon = skeleton.known(a["running_mean"]), float(np.float32(a["eps"]))
    # An attribute is a float32: what it cannot hold of epsilon goes into the variance, in float64 (opset 15 allows it).
    variance = skeleton.known(a["running_var"]).double() + (a["eps"] - epsilon)
    statistics = skeleton.added(node, "mean", mean.double()), skeleton.added(node, "var", variance)
    weight = a["weight"] if a["weight"] is not None else skeleton.added(node, "weight", torch.ones_like(mean))
    bias = a["bias"] if a["bias"] is not None else skeleton.added(node, "bias", torch.zeros_like(mean))
    read = [a["input"], weight, bias, *statistics]
    output = f"%{node.name}" if node.target is aten.batch_norm.default else f"%{node.name}.0"
    skeleton.emit("BatchNormalization", node, read, [output], epsilon=epsilon, part=True)


def _layer_norm(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    require(a["weight"] is not None)
    bias = [] if a["bias"] is None else [a["bias"]]
    axis = -len(a["normalized_shape"])
    skeleton.emit("LayerNormalization", node, [a["input"], a["weight"], *bias], axis=axis, epsilon=float(a["eps"]))


def _embedding(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    skeleton.emit("Gather", node, [a["weight"], a["indices"]], axis=0)


# --- arithmetic -----------------------------------------------------------------------------------------------


def _binary(op: str) -> Translation:
    def translation(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
        require(a.get("alpha", 1) == 1, a.get("rounding_mode") is None)
        kind = node.meta["val"].dtype
        require(kind.is_floating_point)
        read: list[Operand] = []
        for place, given in enumerate((a["self"], a["other"])):
            if isinstance(given, torch.fx.Node):
                require(skeleton.like(given).dtype == kind)  # no promotion
                read.append(given)
            else:
                require(isinstance(given, (int, float)) and not isinstance(given, bool))
                read.append(skeleton.added(node, str(place), torch.tensor(given, dtype=kind)))
        skeleton.emit(op, node, read)

    return translation


def _unary(op: str, **attributes: str) -> Translation:
    """The operator with attributes of these names, from the arguments that they name."""

    def translation(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
        read: Any = a.get("self", a.get("input"))
        require(skeleton.like(read).dtype == node.meta["val"].dtype)
        given: dict[str, Any] = {name: float(a[source]) for name, source in attributes.items()}
        skeleton.emit(op, node, [read], **given)

    return translation


def _clip(low: str | float | None, high: str | float | None) -> Translation:
    """Clip with these bounds; a string names an argument."""

    def translation(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
        kind = node.meta["val"].dtype
        require(kind.is_floating_point, skeleton.like(a["self"]).dtype == kind)
        bounds: list[Operand | None] = []
        for name, given in (("min", low), ("max", high)):
            bound = a[given] if isinstance(given, str) else given
            require(bound is None or isinstance(bound, (int, float)))
            bounds.append(None if bound is None else skeleton.added(node, name, torch.tensor(bound, dtype=kind)))
        skeleton.emit("Clip", node, [a["self"], *bounds])

    return translation


def _prelu(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    slope, rank = skeleton.known(a["weight"]), len(skeleton.shape(a["self"]))
    require(slope.numel() == 1 or rank >= 2)
    view = slope.reshape(slope.numel(), *(1,) * max(rank - 2, 0))
    skeleton.emit("PRelu", node, [a["self"], skeleton.added(node, "slope", view)])


def _where(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    require(skeleton.like(a["self"]).dtype == skeleton.like(a["other"]).dtype)
    skeleton.emit("Where", node, [a["condition"], a["self"], a["other"]])


def _same(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    """An operator that copies its input, or does nothing in inference."""
    read: Any = a.get("self", a.get("input"))
    require(not a.get("train", False), skeleton.like(read).dtype == node.meta["val"].dtype)
    skeleton.emit("Identity", node, [read])


def _shape(skeleton: Skeleton, node: Fx, a: Arguments) -> None:
    """A length, which reads no values: it is no reader of what folding moves."""
    skeleton.emit("Shape", node, [a["self"]])


TRANSLATIONS: dict[object, Translation] = {
    **dict.fromkeys((aten.conv1d.default, aten.conv2d.default, aten.conv3d.default), _conv),
    **dict.fromkeys((aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding), _conv),
    **dict.fromkeys((aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input), _conv),
    aten.convolution.default: _conv,
    aten.linear.default: _linear,
    aten.addmm.default: _addmm,
    **dict.fromkeys((aten.mm.default, aten.matmul.default, aten.bmm.default), _matmul),
    **dict.fromkeys((aten.batch_norm.default, aten._native_batch_norm_legit_no_training.default), _batch_norm),
    aten.layer_norm.default: _layer_norm,
    aten.embedding.default: _embedding,
    **dict.fromkeys((aten.add.Tensor, aten.add.Scalar), _binary("Add")),
    **dict.fromkeys((aten.sub.Tensor, aten.sub.Scalar), _binary("Sub")),
    **dict.fromkeys((aten.mul.Tensor, aten.mul.Scalar), _binary("Mul")),
    **dict.fromkeys((aten.div.Tensor, aten.div.Scalar), _binary("Div")),
    aten.neg.default: _unary("Neg"),
    aten.relu.default: _unary("Relu"),
    aten.leaky_relu.default: _unary("LeakyRelu", alpha="negative_slope"),
    aten.prelu.default: _prelu,
    aten.hardtanh.default: _clip("min_val", "max_val"),
    aten.relu6.default: _clip(0.0, 6.0),
    aten.clamp.default: _clip("min", "max"),
    aten.where.self: _where,
    aten.sym_size.int: _shape,
    **dict.fromkeys((aten.clone.default, aten.alias.default, aten.detach.default, aten.contiguous.default), _same),
    **dict.fromkeys((aten.lift_fresh_copy.default, aten.dropout.default, aten.feature_dropout.default), _same),
}
