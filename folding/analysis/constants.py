"""Values that are known without running the model: initializers, Constant nodes, and what is computed from them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from folding.algebra.quantization import DEQUANTIZE, QUANTIZE
from folding.analysis.evaluation import OPERATORS, array_of, evaluate
from folding.graph.dtypes import FLOAT_TYPES, dtype_of
from folding.graph.node import CAST_LIKE, LIKE, SHAPE_READERS
from folding.graph.sites import NORMALIZATION
from folding.graph.weights import VALUES_LIMIT, Weight
from folding.onnxfile import Span
from folding.refusal import Refused, require

if TYPE_CHECKING:
    from folding.algebra.shape import Shape
    from folding.analysis.evaluation import Array
    from folding.graph.index import Scope
    from folding.graph.node import Node

QUANTIZATION = frozenset({QUANTIZE, DEQUANTIZE})
LAYOUT = frozenset({"Cast", CAST_LIKE, "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})  # for constants
DEPTH = 64  # constant operators in a row; exporters write at most a few
RAW_FIELD = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
EXTERNAL_FIELD = onnx.TensorProto.DESCRIPTOR.fields_by_name["external_data"].number
# Typed fields whose packed bytes are the little-endian values themselves.
PLAIN_FIELDS = {
    onnx.TensorProto.DESCRIPTOR.fields_by_name["float_data"].number: np.dtype(np.float32),
    onnx.TensorProto.DESCRIPTOR.fields_by_name["double_data"].number: np.dtype(np.float64),
}
# Types whose raw_data NumPy reads as it is.
RAW_TYPES: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.DOUBLE: np.dtype(np.float64),
    onnx.TensorProto.FLOAT16: np.dtype(np.float16),
    onnx.TensorProto.INT64: np.dtype(np.int64),
}
# The attributes of a Constant node that are not tensors (operator Constant, opset 13), and their types.
LISTS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
FORMS = {"value", "sparse_value", *LISTS}


def is_constant(scope: Scope, name: str) -> bool:
    """Whether the name has a known value that no caller may override."""
    return name in scope.settled or _why_not(scope, name, DEPTH) is None


def shape_of(scope: Scope, name: str) -> tuple[int, ...] | None:
    """The shape of a constant that is an initializer or made by a fold; its values are not read."""
    owner = scope.owner(name)
    if owner is None:
        return None
    if name in owner.weights:
        return owner.weights[name].shape
    if owner.is_overridable(name):  # the shape is the one that the input declares, not the default value's
        return _settled(owner.shapes.get(name, (None,)))
    if name in owner.initializers or name in owner.sparse:
        return tuple((owner.initializers if name in owner.initializers else owner.sparse)[name].dims)
    try:
        return weight(scope, name).shape if name in owner.producers and is_constant(scope, name) else None
    except Refused:
        return None


def _settled(shape: Shape) -> tuple[int, ...] | None:
    """A shape all of whose lengths are known; None for any other."""
    known = tuple(n for n in shape if isinstance(n, int))
    return known if len(known) == len(shape) else None


def weight(scope: Scope, name: str) -> Weight:
    """A floating-point constant as a recipe; the bytes of one that lies in the file are not read.

    Raises:
        Refused: "weight-not-constant", "overridable", "not-float", "too-large".
    """
    found = recipe(scope, name)
    if found.dtype not in FLOAT_TYPES:  # a dtype's name takes longer than all else here
        raise Refused("not-float", f"{name!r} has the type {found.dtype}")
    return found


def recipe(scope: Scope, name: str) -> Weight:
    """A constant of any type but strings as a recipe; raises as `weight` does."""
    if name not in scope.settled and (refusal := _why_not(scope, name, DEPTH)) is not None:
        raise refusal
    found = _evaluate(scope, name)
    require(not found.dtype.hasobject, "not-float", f"{name!r} holds strings")
    return as_weight(found)


def as_weight(found: Weight | Array) -> Weight:
    """An evaluated constant as a recipe."""
    return found if isinstance(found, Weight) else Weight(found.dtype, found.shape, found)


def origin(scope: Scope, name: str) -> Node | None:
    """The operator that quantizes or dequantizes a constant, before any change of layout: its scale may change.

    None for every other constant, which may simply be replaced.
    """
    if name in scope.settled:
        return None
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
    """A constant's values in its stored type; raises as `weight` does."""
    if name not in scope.settled and (refusal := _why_not(scope, name, DEPTH)) is not None:
        raise refusal
    return array_of(_evaluate(scope, name))


def _why_not(scope: Scope, name: str, depth: int) -> Refused | None:
    """The reason why the name is no constant, None if it is one."""
    owner = scope.owner(name)
    if owner is None or depth == 0:
        return Refused("weight-not-constant", f"{name!r} is not a constant")
    if name in owner.shadowing:
        return Refused("weight-not-constant", f"{name!r} means two values in nested graphs")
    if owner.is_overridable(name):
        if (name in owner.initializers or name in owner.sparse) and owner.parent is None:
            return Refused("overridable", f"{name!r} is an initializer and a graph input, so a caller may override it")
        return Refused("weight-not-constant", f"{name!r} is an input of its graph")
    if name in owner.weights or name in owner.initializers or name in owner.sparse:
        return None
    if name not in owner.constness:
        owner.constness[name] = _why_not_made(owner, name, depth)
    return owner.constness[name]


def _why_not_made(scope: Scope, name: str, depth: int) -> Refused | None:
    """The reason why the output of an operator is no constant, None if it is one."""
    node = scope.producers.get(name)
    if node is None or not (node.op == "Constant" or (node.op in OPERATORS and any(node.inputs))):
        return Refused("weight-not-constant", f"{name!r} is computed at run time")
    if node.op == "Constant":
        known = _form(node) is not None
        return None if known else Refused("weight-not-constant", f"{node.label!r} is a constant of another form")
    if node.op in SHAPE_READERS and _known_sizes(node) is not None:
        return None
    if node.op == NORMALIZATION and name != node.output:
        return Refused("weight-not-constant", f"{name!r} are statistics of a training")
    sources = node.inputs[:LIKE] if node.op == CAST_LIKE and node.has(LIKE) and node.dtype(LIKE) else node.inputs
    reasons = (_why_not(scope, source, depth - 1) for source in sources if source)
    return next((reason for reason in reasons if reason is not None), None)


def _form(node: Node) -> onnx.AttributeProto | None:
    """The attribute of a Constant node; None if its value is no number, or differs between calls of a function."""
    proto = node.proto.attribute[0] if len(node.proto.attribute) == 1 else None
    return proto if proto is not None and proto.name in FORMS and not proto.ref_attr_name else None


def _known_sizes(node: Node) -> tuple[int, ...] | None:
    """The sizes of the input of a Shape or Size, None if one is unknown."""
    name = node.inputs[0] if node.has(0) else ""
    owner = node.scope.owner(name)
    return _settled(() if owner is None else owner.shapes.get(name, (None,)))


def _evaluate(scope: Scope, name: str) -> Weight | Array:
    owner = scope if name in scope.settled else scope.owner(name)
    assert owner is not None, "asked only for constants"  # noqa: S101  _why_not answered before
    if name in owner.weights:
        return owner.weights[name]
    if name not in owner.evaluated:
        if name in owner.initializers:
            owner.graph.hold(owner, name, of_tensor(owner, owner.initializers[name]))
        elif name in owner.sparse:
            owner.graph.hold(owner, name, _of_sparse(owner, owner.sparse[name]))
        else:
            node = owner.producers[name]
            for output, found in zip(node.outputs, _of_node(node), strict=False):
                owner.graph.hold(owner, output, found)
    return owner.evaluated[name]


def is_stored(scope: Scope, name: str) -> bool:
    """Whether the name is a constant that no operator computes: an initializer, or a Constant."""
    owner = scope.owner(name) if is_constant(scope, name) else None
    maker = None if owner is None else owner.producers.get(name)
    return owner is not None and name not in owner.sparse and (maker is None or maker.op == "Constant")


def computed(node: Node) -> list[Weight | Array]:
    """The outputs of an operator of which all inputs are constants, or of a Shape or Size; raises as `weight` does."""
    return _of_node(node)


def _of_node(node: Node) -> list[Weight | Array]:
    """The outputs of an operator whose inputs are constants."""
    if node.op == "Constant":
        return [_of_constant_node(node)]
    _ = node.schema  # raises for a malformed operator
    sizes = _known_sizes(node) if node.op in SHAPE_READERS else None
    if sizes is not None:
        return [_of_sizes(node, sizes)]
    if node.op == CAST_LIKE:
        return evaluate(node, [_evaluate(node.scope, node.inputs[0])])
    return evaluate(node, [_evaluate(node.scope, source) if source else None for source in node.inputs])


def _of_sizes(node: Node, sizes: tuple[int, ...]) -> Array:
    """The result of Size, or of Shape, which has a start and an end from opset 15 on."""
    if node.op == "Size":
        return np.array(math.prod(sizes), np.int64)
    return np.array(sizes[slice(node.attribute("start"), node.attribute("end"))], np.int64)


def of_tensor(scope: Scope, tensor: onnx.TensorProto) -> Weight | Array:
    """A tensor of the model: a recipe if it is floating-point, else an array."""
    payload = scope.graph.file.marked_payload(data := tensor.raw_data)
    if payload is None:
        return _inline(tensor, data)
    require(dtype_of(tensor.data_type) is not None, "not-float", f"{tensor.name!r} has the type {tensor.data_type}")
    if isinstance(payload, Weight):  # of an index before this one
        return payload if payload.dtype in FLOAT_TYPES else array_of(payload)
    dtype, shape = helper.tensor_dtype_to_np_dtype(tensor.data_type), tuple(tensor.dims)
    if not isinstance(payload, Span):  # computed while it is written, as a double that becomes a float
        require(math.prod(shape) <= VALUES_LIMIT, "too-large", f"{tensor.name!r} is too large to be evaluated")
        data = b"".join([payload.evaluate(start, stop) for start, stop in payload.blocks()])
        return Weight(dtype, shape, np.frombuffer(data, dtype).reshape(shape))
    plain = payload.field in {RAW_FIELD, EXTERNAL_FIELD} or PLAIN_FIELDS.get(payload.field) == dtype
    if plain and dtype in FLOAT_TYPES:
        return Weight(dtype, shape, payload)
    require(math.prod(shape) <= VALUES_LIMIT, "too-large", f"{tensor.name!r} is too large to be evaluated")
    whole = onnx.TensorProto(dims=shape, data_type=tensor.data_type)
    if plain:
        whole.raw_data = payload.read()
    else:
        whole.MergeFromString(payload.as_field())
    return numpy_helper.to_array(whole)


def _inline(tensor: onnx.TensorProto, data: bytes) -> Weight | Array:
    """A tensor whose values are in the message; `data` is its raw_data."""
    dtype = RAW_TYPES.get(tensor.data_type) if data else None
    if dtype is not None:  # what `to_array` does in ten times the time
        values: Array = np.frombuffer(data, dtype).reshape(tensor.dims[:])
    else:
        require(dtype_of(tensor.data_type) is not None, "not-float", f"{tensor.name!r} has the type {tensor.data_type}")
        values = numpy_helper.to_array(tensor)
    return Weight(values.dtype, values.shape, values) if values.dtype in FLOAT_TYPES else values


def _of_sparse(scope: Scope, sparse: onnx.SparseTensorProto) -> Array:
    """A sparse tensor as a dense array; its indices are flat, or one row of coordinates per value."""
    shape, label = tuple(sparse.dims), sparse.values.name or "a sparse constant"
    require(math.prod(shape) <= VALUES_LIMIT, "too-large", f"{label!r} is too large to be evaluated")
    values, places = (array_of(of_tensor(scope, part)) for part in (sparse.values, sparse.indices))
    flat = places.ndim == 1
    fits = places.shape == (values.size,) if flat else places.shape == (values.size, len(shape))
    limit = math.prod(shape) if flat else np.array(shape)
    require(fits and np.all((places >= 0) & (places < limit)), "parameters", f"the indices of {label!r} do not fit it")
    dense = np.zeros(shape, values.dtype)
    dense.reshape(-1)[places if flat else np.ravel_multi_index(tuple(places.T), shape)] = values.reshape(-1)
    return dense


def _of_constant_node(node: Node) -> Weight | Array:
    """A Constant node of one of the `FORMS`."""
    proto = _form(node)
    assert proto is not None, "asked only for constants"  # noqa: S101  _why_not answered before
    if proto.name == "value":
        return of_tensor(node.scope, proto.t)
    if proto.name == "sparse_value":
        return _of_sparse(node.scope, proto.sparse_tensor)
    payload, dtype = node.scope.graph.file.payload(proto), np.dtype(LISTS[proto.name])
    if not isinstance(payload, Span):
        return np.array(helper.get_attribute_value(proto), dtype)
    if dtype in FLOAT_TYPES:
        return Weight(dtype, (payload.length // dtype.itemsize,), payload)
    whole = onnx.AttributeProto()
    whole.MergeFromString(payload.as_field())
    return np.array(whole.ints, dtype)
