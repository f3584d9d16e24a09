"""Models that are sound to a reader and harm who infers their shapes, computes their constants or runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from tests.support.hostile.files import laughs, node
from tests.support.service.server import model_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

HUGE = 1 << 40
OPSET = 20
FOLDS = "float[2,4,8,8] x) => (float[2,4,8,8] y"
SCALES = "float[4,1,1] a = {1, 2, 3, 4}, float[4,1,1] b = {2, 3, 4, 5}"


def folds(body: str, constants: str = "", head: str = "") -> bytes:
    """Two multiplications that become one make `z`; what `body` makes of it, or beside it, is the harm."""
    text = f'<ir_version: 8, opset_import: ["" : {OPSET}{head}]> g ({FOLDS}) <{SCALES}{constants}>'
    return parser.parse_model(f"{text} {{ p = Mul(x, a) z = Mul(p, b) {body} }}").SerializeToString()


def loop(body: str, *, trips: int = HUGE, state: str = "float[2,4,8,8]") -> bytes:
    """A Loop over `z` whose state `s` becomes `t`."""
    inner = f"<body = b (int64 i, bool c, {state} s) => (bool d, {state} t) {{ d = Identity(c) {body} }}>"
    return folds(f"y = Loop(n, go, z) {inner}", f", int64 n = {{{trips}}}, bool go = {{1}}")


def endless_scan() -> bytes:
    """A Scan over as many steps as there are numbers in a Range."""
    body = "<body = b (float[2,4,8,8] s, int64 i) => (float[2,4,8,8] t) { t = Relu(s) }, num_scan_inputs = 1>"
    return folds(
        f"r = Range(zero, n, one) y = Scan(z, r) {body}",
        ", int64 zero = {0}, int64 one = {1}, int64 n = {100000000}",
    )


def wide_inputs(*shape: int | str) -> bytes:
    """A model whose input has this shape."""
    model = onnx.ModelProto.FromString(folds("y = Relu(z)"))
    for value in (*model.graph.input, *model.graph.output):
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))
    return model.SerializeToString()


def constant(body: str, constants: str) -> bytes:
    """`k`, which is computed of constants, scales the result once more."""
    return folds(f"{body} y = Mul(z, k)", f", {constants}")


def burner(count: int = 6000, exponent: int = 25) -> bytes:
    """A constant of 2 ** exponent numbers, computed in `count` steps: minutes for any machine."""
    steps = "\n".join(f"k{i + 1} = Sigmoid(k{i})" for i in range(count))
    last = f"k{count}"
    body = f"k0 = ConstantOfShape(n) {steps} k = ReduceMax<keepdims = 0>({last})"
    return constant(body, f"int64[1] n = {{{1 << exponent}}}")


def chain(count: int, factor: float = 3.0) -> bytes:
    """So many multiplications in a row, each by a constant of its own."""
    model = onnx.ModelProto.FromString(folds("y = Relu(z)"))
    del model.graph.node[:]
    for i in range(count):
        names = f"v{i}" if i else "x", f"v{i + 1}" if i + 1 < count else "y"
        model.graph.node.append(node("Mul", names[0], f"c{i}", output=names[1]))
        model.graph.initializer.append(
            numpy_helper.from_array(np.full((4, 1, 1), factor if i % 2 else 1 / 3, np.float32), f"c{i}")
        )
    return model.SerializeToString()


def laughing(levels: int) -> bytes:
    """Functions that call each other twice, around a fold; all expanded they are just below the limit."""
    model = onnx.ModelProto.FromString(laughs(levels))
    fold = onnx.ModelProto.FromString(folds("y = Relu(z)"))
    for function in model.functions:
        for opset in function.opset_import:
            opset.version = OPSET if not opset.domain else 1
    fold.functions.extend(model.functions)
    fold.opset_import.add(domain="local", version=1)
    fold.graph.node[-1].CopyFrom(helper.make_node("f0", ["z"], ["y"], domain="local"))
    return fold.SerializeToString()


def ladder(levels: int) -> bytes:
    """An If in a branch of an If and so on, as deep as protobuf reads."""
    inner = "o0 = Relu(z)"
    for level in range(1, levels):
        inner = (
            f"o{level} = If(go) <then_branch = t{level} () => (float[2,4,8,8] o{level - 1}) {{ {inner} }}, "
            f"else_branch = e{level} () => (float[2,4,8,8] q{level}) {{ q{level} = Neg(z) }}>"
        )
    return folds(f"{inner} y = Identity(o{levels - 1})", ", bool go = {1}")


def sparse(count: int) -> bytes:
    """Sparse constants of one number that would be half a gigabyte each if they were written out."""
    model = onnx.ModelProto.FromString(folds("y = Relu(z)"))
    for i in range(count):
        values = numpy_helper.from_array(np.ones(1, np.float32), f"s{i}")
        indices = numpy_helper.from_array(np.zeros(1, np.int64))
        model.graph.sparse_initializer.append(
            onnx.SparseTensorProto(values=values, indices=indices, dims=[1 << 26, 1, 1, 1])
        )
        model.graph.node.append(node("Mul", f"v{i - 1}" if i else "z", f"s{i}", output=f"v{i}"))
    return model.SerializeToString()


def convolution() -> onnx.ModelProto:
    """A normalization that folds whether or not shapes can be inferred."""
    model = onnx.ModelProto.FromString(model_bytes())
    model.opset_import[0].version = OPSET
    return model


def wild(op: str, *shape: int, **attributes: int) -> bytes:
    """A fold beside an operator with an attribute that points outside an input of this shape."""
    model = convolution()
    model.graph.input.append(helper.make_tensor_value_info("l", TensorProto.FLOAT, shape))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    model.graph.node.append(node(op, "l", "l" if op == "LayerNormalization" else "one", output="h", **attributes))
    return model.SerializeToString()


def gathered() -> bytes:
    """A constant that is picked out of another one by an attribute that points outside of it."""
    model = onnx.ModelProto.FromString(folds("y = Mul(z, k)", ", int64[1] one = {1}, float k = {1}"))
    del model.graph.initializer[-1]
    model.graph.node.insert(0, node("GatherND", "a", "one", output="k", batch_dims=-100))
    return model.SerializeToString()


def listed(length: int) -> bytes:
    """A list of numbers so long that inference, which takes it for a shape, cannot note each of them."""
    model = convolution()
    model.graph.input.append(helper.make_tensor_value_info("l", TensorProto.INT64, [length]))
    model.graph.node.append(node("Mul", "l", "l", output="h"))
    return model.SerializeToString()


def poisoned(op: str, *inputs: str, **attributes: Any) -> bytes:
    """A fold, and beside it one operator of which the libraries of others crash."""
    model = convolution()
    model.graph.node.append(node(op, *inputs, output="h", **attributes))
    return model.SerializeToString()


ROWS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a Loop that never ends": (lambda: loop("t = Relu(s)"), "not verified: it was still running the original after"),
    "a Loop in a Loop": (
        lambda: loop(
            "k = Constant<value_int = 1000000000>() t = Loop(k, c, s) <body = i (int64 j, bool e, "
            "float[2,4,8,8] u) => (bool f, float[2,4,8,8] w) { f = Identity(e) w = Relu(u) }>"
        ),
        "not verified: it was still running the original after",
    ),
    "a Loop that doubles its state": (
        lambda: loop("t = Concat<axis = 0>(s, s)", state="float[M,4,8,8]"),
        "not verified: (memory ran out|it was still running)",
    ),
    "a Scan over a long Range": (endless_scan, "not verified: it was still running the original after"),
    "MatMuls without end": (
        lambda: loop(
            "k = Constant<value_ints = [2048, 2048]>() m = ConstantOfShape(k) o = MatMul(m, m) "
            "h = ReduceMax<keepdims = 0>(o) t = Mul(s, h)"
        ),
        "not verified: it was still running the original after",
    ),
    "4 TiB by Expand": (
        lambda: folds("e = Expand(z, n) y = ReduceMax<keepdims = 0>(e)", f", int64[5] n = {{{HUGE >> 8}, 2, 4, 8, 8}}"),
        "not verified: memory ran out",
    ),
    "4 TiB by ConstantOfShape": (
        lambda: folds("k = Shape(z) q = Mul(k, n) e = ConstantOfShape(q) y = Sum(z, e)", f", int64 n = {{{1 << 10}}}"),
        "not verified: ",
    ),
    "4 TiB by Tile": (
        lambda: folds("e = Tile(z, n) y = ReduceMax<keepdims = 0>(e)", f", int64[4] n = {{{HUGE >> 10}, 1, 1, 1}}"),
        "not verified: ONNX Runtime cannot run",
    ),
    "a Range without end": (
        lambda: folds(
            "m = ReduceMax<keepdims = 0>(z) l = Exp(m) q = Exp(l) r = Range(zero, q, tiny) "
            "h = ReduceMax<keepdims = 0>(r) y = Mul(z, h)",
            ", float zero = {0}, float tiny = {0.000000000001}",
        ),
        "not verified: ",
    ),
    "huge inputs": (lambda: wide_inputs(65536, 4, 65536, 64), "not verified: one sample of the inputs"),
    "inputs of 2 ** 62 numbers": (
        lambda: wide_inputs(1 << 31, 4, 1 << 29, 1),
        "not verified: one sample of the inputs",
    ),
    "huge open inputs": (lambda: wide_inputs("N", 4, "H", 1 << 30), "not verified: one sample of the inputs"),
    "a result that is no number": (
        lambda: folds("u = Sub(z, z) y = Div(u, u)"),
        'not verified: output "y" of the original is NaN',
    ),
    "an operator nobody knows": (
        lambda: folds("y = Relu(z) h = mine.Own(y)", head=', "mine" : 1'),
        "not verified: ONNX Runtime cannot load the original",
    ),
    "Ifs in Ifs": (lambda: ladder(30), "verified"),
    # The runtime dies of these.
    "Max of nothing": (lambda: poisoned("Max", "x0", ""), "not verified: the process died"),
    "Sum of nothing": (lambda: poisoned("Sum", "x0", "", "x0"), "not verified: the process died"),
    # onnx's inference of shapes dies of these, or never ends.
    "an axis beyond": (lambda: wild("LayerNormalization", 7, 0, HUGE, axis=1 << 31), "not verified: "),
    "an axis before": (lambda: wild("GatherND", 4096, 1, 4096, 2, batch_dims=-100), "not verified: "),
    "a match of nothing": (lambda: poisoned("RegexFullMatch", ""), "not verified: "),
    "2 ** 31 parts": (
        lambda: poisoned("Split", "x0", axis=1, num_outputs=(1 << 31) - 1),
        "not verified: ",
    ),
    "a list of 2 ** 40 sizes": (lambda: listed(HUGE), "not verified: "),
    # What is computed of constants is bounded before it is.
    "a constant of 4 TiB": (
        lambda: constant("k = ConstantOfShape(n)", f"int64[2] n = {{{HUGE >> 10}, 1024}}"),
        "not verified: ",
    ),
    "a constant repeated to 4 TiB": (
        lambda: constant("k = Tile(a, n)", f"int64[3] n = {{{HUGE >> 2}, 1, 1}}"),
        "not verified: ",
    ),
    "a constant Range without end": (
        lambda: constant("r = Range(f, t, f) k = ReduceMax<keepdims = 0>(r)", "float f = {0}, float t = {1}"),
        "not verified: ",
    ),
    "a constant GatherND": (gathered, "verified"),
    "a constant burner": (burner, "out-of-memory|timed-out|not verified: "),
    "sparse constants of 2 GiB": (lambda: sparse(8), "out-of-memory|not verified: "),
    "2,000 multiplications that overflow": (lambda: chain(2_000, 2000.0), "timed-out"),
    "a million operators in functions": (lambda: laughing(20), "verified|not verified: "),
}
