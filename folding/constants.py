"""The value of a name that is known without running the model: initializers, Constant nodes, small arithmetic."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from folding.onnxfile import Span
from folding.onnxfile.wire import header
from folding.plan import Refused, require
from folding.quantization import DEQUANTIZE, QUANTIZE, Grid, is_integer
from folding.weights import FLOAT_TYPES, VALUES_LIMIT, Weight

if TYPE_CHECKING:
    from collections.abc import Callable

    from folding.graph import Node, Scope

QUANTIZATION = frozenset({QUANTIZE, DEQUANTIZE})
LAYOUT = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})  # as far as constants go
DEPTH = 64  # constant operators in a row; exporters write at most a handful
RAW_FIELD = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
EXTERNAL_FIELD = onnx.TensorProto.DESCRIPTOR.fields_by_name["external_data"].number
# Typed fields whose packed bytes are the little-endian values themselves.
PLAIN_FIELDS = {
    onnx.TensorProto.DESCRIPTOR.fields_by_name["float_data"].number: np.dtype(np.float32),
    onnx.TensorProto.DESCRIPTOR.fields_by_name["double_data"].number: np.dtype(np.float64),
}
EXACT_INTEGER = 4  # bytes of the integers that float32 does not hold exactly
DIVIDED = frozenset({np.dtype(np.float32), np.dtype(np.float64)})  # runtimes divide narrower types in wider ones

Array = NDArray[Any]


def dtype_of(code: int) -> np.dtype[Any] | None:
    """The NumPy type of one of ONNX's element types, None if there is none."""
    try:
        return helper.tensor_dtype_to_np_dtype(code) if code else None
    except KeyError:
        return None


def is_constant(scope: Scope, name: str) -> bool:
    """Whether the name has a value known now that no caller may override."""
    return _why_not(scope, name, DEPTH) is None


def shape_of(scope: Scope, name: str) -> tuple[int, ...] | None:
    """The shape of a constant that is an initializer or made by a fold, without looking at its values."""
    owner = scope.owner(name)
    if owner is None:
        return None
    if name in owner.weights:
        return owner.weights[name].shape
    if name in owner.initializers:
        return tuple(owner.initializers[name].dims)
    try:
        return weight(scope, name).shape if name in owner.producers and is_constant(scope, name) else None
    except Refused:
        return None


def weight(scope: Scope, name: str) -> Weight:
    """A floating-point constant as a recipe; its bytes are not read where it lies in the file.

    Raises:
        Refused: "weight-not-constant", "overridable", "not-float", "too-large".
    """
    found = recipe(scope, name)
    require(found.dtype in FLOAT_TYPES, "not-float", f"{name!r} has the type {found.dtype}")
    return found


def recipe(scope: Scope, name: str) -> Weight:
    """A constant of any type as a recipe; raises as `weight` does."""
    refusal = _why_not(scope, name, DEPTH)
    if refusal is not None:
        raise refusal
    found = _evaluate(scope, name)
    return found if isinstance(found, Weight) else Weight(found.dtype, found.shape, found)


def origin(scope: Scope, name: str) -> Node | None:
    """The operator that quantizes or dequantizes a constant, perhaps laid out anew since: its scale is what may change.

    None for every other constant, which may simply be written anew.
    """
    for _ in range(DEPTH):
        owner = scope.owner(name)
        node = owner.producers.get(name) if owner is not None else None
        if node is None or node.op in QUANTIZATION:
            return node
        if node.op not in LAYOUT:
            break
        scope, name = node.scope, node.inputs[0]
    return None


def array(scope: Scope, name: str) -> Array:
    """A constant's values in its own type; raises as `weight` does."""
    refusal = _why_not(scope, name, DEPTH)
    if refusal is not None:
        raise refusal
    return _array(_evaluate(scope, name))


def _array(found: Weight | Array) -> Array:
    if not isinstance(found, Weight):
        return found
    if isinstance(found.base, np.ndarray) and not found.factors:
        return found.base.astype(found.dtype)
    return found.values().astype(found.dtype)


def _why_not(scope: Scope, name: str, depth: int) -> Refused | None:
    """Why the name is no constant, None if it is one."""
    owner = scope.owner(name)
    if owner is None or name in owner.sparse or depth == 0:
        return Refused("weight-not-constant", f"{name!r} is not a dense constant")
    if name in owner.shadowing:
        return Refused("weight-not-constant", f"{name!r} means two values in nested graphs")
    if owner.is_overridable(name):
        if name in owner.initializers and owner.parent is None:
            return Refused("overridable", f"{name!r} is an initializer and a graph input, so a caller may override it")
        return Refused("weight-not-constant", f"{name!r} is an input of its graph")
    if name in owner.weights or name in owner.initializers:
        return None
    if name not in owner.constness:
        owner.constness[name] = _why_not_made(owner, name, depth)
    return owner.constness[name]


def _why_not_made(scope: Scope, name: str, depth: int) -> Refused | None:
    """Why what an operator makes is no constant."""
    node = scope.producers.get(name)
    made = node is not None and (node.op == "Constant" or (node.op in EVALUATE and any(node.inputs)))
    if node is None or not made:
        return Refused("weight-not-constant", f"{name!r} is computed at run time")
    reasons = (_why_not(scope, source, depth - 1) for source in node.inputs if source)
    return next((reason for reason in reasons if reason is not None), None)


def _evaluate(scope: Scope, name: str) -> Weight | Array:
    owner = scope.owner(name)
    assert owner is not None, "asked only for constants"  # noqa: S101  _why_not answered before
    if name in owner.weights:
        return owner.weights[name]
    if name not in owner.evaluated:
        owner.evaluated[name] = _first_evaluation(owner, name)
    return owner.evaluated[name]


def _first_evaluation(scope: Scope, name: str) -> Weight | Array:
    if name in scope.initializers:
        return of_tensor(scope, scope.initializers[name])
    node = scope.producers[name]
    if node.op == "Constant":
        return _of_constant_node(node)
    _ = node.schema  # refuses a malformed operator
    try:
        return EVALUATE[node.op](node, [_evaluate(scope, source) for source in node.inputs if source])
    except (ValueError, IndexError, OverflowError) as error:  # NumPy's words for shapes that do not fit
        raise Refused("parameters", f"the constant {name!r} cannot be computed: {error}", node.label) from None


def of_tensor(scope: Scope, tensor: onnx.TensorProto) -> Weight | Array:
    """A tensor of the model: floating-point ones in the file as a span, everything else as an array."""
    payload = scope.graph.file.payload(tensor)
    require(dtype_of(tensor.data_type) is not None, "not-float", f"{tensor.name!r} has the type {tensor.data_type}")
    if payload is None:
        return numpy_helper.to_array(tensor)
    assert isinstance(payload, Span), "folds attach their payloads at the very end"  # noqa: S101
    dtype, shape = helper.tensor_dtype_to_np_dtype(tensor.data_type), tuple(tensor.dims)
    plain = payload.field in {RAW_FIELD, EXTERNAL_FIELD} or PLAIN_FIELDS.get(payload.field) == dtype
    if plain and dtype in FLOAT_TYPES:
        return Weight(dtype, shape, payload)
    require(math.prod(shape) <= VALUES_LIMIT, "too-large", f"{tensor.name!r} is too large to be evaluated")
    whole = onnx.TensorProto(dims=shape, data_type=tensor.data_type)
    if plain:
        whole.raw_data = payload.read()
    else:
        whole.MergeFromString(header(payload.field, payload.length) + payload.read())
    return numpy_helper.to_array(whole)


def _of_constant_node(node: Node) -> Weight | Array:
    """A Constant node of any attribute form (operator Constant, opset 13)."""
    proto = node.proto.attribute[0] if len(node.proto.attribute) == 1 else None
    require(proto is not None, "weight-not-constant", f"{node.label!r} has not exactly one attribute")
    assert proto is not None  # noqa: S101  narrowed for the type checker
    if proto.name == "value" and not proto.ref_attr_name:
        return of_tensor(node.scope, proto.t)
    payload = node.scope.graph.file.payload(proto)
    forms = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    require(
        proto.name in forms and payload is None and not proto.ref_attr_name,
        "weight-not-constant",
        f"{node.label!r} is a constant of the form {proto.name!r}",
    )
    return np.array(helper.get_attribute_value(proto), forms[proto.name])


# --- operators evaluated on constants --------------------------------------------------------------------


def _reshaped(found: Weight | Array, shape: tuple[int, ...]) -> Weight | Array:
    if isinstance(found, Weight):
        base = found.base.reshape(shape) if isinstance(found.base, np.ndarray) else found.base
        return replace(found, shape=shape, base=base)
    return found.reshape(shape)


def _reshape(node: Node, given: list[Weight | Array]) -> Weight | Array:
    target = node.attribute("shape") if node.version < 5 else _array(given[1]).tolist()
    keep_zero = node.version >= 14 and node.attribute("allowzero")
    source = given[0].shape
    sizes = [source[i] if size == 0 and not keep_zero else int(size) for i, size in enumerate(target)]
    rest = math.prod(size for size in sizes if size >= 0)
    shape = tuple(math.prod(source) // max(1, rest) if size < 0 else size for size in sizes)
    require(math.prod(shape) == math.prod(source), "parameters", f"{node.label!r} reshapes {source} to {shape}")
    return _reshaped(given[0], shape)


def _axes(node: Node, given: list[Weight | Array]) -> list[int] | None:
    if len(given) > 1:
        return [int(axis) for axis in _array(given[1]).reshape(-1)]
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


def _constant_of_shape(node: Node, given: list[Weight | Array]) -> Weight | Array:
    shape = tuple(int(n) for n in _array(given[0]).reshape(-1))
    require(math.prod(shape) <= VALUES_LIMIT, "too-large", f"{node.label!r} makes a constant too large to evaluate")
    value = node.attribute("value")
    fill = np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)
    return np.broadcast_to(fill.reshape(()), shape)


def _cast(node: Node, given: list[Weight | Array]) -> Weight | Array:
    target = node.attribute("to")
    code = onnx.TensorProto.DataType.Value(target.decode()) if isinstance(target, bytes) else target  # Cast-1: a name
    dtype = dtype_of(code)
    require(dtype in FLOAT_TYPES or (dtype and dtype.kind in "iu"), "not-float", f"{node.label!r} casts to {dtype}")
    with np.errstate(all="ignore"):
        return _array(given[0]).astype(dtype)


def _transpose(node: Node, given: list[Weight | Array]) -> Weight | Array:
    return np.ascontiguousarray(_array(given[0]).transpose(node.attribute("perm")))


def _arithmetic(function: Callable[..., Any]) -> Callable[[Node, list[Weight | Array]], Weight | Array]:
    def evaluate(node: Node, given: list[Weight | Array]) -> Weight | Array:
        require(node.version >= 7 or len(given) == 1, "old-opset", f"{node.op} broadcast differently before opset 7")
        size = math.prod(np.broadcast_shapes(*(g.shape for g in given)))
        require(size <= VALUES_LIMIT, "too-large", f"{node.label!r} makes a constant too large to evaluate")
        arrays = [_array(g) for g in given]
        with np.errstate(all="ignore"):
            result = np.asarray(function(*arrays))
        require(result.dtype == arrays[0].dtype, "not-float", f"{node.label!r} is not computed in one type")
        return result

    return evaluate


def _divide(a: Array, b: Array) -> Array:
    require(a.dtype in FLOAT_TYPES, "not-float", "an integer division is not evaluated")
    return np.asarray(a / b)


def _dequantize(node: Node, given: list[Weight | Array]) -> Weight | Array:
    """``(integer - zero point) * scale`` as a recipe: the differences, and the scale as their factors."""
    integers, scale = _array(given[0]), given[1]
    to = dtype_of(node.attribute("output_dtype") or 0) or scale.dtype
    grid = Grid.of(node, integers.shape, _wide(scale), _wide(given[2]) if len(given) > 2 else None)
    exact = np.float32 if integers.dtype.itemsize < EXACT_INTEGER else np.float64
    differences = np.asarray(integers.astype(exact) - grid.zeros.astype(exact))
    return Weight(to, integers.shape, differences).scaled(*grid.factor())


def _quantize(node: Node, given: list[Weight | Array]) -> Weight | Array:
    """The integers of a constant, where the standard leaves no choice of how to divide."""
    values, scale = _array(given[0]), _array(given[1])
    settled = values.dtype == scale.dtype and values.dtype in DIVIDED and not node.attribute("precision")
    require(settled, "quantized", f"how {node.label!r} divides {values.dtype} by {scale.dtype} is up to the runtime")
    told = dtype_of(node.attribute("output_dtype") or onnx.TensorProto.UINT8)
    dtype = given[2].dtype if len(given) > 2 else told
    require(dtype is not None and is_integer(dtype), "quantized", f"{node.label!r} rounds to {dtype}, no integer type")
    assert dtype is not None  # noqa: S101  narrowed for the type checker
    grid = Grid.of(node, values.shape, _wide(scale), _wide(given[2]) if len(given) > 2 else None)
    return grid.quantized(values, dtype)


def _wide(found: Weight | Array) -> Array:
    """The values in float64, not rounded where a fold made them."""
    return found.values() if isinstance(found, Weight) else found.astype(np.float64)


EVALUATE: dict[str, Callable[[Node, list[Weight | Array]], Weight | Array]] = {
    "Identity": lambda _, given: given[0],
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Cast": _cast,
    "ConstantOfShape": _constant_of_shape,
    DEQUANTIZE: _dequantize,
    QUANTIZE: _quantize,
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "Div": _arithmetic(_divide),
    "Neg": _arithmetic(np.negative),
    "Sqrt": _arithmetic(np.sqrt),
    "Reciprocal": _arithmetic(lambda a: _divide(np.ones((), a.dtype), a)),
}
