"""Idioms as exporters write them, by name: each takes a model and a value, and returns the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.graph.idioms import BIAS

if TYPE_CHECKING:
    from collections.abc import Callable

    from folding.graph.idioms import Occurrence
    from folding.graph.node import Node
    from tests.support.models import Model

    Writer = Callable[[Model, str], str]


def number(m: Model, value: float) -> str:
    return m.constant(np.array(float(value)))


def reduced(m: Model, op: str, x: str, *axes: int) -> str:
    if m.opset >= (13 if op == "ReduceSum" else 18):
        return m.op(op, x, m.constant(np.array(axes, np.int64)), keepdims=1)
    return m.op(op, x, axes=list(axes), keepdims=1)


# --- activations ----------------------------------------------------------


def gelu(m: Model, x: str) -> str:
    """As torch.onnx writes it: ``x * (erf(x / sqrt(2)) + 1) * 0.5``."""
    inner = m.op("Add", m.op("Erf", m.op("Div", x, number(m, np.sqrt(2)))), number(m, 1))
    return m.op("Mul", m.op("Mul", x, inner), number(m, 0.5))


def gelu_half_first(m: Model, x: str) -> str:
    inner = m.op("Add", number(m, 1), m.op("Erf", m.op("Mul", number(m, np.sqrt(0.5)), x)))
    return m.op("Mul", m.op("Mul", number(m, 0.5), x), inner)


def gelu_half_inside(m: Model, x: str) -> str:
    inner = m.op("Add", m.op("Erf", m.op("Div", x, number(m, np.sqrt(2)))), number(m, 1))
    return m.op("Mul", m.op("Mul", inner, number(m, 0.5)), x)


def gelu_tanh(m: Model, x: str) -> str:
    cube = m.op("Mul", m.op("Pow", x, number(m, 3)), number(m, 0.044715))
    inner = m.op("Tanh", m.op("Mul", m.op("Add", x, cube), number(m, np.sqrt(2 / np.pi))))
    return m.op("Mul", m.op("Mul", x, number(m, 0.5)), m.op("Add", inner, number(m, 1)))


def gelu_tanh_factored(m: Model, x: str) -> str:
    """``0.5 * x * (1 + tanh(x * 0.79788 * (1 + 0.044715 * x * x)))``."""
    inner = m.op("Add", number(m, 1), m.op("Mul", m.op("Mul", number(m, 0.044715), x), x))
    bent = m.op("Tanh", m.op("Mul", m.op("Mul", x, number(m, np.sqrt(2 / np.pi))), inner))
    return m.op("Mul", m.op("Mul", number(m, 0.5), x), m.op("Add", number(m, 1), bent))


def gelu_sigmoid(m: Model, x: str) -> str:
    return m.op("Mul", x, m.op("Sigmoid", m.op("Mul", x, number(m, 1.702))))


def silu(m: Model, x: str) -> str:
    return m.op("Mul", x, m.op("Sigmoid", x))


def mish(m: Model, x: str) -> str:
    return m.op("Mul", x, m.op("Tanh", m.op("Softplus", x)))


def mish_written_out(m: Model, x: str) -> str:
    return m.op("Mul", x, m.op("Tanh", m.op("Log", m.op("Add", m.op("Exp", x), number(m, 1)))))


def hard_swish(m: Model, x: str) -> str:
    clipped = m.op("Clip", m.op("Add", x, number(m, 3)), number(m, 0), number(m, 6))
    return m.op("Div", m.op("Mul", x, clipped), number(m, 6))


def hard_swish_sixth_first(m: Model, x: str) -> str:
    clipped = m.op("Clip", m.op("Add", x, number(m, 3)), number(m, 0), number(m, 6))
    return m.op("Mul", x, m.op("Div", clipped, number(m, 6)))


def hard_swish_relu6(m: Model, x: str) -> str:
    clipped = m.op("Min", m.op("Relu", m.op("Add", x, number(m, 3))), number(m, 6))
    return m.op("Mul", m.op("Mul", x, clipped), number(m, 1 / 6))


def hard_swish_hard_sigmoid(m: Model, x: str) -> str:
    return m.op("Mul", x, m.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))


# --- normalizations, over the last axis or over groups of channels ----------------------------


def centered(m: Model, x: str) -> str:
    return m.op("Sub", x, reduced(m, "ReduceMean", x, -1))


def layer_norm(m: Model, x: str) -> str:
    """As torch.onnx writes it before opset 17."""
    return scaled(m, layer_norm_core(m, x))


def layer_norm_core(m: Model, x: str) -> str:
    d = centered(m, x)
    variance = reduced(m, "ReduceMean", m.op("Pow", d, number(m, 2)), -1)
    return m.op("Div", d, m.op("Sqrt", m.op("Add", variance, number(m, 1e-5))))


def layer_norm_reciprocal(m: Model, x: str) -> str:
    d = centered(m, x)
    variance = reduced(m, "ReduceMean", m.op("Mul", d, d), -1)
    inverse = m.op("Reciprocal", m.op("Sqrt", m.op("Add", variance, number(m, 1e-5))))
    return scaled(m, m.op("Mul", d, inverse))


def rms_norm(m: Model, x: str) -> str:
    square = reduced(m, "ReduceMean", m.op("Pow", x, number(m, 2)), -1)
    inverse = m.op("Div", number(m, 1), m.op("Sqrt", m.op("Add", square, number(m, 1e-5))))
    return scaled(m, m.op("Mul", x, inverse), shift=False)


def l2_norm(m: Model, x: str) -> str:
    return m.op("Div", x, m.op("Sqrt", m.op("Add", reduced(m, "ReduceSum", m.op("Mul", x, x), -1), number(m, 1e-5))))


def l2_norm_added(m: Model, x: str) -> str:
    return m.op("Div", x, m.op("Add", reduced(m, "ReduceL2", x, -1), number(m, 1e-5)))


def group_norm(m: Model, x: str) -> str:
    """As torch.onnx writes it before opset 21: groups become the channels of InstanceNormalization."""
    shape = m.at(x).shape
    groups = 2 if shape[1] % 2 == 0 else 1
    ones, zeros = m.constant(np.ones(groups)), m.constant(np.zeros(groups))
    grouped = m.op("Reshape", x, m.constant(np.array([shape[0], groups, -1], np.int64)))
    normal = m.op("InstanceNormalization", grouped, ones, zeros)
    back = m.op("Reshape", normal, m.constant(np.array(shape, np.int64)))
    return scaled(m, back, axis=1)


def scaled(m: Model, x: str, axis: int = -1, *, shift: bool = True) -> str:
    """``gamma * x + beta``, along one axis."""
    shape = (m.at(x).shape[axis], *(1,) * (-1 - axis % -m.at(x).ndim))
    x = m.op("Mul", x, m.constant(shape))
    return m.op("Add", x, m.constant(shape)) if shift else x


# --- attention, and products with a bias ----------------------------------------------------------


def attention(m: Model, x: str) -> str:
    """Scores of a value with itself, scaled after the product."""
    scores = m.op("MatMul", x, turned(m, x))
    return m.op("MatMul", m.op("Softmax", m.op("Div", scores, number(m, 2.0)), axis=-1), x)


def attention_masked(m: Model, x: str) -> str:
    scores = m.op("Mul", m.op("MatMul", x, turned(m, x)), number(m, 0.25))
    return m.op("MatMul", m.op("Softmax", m.op("Add", scores, m.constant(m.at(scores).shape[-2:])), axis=-1), x)


def attention_where(m: Model, x: str) -> str:
    """As GPT-2 masks: what is not looked at becomes a large negative number."""
    scores = m.op("Div", m.op("MatMul", x, turned(m, x)), number(m, 2.0))
    seen = m.constant(np.tri(*m.at(scores).shape[-2:], dtype=bool))
    return m.op("MatMul", m.op("Softmax", m.op("Where", seen, scores, number(m, -1e4)), axis=-1), x)


def attention_scaled_first(m: Model, x: str) -> str:
    """As torch.onnx writes scaled_dot_product_attention: both operands are scaled."""
    query, key = m.op("Mul", x, number(m, 0.5)), m.op("Mul", turned(m, x), number(m, 0.5))
    return m.op("MatMul", m.op("Softmax", m.op("MatMul", query, key), axis=-1), x)


def turned(m: Model, x: str) -> str:
    rank = m.at(x).ndim
    return m.op("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])


def product_with_bias(m: Model, x: str) -> str:
    length = m.at(x).shape[-1]
    return m.op("Add", m.op("MatMul", x, m.constant((length, length))), m.constant((length,)))


def attention_hidden(m: Model, x: str) -> str:
    """As PyTorch masks with booleans: what is hidden becomes -inf, and a row that is hidden as a whole 0."""
    seen = m.constant(np.where(np.tri(m.at(x).shape[-2], dtype=bool), 0.0, -np.inf))
    scores = m.op("Mul", m.op("MatMul", x, turned(m, x)), number(m, 0.5))
    weights = m.op("Softmax", m.op("Add", scores, seen), axis=-1)
    safe = m.op("Where", m.op("IsNaN", weights, like=weights), number(m, 0), weights, like=weights)
    return m.op("MatMul", safe, x)


def attention_where_hidden(m: Model, x: str) -> str:
    scores = m.op("Div", m.op("MatMul", x, turned(m, x)), number(m, 2.0))
    seen = m.constant(np.tri(*m.at(scores).shape[-2:], dtype=bool))
    return m.op("MatMul", m.op("Softmax", m.op("Where", seen, scores, number(m, -np.inf)), axis=-1), x)


def attention_turned_in_three_axes(m: Model, x: str) -> str:
    """As torch.onnx.export(dynamo=True) turns the keys."""
    *batch, length, channels = m.at(x).shape
    joined = m.op("Reshape", x, m.constant(np.array([-1, length, channels])))
    swapped = m.op("Transpose", joined, perm=[0, 2, 1])
    keys = m.op("Reshape", swapped, m.constant(np.array([*batch, channels, length])))
    query, keys = (m.op("Mul", value, number(m, 0.5)) for value in (x, keys))
    return m.op("MatMul", m.op("Softmax", m.op("MatMul", query, keys), axis=-1), x)


def attention_unscaled(m: Model, x: str) -> str:
    return m.op("MatMul", m.op("Softmax", m.op("MatMul", x, turned(m, x)), axis=-1), x)


# --- operators written out, which no runtime recognizes ---------------------------------------------------------


def instance_norm_core(m: Model, x: str) -> str:
    axes = range(2, m.at(x).ndim)
    d = m.op("Sub", x, reduced(m, "ReduceMean", x, *axes))
    variance = reduced(m, "ReduceMean", m.op("Pow", d, number(m, 2)), *axes)
    return m.op("Div", d, m.op("Sqrt", m.op("Add", variance, number(m, 1e-5))))


def instance_norm(m: Model, x: str) -> str:
    return scaled(m, instance_norm_core(m, x), axis=1)


def hard_sigmoid(m: Model, x: str) -> str:
    clipped = m.op("Clip", m.op("Add", x, number(m, 3)), number(m, 0), number(m, 6))
    return m.op("Div", clipped, number(m, 6))


def hard_sigmoid_scaled_first(m: Model, x: str) -> str:
    line = m.op("Add", m.op("Mul", x, number(m, 0.2)), number(m, 0.5))
    return m.op("Clip", line, number(m, 0), number(m, 1))


def hard_sigmoid_relu6(m: Model, x: str) -> str:
    clipped = m.op("Min", m.op("Relu", m.op("Add", x, number(m, 3))), number(m, 6))
    return m.op("Mul", clipped, number(m, 1 / 6))


def below(m: Model, x: str, axis: int = -1) -> str:
    return m.op("Sub", x, reduced(m, "ReduceMax", x, axis))


def softmax(m: Model, x: str) -> str:
    raised = m.op("Exp", below(m, x))
    return m.op("Div", raised, reduced(m, "ReduceSum", raised, -1))


def softmax_over_channels(m: Model, x: str) -> str:
    raised = m.op("Exp", below(m, x, 1))
    return m.op("Div", raised, reduced(m, "ReduceSum", raised, 1))


def log_softmax(m: Model, x: str) -> str:
    return m.op("Log", m.op("Softmax", x, axis=-1))


def log_softmax_below(m: Model, x: str) -> str:
    d = below(m, x)
    return m.op("Sub", d, m.op("Log", reduced(m, "ReduceSum", m.op("Exp", d), -1)))


ACTIVATIONS: dict[str, tuple[str, Writer]] = {
    writer.__name__: (name, writer)
    for name, writers in {
        "GELU": (gelu, gelu_half_first, gelu_half_inside),
        "GELU (tanh)": (gelu_tanh, gelu_tanh_factored),
        "GELU (sigmoid)": (gelu_sigmoid,),
        "SiLU": (silu,),
        "Mish": (mish, mish_written_out),
        "HardSwish": (hard_swish, hard_swish_sixth_first, hard_swish_relu6, hard_swish_hard_sigmoid),
    }.items()
    for writer in writers
}
NORMALIZATIONS: dict[str, tuple[str, Writer]] = {
    writer.__name__: (name, writer)
    for name, writers in {
        "LayerNormalization": (layer_norm, layer_norm_core, layer_norm_reciprocal),
        "RMSNormalization": (rms_norm,),
        "GroupNormalization": (group_norm,),
        "L2 normalization": (l2_norm, l2_norm_added),
    }.items()
    for writer in writers
}
PRODUCTS: dict[str, tuple[str, Writer]] = {
    writer.__name__: (name, writer)
    for name, writers in {
        "attention": (attention, attention_masked, attention_where, attention_scaled_first),
        BIAS.name: (product_with_bias,),
    }.items()
    for writer in writers
}
WRITERS = ACTIVATIONS | NORMALIZATIONS | PRODUCTS
# What fusing alone looks for
WRITTEN_OUT: dict[str, tuple[str, Writer]] = {
    writer.__name__: (name, writer)
    for name, writers in {
        "InstanceNormalization": (instance_norm, instance_norm_core),
        "HardSigmoid": (hard_sigmoid, hard_sigmoid_scaled_first, hard_sigmoid_relu6),
        "Softmax": (softmax, softmax_over_channels),
        "LogSoftmax": (log_softmax, log_softmax_below),
        "attention": (
            attention_hidden,
            attention_where_hidden,
            attention_turned_in_three_axes,
            attention_unscaled,
        ),
    }.items()
    for writer in writers
}


def kinds(found: dict[Node, Occurrence]) -> list[str]:
    """The names of found idioms, one for each occurrence."""
    return [occurrence.idiom.name for occurrence in dict.fromkeys(found.values())]
