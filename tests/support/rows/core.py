"""Rows of the rules for convolutions, products, elementwise operators and layout, and of what the planner refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import numpy_helper

from tests.support.models import SITE, Model
from tests.support.rows.row import Kept, barrier, fixed_batch, forward_gemm, gemm, into, out, start

if TYPE_CHECKING:
    from tests.support.rows.row import Row


def residual(m: Model, op: str, **second: Any) -> None:
    x = start(m)
    out(m, m.bn(m.op(op, m.conv(x, 6, pads=[1] * 4), m.conv(x, 6, kernel=1, **second))))


def constant_weight(m: Model, *forms: str) -> None:
    """BN(Conv) with the weight behind operators that make a constant of it."""
    x = start(m)
    w = m.constant((6, 4, 3, 3))
    for form in forms:
        if form == "Transpose":
            w = m.op("Transpose", m.op("Transpose", w, perm=[3, 2, 1, 0]), perm=[3, 2, 1, 0])
        elif form == "Reshape":
            w = m.op("Reshape", w, m.constant(np.array([0, -1, 3, 3])))
        elif form == "Unsqueeze":
            w = m.op("Squeeze", m.op("Unsqueeze", w, m.constant(np.array([0]))), m.constant(np.array([0])))
        elif form == "Arithmetic":
            w = m.op("Neg", m.op("Add", w, m.op("Mul", w, w)))
        else:
            w = m.op(form, w)
    out(m, m.bn(m.op("Conv", x, w)))


def of_shape(m: Model) -> None:
    fill = numpy_helper.from_array(np.array([0.25], m.dtype))
    w = m.op("ConstantOfShape", m.constant(np.array([6, 4, 3, 3])), value=fill)
    out(m, m.bn(m.op("Conv", start(m), w)))


def constant_node(m: Model) -> None:
    value = numpy_helper.from_array(m.random.standard_normal((6, 4, 3, 3)).astype(m.dtype))
    out(m, m.bn(m.op("Conv", start(m), m.op("Constant", value=value))))


def derived_variance(m: Model) -> None:
    """Parameters computed by small arithmetic: Mul by 1 / sqrt(var + eps)."""
    x = m.conv(start(m), 4)
    var = m.constant(m.random.uniform(0.5, 2, (1, 4, 1, 1)))
    eps = m.constant(np.array(1e-3))
    out(m, m.op("Div", x, m.op("Sqrt", m.op("Add", var, eps)), name=SITE))


def shared_weight(m: Model) -> None:
    x, w = start(m), m.constant((4, 4, 3, 3))
    first = m.bn(m.op("Conv", x, w))
    m.op("Add", out(m, first), out(m, m.op("Conv", x, w)))


def q_k_v(m: Model, bias: bool = True) -> None:
    x = m.bn(barrier(m, m.x(5, 4)))
    heads = [m.op("MatMul", x, m.constant((4, 3))) for _ in range(3)]
    heads = [m.op("Add", h, m.constant((3,))) for h in heads] if bias else heads
    m.op("Concat", *[out(m, h) for h in heads], axis=1)


def two_readers(m: Model) -> None:
    x = m.conv(start(m), 6)
    m.op("Add", out(m, m.bn(x)), m.op("Sigmoid", x))


def shape_reader(m: Model) -> None:
    x = m.conv(start(m), 6)
    m.op("Reshape", out(m, m.bn(x)), m.op("Shape", x))


def bn_with(m: Model, **changes: Any) -> str:
    """A BatchNormalization behind a Conv with some parameters replaced."""
    x = m.conv(start(m), 6)
    parameters = {n: m.constant((6,)) for n in ("scale", "bias", "mean")} | {"var": m.constant(np.full(6, 0.5))}
    for name, values in changes.items():
        parameters[name] = m.constant(np.asarray(values))
    return out(m, m.op("BatchNormalization", x, *parameters.values(), name=SITE, like=x))


CONVOLUTION: list[Row] = [
    ("conv", lambda m: out(m, m.bn(m.conv(start(m), 6))), into("Conv", direction="backward")),
    ("conv with one output", lambda m: out(m, m.bn(m.conv(start(m), 1))), into("Conv")),
    ("conv without bias", lambda m: out(m, m.bn(m.conv(start(m), 6, bias=False))), into("Conv")),
    ("conv padded, strided, dilated", lambda m: out(m, m.bn(m.conv(start(m), 6, pads=[2, 0, 1, 3], strides=[2, 1], dilations=[1, 2]))), into("Conv")),
    ("conv auto_pad", lambda m: out(m, m.bn(m.conv(start(m), 6, auto_pad="SAME_LOWER"))), into("Conv")),
    ("grouped conv", lambda m: out(m, m.bn(m.conv(start(m), 6, group=2))), into("Conv")),
    ("depthwise conv", lambda m: out(m, m.bn(m.conv(start(m), 8, group=4))), into("Conv")),
    ("1-d conv", lambda m: out(m, m.bn(m.conv(start(m, 2, 4, 9), 6))), into("Conv")),
    ("3-d conv", lambda m: out(m, m.bn(m.conv(start(m, 2, 2, 4, 4, 3), 3))), into("Conv")),
    ("conv, channels = height", lambda m: out(m, m.per_channel("Mul", m.conv(start(m, 2, 4, 6, 6), 4), axis=2)), Kept("axis", "barrier")),
    ("conv, scalar", lambda m: out(m, m.op("Mul", m.conv(start(m), 6), m.constant(np.array(0.3)), name=SITE)), into("Conv")),
    ("conv, computed weight", lambda m: out(m, m.bn(m.op("Conv", start(m), m.x(6, 4, 3, 3)))), Kept("weight-not-constant", "barrier")),
    ("before conv", lambda m: out(m, m.conv(m.bn(start(m)), 6)), into("Conv", direction="forward")),
    ("before conv without bias", lambda m: out(m, m.conv(m.bn(start(m)), 6, bias=False)), into("Conv")),
    ("before grouped conv", lambda m: out(m, m.conv(m.bn(start(m)), 6, group=2)), into("Conv")),
    ("before depthwise conv", lambda m: out(m, m.conv(m.bn(start(m)), 8, group=4)), into("Conv")),
    ("before strided, dilated conv", lambda m: out(m, m.conv(m.bn(start(m)), 6, strides=[2, 1], dilations=[1, 2])), into("Conv")),
    ("before padded conv", lambda m: out(m, m.conv(m.bn(start(m)), 6, pads=[0, 0, 1, 0])), into("Conv", status="split")),
    ("before SAME conv", lambda m: out(m, m.conv(m.bn(start(m)), 6, auto_pad="SAME_UPPER")), into("Conv", status="split")),
    ("before VALID conv", lambda m: out(m, m.conv(m.bn(start(m)), 6, auto_pad="VALID")), into("Conv")),
    ("before SAME conv, kernel 1", lambda m: out(m, m.conv(m.bn(start(m)), 6, kernel=1, auto_pad="SAME_UPPER")), into("Conv")),
    ("shift before padded conv", lambda m: out(m, m.conv(m.per_channel("Add", start(m)), 6, pads=[0, 0, 1, 0])), Kept("barrier", "zero-padding")),
    ("scale before padded conv", lambda m: out(m, m.conv(m.per_channel("Mul", start(m)), 6, pads=[1] * 4)), into("Conv")),
    ("as weight", lambda m: out(m, m.op("Conv", m.x(2, 4, 5, 6), m.bn(barrier(m, m.x(6, 4, 3, 3))))), Kept("barrier", "not-data-input")),
    ("two convs", lambda m: (lambda y: m.op("Concat", out(m, m.conv(y, 6)), out(m, m.conv(y, 3)), axis=1))(m.bn(start(m))), into("Conv", "Conv")),
    ("conv and relu", lambda m: (lambda y: m.op("Concat", out(m, m.conv(y, 6, kernel=1)), out(m, y), axis=1))(m.bn(start(m))), Kept("barrier", "barrier")),
    ("transposed", lambda m: out(m, m.bn(m.conv_t(start(m), 6, strides=[2, 2], pads=[1, 0, 1, 0]))), into("ConvTranspose")),
    ("transposed, output padding", lambda m: out(m, m.bn(m.conv_t(start(m), 6, strides=[2, 2], output_padding=[1, 0]))), into("ConvTranspose")),
    ("grouped transposed", lambda m: out(m, m.bn(m.conv_t(start(m), 6, group=2, bias=False))), into("ConvTranspose")),
    ("depthwise transposed", lambda m: out(m, m.bn(m.conv_t(start(m), 8, group=4))), into("ConvTranspose")),
    ("scale before transposed", lambda m: out(m, m.conv_t(m.per_channel("Div", start(m)), 6, group=2, strides=[2, 2])), into("ConvTranspose")),
    ("before transposed", lambda m: out(m, m.conv_t(m.bn(start(m)), 6)), into("ConvTranspose", status="split")),
    ("before pointwise transposed", lambda m: out(m, m.conv_t(m.bn(start(m)), 6, kernel=1, group=2)), into("ConvTranspose")),
    ("before strided pointwise transposed", lambda m: out(m, m.conv_t(m.bn(start(m)), 6, kernel=1, strides=[2, 2])), into("ConvTranspose", status="split")),
    ("spatial map before conv", lambda m: out(m, m.conv(m.per_channel("Mul", start(m), axis=3), 6)), Kept("barrier", "axis")),
]  # fmt: skip

LINEAR: list[Row] = [
    ("gemm", lambda m: out(m, m.bn(gemm(m, start(m, 3, 4)))), into("Gemm", direction="backward")),
    ("gemm, all attributes", lambda m: out(m, m.bn(gemm(m, start(m, 4, 3), transA=1, transB=1, alpha=0.5, beta=-2.0))), into("Gemm")),
    ("gemm without C", lambda m: out(m, m.bn(gemm(m, start(m, 3, 4), None, beta=3.0))), into("Gemm")),
    ("gemm, beta 0", lambda m: out(m, m.bn(gemm(m, start(m, 3, 4), beta=0.0))), into("Gemm")),
    ("gemm, scalar C", lambda m: out(m, m.bn(gemm(m, start(m, 3, 4), ()))), into("Gemm")),
    ("gemm, one C", lambda m: out(m, m.bn(gemm(m, start(m, 3, 4), (1,)))), into("Gemm")),
    ("gemm, column C", lambda m: out(m, m.bn(gemm(m, start(m, 3, 4), (3, 1)))), into("Gemm")),
    ("gemm, full C", lambda m: out(m, m.bn(gemm(m, start(m, 3, 4), (3, 5)))), into("Gemm")),
    ("gemm, computed C", lambda m: out(m, m.bn(m.op("Gemm", start(m, 3, 4), m.constant((4, 5)), m.x(5)))), Kept("weight-not-constant", "barrier")),
    ("gemm, computed B", lambda m: out(m, m.bn(m.op("Gemm", start(m, 3, 4), m.x(4, 5)))), Kept("weight-not-constant", "barrier")),
    ("gemm, rows", lambda m: out(m, m.per_channel("Mul", gemm(m, start(m, 5, 4)), axis=0)), Kept("axis", "barrier")),
    ("gemm, constant A, rows", lambda m: out(m, m.per_channel("Mul", m.op("Gemm", m.constant((4, 3)), start(m, 4, 5), m.constant((5,)), transA=1), axis=0)), into("Gemm")),
    ("gemm, constant A, row shift", lambda m: out(m, m.per_channel("Add", m.op("Gemm", m.constant((3, 4)), start(m, 4, 5), m.constant((3, 1))), axis=0)), into("Gemm")),
    ("before gemm", forward_gemm, into("Gemm", direction="forward")),
    ("before gemm, all attributes", lambda m: out(m, gemm(m, m.per_channel("Sub", m.per_channel("Mul", start(m, 4, 3), name="other", axis=0), axis=0), transA=1, transB=1, alpha=0.5, beta=-2.0)), into("Gemm")),
    ("before gemm without C", lambda m: forward_gemm(m, None, alpha=3.0, beta=2.0), into("Gemm")),
    ("before gemm, beta 0", lambda m: forward_gemm(m, beta=0.0), into("Gemm")),
    ("before gemm, column C", lambda m: forward_gemm(m, (3, 1)), into("Gemm")),
    ("before gemm's B", lambda m: out(m, m.op("Gemm", m.constant((3, 4)), m.per_channel("Add", start(m, 4, 5), axis=0), m.constant((5,)), alpha=0.5)), into("Gemm")),
    ("before gemm's C", lambda m: out(m, m.op("Gemm", m.x(3, 4), m.constant((4, 5)), m.bn(start(m, 3, 5)))), Kept("barrier", "not-data-input")),
    ("before gemm, batch axis", lambda m: out(m, gemm(m, m.per_channel("Mul", start(m, 4, 4), axis=0))), Kept("barrier", "axis")),
    ("matmul", lambda m: out(m, m.bn(m.op("MatMul", start(m, 3, 4), m.constant((4, 5))))), into("MatMul", status="split", left=4)),
    ("scale after matmul", lambda m: out(m, m.per_channel("Mul", m.op("MatMul", start(m, 2, 3, 4), m.constant((4, 5))), axis=2)), into("MatMul")),
    ("matmul, add, bn", lambda m: out(m, m.bn(m.op("Add", m.op("MatMul", start(m, 3, 4), m.constant((4, 5))), m.constant((5,))))), into("MatMul", "Add", left=4)),
    ("matmul, T = C", lambda m: out(m, m.bn(m.op("MatMul", start(m, 2, 4, 4), m.constant((4, 4))))), Kept("axis", "barrier")),
    ("shift after matmul, per row", lambda m: out(m, m.per_channel("Add", m.op("MatMul", start(m, 2, 3, 4), m.constant((4, 5))), axis=1)), Kept("no-gain", "barrier")),
    ("constant left", lambda m: out(m, m.bn(m.op("MatMul", m.constant((5, 3)), start(m, 2, 3, 4)))), into("MatMul", status="split", left=4)),
    ("constant left, columns", lambda m: out(m, m.per_channel("Mul", m.op("MatMul", m.constant((4, 4)), start(m, 2, 4, 4)), axis=2)), Kept("barrier", "barrier")),
    ("constant left, rows", lambda m: out(m, m.per_channel("Mul", m.op("MatMul", m.constant((5, 3)), start(m, 2, 3, 4)), axis=1)), into("MatMul")),
    ("batched weights", lambda m: out(m, m.per_channel("Mul", m.op("MatMul", start(m, 2, 3, 4), m.constant((2, 4, 5))), axis=2)), into("MatMul")),
    ("matmul with a vector", lambda m: out(m, m.op("Mul", m.op("MatMul", start(m, 3, 4), m.constant((4,))), m.constant((3,)), name=SITE)), Kept("barrier", "barrier")),
    ("before matmul", lambda m: out(m, m.op("Add", m.op("MatMul", m.bn(start(m, 3, 4)), m.constant((4, 5))), m.constant((5,)))), into("MatMul", "Add", left=4)),
    ("scale before matmul", lambda m: out(m, m.op("MatMul", m.per_channel("Mul", start(m, 2, 3, 4), axis=2), m.constant((4, 5)))), into("MatMul")),
    ("scale before matmul on the right", lambda m: out(m, m.op("MatMul", m.constant((5, 3)), m.per_channel("Mul", start(m, 2, 3, 4), axis=1))), into("MatMul")),
    ("mul and add before matmul on the right", lambda m: out(m, m.op("MatMul", m.constant((5, 3)), m.per_channel("Add", m.per_channel("Mul", start(m, 2, 3, 4), axis=1), "other", axis=1))), into("MatMul", status="split")),
    ("shift before batched matmul", lambda m: out(m, m.op("MatMul", m.per_channel("Add", start(m, 2, 3, 4), axis=2), m.constant((2, 4, 5)))), Kept("barrier", "no-gain")),
    ("q, k, v", q_k_v, into("MatMul", "Add", "MatMul", "Add", "MatMul", "Add")),
    ("q, k, v without bias", lambda m: q_k_v(m, bias=False), into("MatMul", "MatMul", "MatMul", status="split")),
]  # fmt: skip

ELEMENT: list[Row] = [
    (f"{op} after conv", lambda m, op=op: out(m, m.per_channel(op, m.conv(start(m), 6))), into("Conv"))
    for op in ("Add", "Sub", "Mul", "Div")
] + [
    ("Neg after conv", lambda m: out(m, m.op("Neg", m.conv(start(m), 6), name=SITE)), into("Conv")),
    ("constant first", lambda m: (lambda x: out(m, m.op("Add", m.constant((6, 1, 1)), x, name=SITE)))(m.conv(start(m), 6)), into("Conv")),
    ("constant minus x", lambda m: (lambda x: out(m, m.op("Sub", m.constant((6, 1, 1)), x, name=SITE)))(m.conv(start(m), 6)), into("Conv")),
    ("mul, then add", lambda m: out(m, m.per_channel("Add", m.per_channel("Mul", m.conv(start(m), 6), name="mul"))), into("Conv")),
    ("bn, mul, add", lambda m: out(m, m.per_channel("Add", m.per_channel("Mul", m.bn(m.conv(start(m), 6)), name="mul"), name="add")), into("Conv")),
    ("two normalizations", lambda m: out(m, m.bn(m.bn(m.conv(start(m), 6), name="first"))), into("Conv")),
    ("bn merges with what follows", lambda m: out(m, m.per_channel("Mul", m.bn(start(m), name="bn"))), into("BatchNormalization", status="merged")),
    ("bn merges with a shift that follows", lambda m: out(m, m.per_channel("Add", m.bn(start(m), name="bn"))), into("BatchNormalization", status="merged")),
    ("bn merges with what precedes", lambda m: out(m, m.bn(m.per_channel("Add", m.per_channel("Mul", start(m), name="mul")), name="bn")), into("BatchNormalization", status="merged")),
    ("two muls merge", lambda m: out(m, m.per_channel("Mul", m.per_channel("Div", start(m)), name="mul")), into("Mul", status="merged")),
    ("two adds merge", lambda m: out(m, m.per_channel("Add", m.per_channel("Sub", start(m)), name="add")), into("Add", status="merged")),
    ("a scale, a shift, padded Conv", lambda m: out(m, m.conv(m.per_channel("Sub", m.per_channel("Div", start(m)), name="shift"), 3, pads=[1, 1, 1, 1])), into("Add", "Conv", direction="forward", left=4)),
    ("a scale, Transpose, a shift, Transpose, padded Conv", lambda m: out(m, m.conv(m.op("Transpose", m.per_channel("Add", m.op("Transpose", m.per_channel("Mul", start(m)), perm=[0, 2, 3, 1]), name="shift", axis=3), perm=[0, 3, 1, 2]), 3, pads=[1, 1, 1, 1])), into("Add", "Conv", direction="forward")),
    ("BN, a shift, padded Conv", lambda m: out(m, m.conv(m.per_channel("Sub", m.bn(start(m)), name="shift"), 3, pads=[1, 1, 1, 1])), into("Conv", status="split", direction="forward", left=4)),
    ("a shift, a scale, a sum, Conv", lambda m: out(m, m.conv(m.op("Add", m.per_channel("Mul", m.per_channel("Add", start(m)), name="scale"), start(m)), 3)), into("Mul", "Conv", direction="forward")),
    ("Conv, LeakyRelu, a shift, a scale", lambda m: out(m, m.op("Mul", m.per_channel("Add", m.op("LeakyRelu", m.conv(start(m), 6)), name="shift"), m.constant(np.array(0.3)), name=SITE)), into("Add", "Conv", direction="backward")),
    ("a scale with a zero, a shift, padded Conv", lambda m: out(m, m.conv(m.per_channel("Add", m.op("Mul", start(m), m.constant(np.array([0.0, 1, 2, 3]).reshape(4, 1, 1)), name=SITE), name="shift"), 3, pads=[1, 1, 1, 1])), Kept("barrier", "two-steps")),
    ("mul and add stay", lambda m: out(m, m.per_channel("Add", m.per_channel("Mul", start(m), name="mul"))), Kept("two-steps", "barrier")),
    ("one is removed", lambda m: out(m, m.op("Mul", start(m), m.constant(np.ones(())), name=SITE)), into(status="removed")),
    ("broadcasting constant", lambda m: out(m, m.op("Mul", m.conv(start(m), 1, kernel=(5, 1)), m.constant((3, 1, 1)), name=SITE)), Kept("broadcast", "broadcast")),
    ("constant of higher rank", lambda m: out(m, m.op("Mul", gemm(m, start(m, 3, 4)), m.constant((1, 1, 1)), name=SITE)), Kept("broadcast", "broadcast")),
    ("division by zero", lambda m: out(m, (lambda x: m.op("Div", x, m.constant(np.zeros(())), name=SITE, like=x))(m.conv(start(m), 6))), Kept("non-finite", "non-finite")),
    ("residual add", lambda m: residual(m, "Add"), into("Conv")),
    ("residual sub", lambda m: residual(m, "Sub"), into("Conv")),
    ("residual sum", lambda m: residual(m, "Sum"), into("Conv")),
    ("residual, one branch absorbs no shift", lambda m: (lambda x: out(m, m.bn(m.op("Sub", m.op("MatMul", x, m.constant((4, 5))), gemm(m, x)))))(start(m, 3, 4)), into("MatMul", "Gemm", status="split")),
    ("residual with a constant", lambda m: (lambda x: out(m, m.bn(m.op("Sum", m.conv(x, 6), m.constant((2, 6, 3, 4))))))(start(m)), into("Conv", "Sum")),
    ("residual with relu", lambda m: (lambda x: out(m, m.bn(m.op("Add", m.conv(x, 4, pads=[1] * 4), x))))(start(m)), into("Conv", direction="backward", left=3)),
    ("x + x", lambda m: (lambda y: out(m, m.bn(m.op("Add", y, y))))(m.conv(start(m), 4)), Kept("other-consumer", "barrier")),
    ("broadcast residual", lambda m: (lambda x: out(m, m.bn(m.op("Add", m.conv(x, 6), m.conv(x, 1)))))(start(m)), into("Conv", status="split")),
    ("residual bias", lambda m: (lambda x: out(m, m.bn(m.op("Add", m.conv(x, 6), m.op("GlobalAveragePool", m.conv(x, 6))))))(start(m)), into("Conv", "Conv")),
    ("shift through a sum", lambda m: out(m, m.conv(m.op("Add", m.per_channel("Add", start(m)), m.op("Sigmoid", m.x(2, 4, 5, 6))), 6)), into("Conv")),
    ("shift through the second of a difference", lambda m: out(m, m.conv(m.op("Sub", m.op("Sigmoid", m.x(2, 4, 5, 6)), m.per_channel("Add", start(m))), 6)), into("Conv")),
    ("scale before a sum", lambda m: out(m, m.conv(m.op("Add", m.per_channel("Mul", start(m)), m.x(2, 4, 5, 6)), 6)), Kept("barrier", "scale-left")),
    ("two ways to one operator", lambda m: (lambda y: out(m, m.conv(m.op("Concat", m.op("Identity", y), y, axis=1), 6)))(m.bn(start(m))), Kept("barrier", "reconvergent")),
    ("read twice", lambda m: (lambda y: out(m, m.op("MatMul", y, y)))(m.per_channel("Mul", start(m, 4, 4))), Kept("barrier", "reconvergent")),
]  # fmt: skip

LAYOUT: list[Row] = [
    ("Identity", lambda m: out(m, m.bn(m.op("Identity", m.conv(start(m), 6)))), into("Conv")),
    ("before Identity", lambda m: out(m, m.conv(m.op("Identity", m.bn(start(m))), 6)), into("Conv")),
    ("Dropout", lambda m: out(m, m.bn(m.op("Dropout", m.conv(start(m), 6)))), into("Conv")),
    ("before Dropout", lambda m: out(m, m.conv(m.op("Dropout", m.bn(start(m)), m.constant(np.array(0.5, np.float32), dtype=np.float32), m.constant(np.array(False))), 6)), into("Conv")),
    ("Dropout in training", lambda m: out(m, m.bn(m.op("Dropout", m.conv(start(m), 6), "", m.constant(np.array(True))))), Kept("barrier", "barrier")),
    ("Transpose", lambda m: out(m, m.per_channel("Mul", m.op("Transpose", m.conv(start(m), 6), perm=[0, 2, 3, 1]), axis=3)), into("Conv")),
    ("Transpose, wrong axis", lambda m: out(m, m.bn(m.op("Transpose", m.conv(start(m, 2, 4, 6, 8), 6, kernel=1), perm=[0, 2, 3, 1]))), Kept("axis", "barrier")),
    ("reversing Transpose", lambda m: out(m, m.per_channel("Mul", m.op("Transpose", m.conv(start(m), 6)), axis=2)), into("Conv")),
    ("before Transpose", lambda m: out(m, m.op("MatMul", m.op("Transpose", m.per_channel("Mul", start(m)), perm=[2, 0, 3, 1]), m.constant((4, 5)))), into("MatMul")),
    ("Reshape, channels kept", lambda m: out(m, m.bn(m.op("Reshape", m.conv(fixed_batch(m, "image"), 6), m.constant(np.array([0, 0, -1]))))), into("Conv")),
    ("Reshape, channels split", lambda m: out(m, m.op("Mul", m.op("Reshape", m.conv(fixed_batch(m, "image"), 6), m.constant(np.array([-1, 2, 3, 12]))), m.constant((2, 3, 1)), name=SITE)), into("Conv")),
    ("Reshape, channels split, one number left out", lambda m: out(m, m.op("Mul", m.op("Reshape", m.conv(start(m), 6), m.constant(np.array([0, -1, 2, 12]))), m.constant((3, 2, 1)), name=SITE)), into("Conv")),
    ("Reshape of an open batch, channels split, one number left out", lambda m: out(m, m.op("Mul", m.op("Reshape", m.conv(fixed_batch(m, "image"), 6), m.constant(np.array([0, -1, 2, 12]))), m.constant((3, 2, 1)), name=SITE)), into("Conv")),
    ("Reshape, groups merged", lambda m: out(m, m.bn(m.op("Reshape", m.conv(fixed_batch(m, "image"), 6), m.constant(np.array([0, 3, 2, 12]))))), into("Conv")),
    ("Reshape across the channel", lambda m: out(m, m.bn(m.op("Reshape", m.conv(start(m), 6), m.constant(np.array([2, 4, 18]))))), Kept("axis", "barrier")),
    ("channel shuffle", lambda m: out(m, m.bn(m.op("Reshape", m.op("Transpose", m.op("Reshape", m.conv(fixed_batch(m, "image"), 6), m.constant(np.array([0, 2, 3, 3, 4]))), perm=[0, 2, 1, 3, 4]), m.constant(np.array([0, 6, 3, 4]))))), into("Conv")),
    ("Flatten repeats", lambda m: out(m, gemm(m, m.op("Flatten", m.bn(start(m, 2, 3, 2, 2))))), into("Gemm", direction="forward")),
    ("Flatten of one position", lambda m: out(m, m.bn(m.op("Flatten", m.conv(start(m), 6, kernel=(5, 6))))), into("Conv")),
    ("Flatten, negative axis", lambda m: out(m, gemm(m, m.op("Flatten", m.per_channel("Mul", start(m, 2, 3, 4), axis=2), axis=-1))), into("Gemm")),
    ("Squeeze", lambda m: out(m, m.bn(m.op("Squeeze", m.conv(start(m), 6, kernel=(5, 1)), m.constant(np.array([2]))))), into("Conv")),
    ("Squeeze of all", lambda m: out(m, m.bn(m.op("Squeeze", m.conv(start(m), 6, kernel=(5, 1))))), into("Conv")),
    ("Squeeze of all, size unknown", lambda m: out(m, m.bn(m.op("Squeeze", m.conv(m.x(2, 4, 5, 6, declare=["N", 4, 5, 6]), 6, kernel=(5, 1))))), Kept("unknown-shape", "unknown-shape")),
    ("before Squeeze", lambda m: out(m, gemm(m, m.op("Squeeze", m.bn(start(m, 3, 4, 1)), m.constant(np.array([-1]))))), into("Gemm")),
    ("Unsqueeze", lambda m: out(m, m.bn(m.op("Unsqueeze", gemm(m, start(m, 3, 4)), m.constant(np.array([2, -1]))))), into("Gemm")),
    ("before Unsqueeze", lambda m: out(m, m.conv(m.op("Unsqueeze", m.bn(start(m, 2, 4, 5)), m.constant(np.array([3]))), 6, kernel=1)), into("Conv")),
    ("Concat", lambda m: (lambda x: out(m, m.bn(m.op("Concat", m.conv(x, 6), m.conv(x, 3), m.conv(x, 2), axis=1))))(start(m)), into("Conv", "Conv", "Conv")),
    ("Concat along another axis", lambda m: (lambda x: out(m, m.bn(m.op("Concat", m.conv(x, 6), m.conv(x, 6), axis=-1))))(start(m)), into("Conv", "Conv")),
    ("Concat with a constant", lambda m: (lambda x: out(m, m.bn(m.op("Concat", m.conv(x, 6), m.constant((2, 3, 3, 4)), axis=1))))(start(m)), into("Conv", "Concat")),
    ("Concat with relu", lambda m: (lambda x: out(m, m.bn(m.op("Concat", m.conv(x, 4, pads=[1] * 4), out(m, x), axis=1))))(start(m)), Kept("barrier", "barrier")),
    ("before Concat", lambda m: out(m, m.conv(m.op("Concat", out(m, m.x(2, 3, 5, 6)), m.bn(start(m)), m.x(2, 1, 5, 6), axis=1), 6)), into("Conv")),
    ("before Concat along another axis", lambda m: out(m, m.op("MatMul", m.op("Concat", m.per_channel("Mul", start(m, 2, 3, 4), axis=2), m.x(2, 3, 4), axis=1), m.constant((4, 5)))), Kept("barrier", "axis")),
    ("Concat of unknown lengths", lambda m: (lambda x: out(m, m.bn(m.op("Concat", m.conv(x, 6), m.x(2, 2, 3, 4, declare=["N", "C", 3, 4]), axis=1))))(start(m)), Kept("unknown-shape", "barrier")),
]  # fmt: skip

SAFETY: list[Row] = [
    ("graph input", lambda m: out(m, m.bn(m.x(2, 4, 5, 6))), Kept("graph-input", "barrier")),
    ("dead", lambda m: (m.bn(start(m)), out(m, m.x(2, 3)))[1], into(status="removed", left=2)),
    ("read for its shape alone", lambda m: out(m, m.op("Cast", m.op("Shape", m.bn(start(m))), to=11)), into(status="removed")),
    ("behind it only what nothing reads", lambda m: (m.op("Identity", m.bn(start(m))), out(m, m.x(2, 3)))[1], Kept("barrier", "unused")),
    ("of a constant, read nowhere", lambda m: (m.bn(m.constant((2, 4, 5, 6))), out(m, m.x(2, 3)))[1], into(status="removed", left=1)),
    ("of a constant", lambda m: out(m, m.op("Add", m.x(2, 4, 5, 6), m.bn(m.constant((2, 4, 5, 6))))), into(status="removed", left=2)),
    ("another reader", two_readers, Kept("other-consumer", "barrier")),
    ("a reader of the shape", shape_reader, into("Conv")),
    ("shared weight", shared_weight, into("Conv")),
    ("weight behind Identity", lambda m: constant_weight(m, "Identity"), into("Conv")),
    ("weight behind layout", lambda m: constant_weight(m, "Transpose", "Unsqueeze", "Reshape"), into("Conv")),
    ("weight by arithmetic", lambda m: constant_weight(m, "Arithmetic"), into("Conv")),
    ("weight by ConstantOfShape", of_shape, into("Conv")),
    ("weight in a Constant node", constant_node, into("Conv")),
    ("sqrt(var + eps)", derived_variance, into("Conv")),
    ("wrong length", lambda m: bn_with(m, mean=np.ones(5)), Kept("parameters", "parameters")),
    ("one parameter for all", lambda m: bn_with(m, scale=np.ones(1), bias=np.ones(1), mean=np.ones(1), var=np.ones(1)), Kept("parameters", "parameters")),
    ("negative variance", lambda m: bn_with(m, var=np.full(6, -1.0)), Kept("non-finite", "non-finite")),
    ("infinite mean", lambda m: bn_with(m, mean=np.full(6, np.inf)), Kept("non-finite", "non-finite")),
    ("dead channels", lambda m: bn_with(m, scale=np.array([0.0, 1, 0, 1, 2, 0])), into("Conv")),
    ("negative scales", lambda m: bn_with(m, scale=-np.arange(1.0, 7)), into("Conv")),
]  # fmt: skip

ROWS = CONVOLUTION + LINEAR + ELEMENT + LAYOUT + SAFETY
