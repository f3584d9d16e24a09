"""Evaluate operators on constants: simple ones in this module, all others with onnx's reference evaluator."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from folding.algebra.quantization import DEQUANTIZE, QUANTIZE, is_integer
from folding.analysis.inference import InferenceError, inferred
from folding.analysis.selecting import SELECTING
from folding.graph.dtypes import FLOAT_TYPES, dtype_of
from folding.graph.grids import grid_of
from folding.graph.narrowed import Narrowed
from folding.graph.node import CAST_LIKE, LIKE
from folding.graph.sites import NORMALIZATION, in_training_mode
from folding.graph.weights import VALUES_LIMIT, Weight
from folding.refusal import Refused, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from folding.graph.node import Node

Array = NDArray[Any]

EXACT_INTEGER = 4  # bytes of the smallest integers that float32 cannot hold exactly
DIVIDED = frozenset({np.dtype(np.float32), np.dtype(np.float64)})  # for narrower types, runtimes divide in a wider type


def array_of(found: Weight | Array) -> Array:
    """A constant's values in its stored type."""
    if not isinstance(found, Weight):
        return found
    if isinstance(found, Narrowed):
        return found.array()
    if isinstance(found.base, np.ndarray) and not found.factors:
        return found.base.astype(found.dtype, copy=False)
    return found.values().astype(found.dtype)


def evaluate(node: Node, given: list[Weight | Array | None]) -> list[Weight | Array]:
    """The outputs of one of the `OPERATORS`; an absent input is None.

    Raises:
        Refused: "parameters" if the inputs do not fit, "too-large", "not-float", "old-opset".
    """
    try:
        if node.op in OWN:
            return [OWN[node.op](node, [g for g in given if g is not None])]
        if node.op in SELECTING:
            return [np.asarray(SELECTING[node.op](node, [None if g is None else array_of(g) for g in given]))]
        return _by_reference(node, [None if g is None else array_of(g) for g in given])
    except (ValueError, IndexError, OverflowError) as error:  # what NumPy raises for shapes that do not fit
        reason = f"the constant {node.output!r} cannot be computed: {error}"
        raise Refused("parameters", reason, node.label) from None


def _by_reference(node: Node, given: list[Array | None]) -> list[Weight | Array]:
    """Run the operator as a separate model, after a check that its results are small."""
    names = [f"input{number}" if array is not None else "" for number, array in enumerate(given)]
    arrays = [(name, array) for name, array in zip(names, given, strict=True) if array is not None]
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    proto.domain = ""
    proto.input[:] = names
    outputs = [onnx.ValueInfoProto(name=name) for name in node.outputs if name]
    graph = helper.make_graph([proto], "constant", [], outputs, [numpy_helper.from_array(a, n) for n, a in arrays])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", node.scope.graph.opset)])
    try:
        results = inferred(model, strict=True).graph.output
    except InferenceError as error:
        raise ValueError(str(error)) from None
    for value in results:
        sizes = [d.dim_value if d.HasField("dim_value") else VALUES_LIMIT + 1 for d in value.type.tensor_type.shape.dim]
        require(math.prod(sizes) <= VALUES_LIMIT, "too-large", f"{node.label!r} makes a constant too large to evaluate")
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415  few models need it, and start-up time counts

    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(model).run(None, {})
    except Exception as error:  # noqa: BLE001  for any exception the constant stays unknown
        raise ValueError(str(error)) from None
    for value, array in zip(results, found, strict=True):
        require(array.dtype == dtype_of(value.type.tensor_type.elem_type), "not-float", "it computes in another type")
    by_name = dict(zip((value.name for value in results), found, strict=True))
    return [by_name.get(name, np.empty(0)) for name in node.outputs]


def _reshaped(found: Weight | Array, shape: tuple[int, ...]) -> Weight | Array:
    if isinstance(found, Weight):
        base = found.base.reshape(shape) if isinstance(found.base, np.ndarray) else found.base
        return replace(found, shape=shape, base=base)
    return found.reshape(shape)


def _reshape(node: Node, given: list[Weight | Array]) -> Weight | Array:
    target = node.attribute("shape") if node.version < 5 else array_of(given[1]).tolist()
    keep_zero = node.version >= 14 and node.attribute("allowzero")
    source = given[0].shape
    sizes = [source[i] if size == 0 and not keep_zero else int(size) for i, size in enumerate(target)]
    rest = math.prod(size for size in sizes if size >= 0)
    shape = tuple(math.prod(source) // max(1, rest) if size < 0 else size for size in sizes)
    require(math.prod(shape) == math.prod(source), "parameters", f"{node.label!r} reshapes {source} to {shape}")
    return _reshaped(given[0], shape)


def _axes(node: Node, given: list[Weight | Array]) -> list[int] | None:
    if len(given) > 1:
        return [int(axis) for axis in array_of(given[1]).reshape(-1)]
    found = node.attribute("axes") if node.version < 13 else None
    return None if found is None else list(found)


def _unsqueeze(node: Node, given: list[Weight | Array]) -> Weight | Array:
    axes = _axes(node, given) or []
    rank = len(given[0].shape) + len(axes)
    places, source = {axis % rank for axis in axes}, iter(given[0].shape)
    return _reshaped(given[0], tuple(1 if axis in places else next(source) for axis in range(rank)))


def _squeeze(node: Node, given: list[Weight | Array]) -> Weight | Array:
    axes, shape = _axes(node, given), given[0].shape
    places = {i for i, n in enumerate(shape) if n == 1} if axes is None else {axis % len(shape) for axis in axes}
    return _reshaped(given[0], tuple(n for i, n in enumerate(shape) if i not in places))


def _flatten(node: Node, given: list[Weight | Array]) -> Weight | Array:
    shape, axis = given[0].shape, int(node.attribute("axis"))
    first = axis + len(shape) if axis < 0 else axis
    return _reshaped(given[0], (math.prod(shape[:first]), math.prod(shape[first:])))


def _constant_of_shape(node: Node, given: list[Weight | Array]) -> Weight | Array:
    shape = tuple(int(n) for n in array_of(given[0]).reshape(-1))
    require(math.prod(shape) <= VALUES_LIMIT, "too-large", f"{node.label!r} makes a constant too large to evaluate")
    value = node.attribute("value")
    fill = np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)
    return np.broadcast_to(fill.reshape(()), shape)


def dtype_of_cast(node: Node) -> np.dtype[Any] | None:
    """The type to which a Cast or CastLike converts, None if it is unknown."""
    if node.op == CAST_LIKE:
        return node.dtype(LIKE)
    target = node.attribute("to")
    code = onnx.TensorProto.DataType.Value(target.decode()) if isinstance(target, bytes) else target  # Cast-1: a name
    return dtype_of(code)


def _cast(node: Node, given: list[Weight | Array]) -> Weight | Array:
    return _converted(node, given[0], dtype_of_cast(node))


def _converted(node: Node, found: Weight | Array, dtype: np.dtype[Any] | None) -> Array:
    """The values in another type; numbers beyond an integer type become what the runtime likes, so they are refused."""
    known = dtype is not None and (dtype in FLOAT_TYPES or dtype.kind in "iub")
    require(known, "not-float", f"{node.label!r} casts to {dtype}")
    values = array_of(found)
    require(values.dtype in FLOAT_TYPES or values.dtype.kind in "iub", "not-float", f"it casts from {values.dtype}")
    if dtype is not None and dtype.kind in "iu" and values.dtype in FLOAT_TYPES and values.size:
        info, low, high = np.iinfo(dtype), values.min(), values.max()  # NaN, if there is one
        fits = float(info.min) <= float(low) and float(high) < float(info.max)
        require(fits, "parameters", f"{node.label!r} casts numbers beyond {dtype}")
    with np.errstate(all="ignore"):
        return values.astype(dtype)


def _cast_like(node: Node, given: list[Weight | Array]) -> Weight | Array:
    """The second input gives its type alone, so it is not evaluated."""
    dtype = node.dtype(LIKE)
    if isinstance(given[0], Weight) and given[0].dtype == dtype:
        return given[0]
    return _converted(node, given[0], dtype)


def _transpose(node: Node, given: list[Weight | Array]) -> Weight | Array:
    return np.ascontiguousarray(array_of(given[0]).transpose(node.attribute("perm")))


def _arithmetic(function: Callable[..., Any]) -> Callable[[Node, list[Weight | Array]], Weight | Array]:
    def evaluate(node: Node, given: list[Weight | Array]) -> Weight | Array:
        require(node.version >= 7 or len(given) == 1, "old-opset", f"{node.op} broadcast differently before opset 7")
        size = math.prod(np.broadcast_shapes(*(g.shape for g in given)))
        require(size <= VALUES_LIMIT, "too-large", f"{node.label!r} makes a constant too large to evaluate")
        arrays = [array_of(g) for g in given]
        with np.errstate(all="ignore"):
            result = np.asarray(function(*arrays))
        require(result.dtype == arrays[0].dtype, "not-float", f"{node.label!r} is not computed in one type")
        return result

    return evaluate


def _divide(a: Array, b: Array) -> Array:
    if a.dtype in FLOAT_TYPES:
        return np.asarray(a / b)
    require(np.all(a >= 0) and np.all(b > 0), "parameters", "runtimes differ in how they divide negative integers")
    return np.asarray(a // b)


def _dequantize(node: Node, given: list[Weight | Array]) -> Weight | Array:
    """``(integer - zero point) * scale`` as a recipe: the differences, with the scale as their factor."""
    integers, scale = array_of(given[0]), given[1]
    to = dtype_of(node.attribute("output_dtype") or 0) or scale.dtype
    grid = grid_of(node, integers.shape, _wide(scale), _wide(given[2]) if len(given) > 2 else None)
    if not grid.zero_point.any():  # then the integers are the differences, in a quarter of the memory
        return Weight(to, integers.shape, integers).scaled(*grid.factor())
    exact = np.float32 if integers.dtype.itemsize < EXACT_INTEGER else np.float64
    differences = np.asarray(integers.astype(exact) - grid.zeros.astype(exact))
    return Weight(to, integers.shape, differences).scaled(*grid.factor())


def _quantize(node: Node, given: list[Weight | Array]) -> Weight | Array:
    """The quantized integers of a constant; refused where the standard lets the runtime choose how to divide."""
    values, scale = array_of(given[0]), array_of(given[1])
    settled = values.dtype == scale.dtype and values.dtype in DIVIDED and not node.attribute("precision")
    require(settled, "quantized", f"how {node.label!r} divides {values.dtype} by {scale.dtype} is up to the runtime")
    declared = dtype_of(node.attribute("output_dtype") or onnx.TensorProto.UINT8)
    dtype = given[2].dtype if len(given) > 2 else declared
    require(dtype is not None and is_integer(dtype), "quantized", f"{node.label!r} rounds to {dtype}, no integer type")
    assert dtype is not None  # noqa: S101  narrowed for the type checker
    grid = grid_of(node, values.shape, _wide(scale), _wide(given[2]) if len(given) > 2 else None)
    return grid.quantized(values, dtype)


def _normalize(node: Node, given: list[Weight | Array]) -> Weight | Array:
    """The first output of BatchNormalization: of standardized weights, exporters leave one in training mode."""
    x, gamma, beta, mean, variance = (_wide(one) for one in given)
    fits = x.ndim > 1 and x.size > 0 and node.attribute("spatial") != 0
    require(fits, "parameters", f"{node.label!r} normalizes a constant of shape {list(x.shape)}")
    if in_training_mode(node):
        others = tuple(axis for axis in range(x.ndim) if axis != 1)
        mean, variance = x.mean(others), x.var(others)
    variance = variance + float(node.attribute("epsilon"))
    require(np.all(variance > 0), "non-finite", f"of {node.label!r}, var + epsilon is not positive")
    scale, shift, mean = (one.reshape(1, -1, *(1,) * (x.ndim - 2)) for one in (gamma / np.sqrt(variance), beta, mean))
    with np.errstate(all="ignore"):
        return np.asarray((scale * (x - mean) + shift).astype(given[0].dtype))


def _wide(found: Weight | Array) -> Array:
    """The values in float64, unrounded if a fold made them."""
    return found.values() if isinstance(found, Weight) else found.astype(np.float64)


# Operators that move no value, or that occur in many files: evaluated here, without reading weights in the file.
OWN: dict[str, Callable[[Node, list[Weight | Array]], Weight | Array]] = {
    "Identity": lambda _, given: given[0],
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Cast": _cast,
    CAST_LIKE: _cast_like,
    "ConstantOfShape": _constant_of_shape,
    DEQUANTIZE: _dequantize,
    QUANTIZE: _quantize,
    NORMALIZATION: _normalize,
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "Div": _arithmetic(_divide),
    "Neg": _arithmetic(np.negative),
    "Sqrt": _arithmetic(np.sqrt),
    "Reciprocal": _arithmetic(lambda a: _divide(np.ones((), a.dtype), a)),
}

# Deterministic operators that exporters leave between weights and their users.
REFERENCE = frozenset(
    "Abs Ceil Clip Exp Floor GatherElements GatherND Log Max Min Mod Pow Range ReduceL1 ReduceL2 ReduceMax "  # noqa: SIM905
    "ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Shape Sigmoid Sign Size Split Sum Tanh Tile".split()
)
OPERATORS = REFERENCE | OWN.keys() | SELECTING.keys()
# Deterministic operators that are evaluated ahead where a graph is cleaned, but are no part of a weight.
MORE = frozenset(
    "Acos Acosh ArgMax ArgMin Asin Asinh Atan Atanh Cos Cosh CumSum DepthToSpace Elu Erf EyeLike HardSigmoid IsInf "  # noqa: SIM905
    "IsNaN LeakyRelu MatMul OneHot Pad Relu Round ScatterElements ScatterND Sin Sinh Softplus SpaceToDepth Tan "
    "Trilu".split()
)
