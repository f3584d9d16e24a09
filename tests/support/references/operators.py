"""A float64 evaluation of a model, written from the operator specifications: the reference of the fold tests."""

from __future__ import annotations

import itertools
import math
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import defs, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = NDArray[Any]


def evaluate(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a model, every floating-point value in float64 and never rounded."""
    wide = {name: _wide(value) for name, value in feeds.items()}
    results = _run(model.graph, wide, Context(_opset(model), {_key(f): f for f in model.functions}))
    return {output.name: value for output, value in zip(model.graph.output, results, strict=True)}


class Context(NamedTuple):
    opset: int
    functions: dict[tuple[str, str, str], onnx.FunctionProto]


def _opset(body: onnx.ModelProto | onnx.FunctionProto) -> int:
    return next((o.version for o in body.opset_import if o.domain in {"", "ai.onnx"}), 1)


def _key(function: onnx.FunctionProto) -> tuple[str, str, str]:
    return function.domain, function.name, function.overload


def _run(graph: onnx.GraphProto, outer: Mapping[str, Any], context: Context) -> list[Any]:
    values = dict(outer)
    for tensor in graph.initializer:
        values.setdefault(tensor.name, _wide(numpy_helper.to_array(tensor)))
    for sparse in graph.sparse_initializer:
        values.setdefault(sparse.values.name, _dense(sparse))
    for node in graph.node:
        values.update(zip(node.output, _step(node, values, context), strict=False))
    return [values[output.name] for output in graph.output]


def _step(node: onnx.NodeProto, values: Mapping[str, Any], context: Context) -> list[Any]:
    """The outputs of one operator."""
    given = [values[name] if name else None for name in node.input]
    function = context.functions.get((node.domain, node.op_type, node.overload))
    if function is not None:
        return _call(function, node, given, context)
    attributes = _attributes(node, context.opset)
    if node.op_type == "If":
        return _run(attributes["then_branch" if given[0] else "else_branch"], values, context)
    if node.op_type == "Loop":
        return _loop(attributes["body"], given, values, context)
    if node.op_type == "Scan":
        return _scan(attributes, given, values, context)
    return several(OPERATORS[node.op_type](context.opset, attributes, *given))


def several(result: Any) -> list[Array]:
    """All outputs of an operator; a reference gives a tuple where there may be more than one."""
    return [np.asarray(value) for value in (result if isinstance(result, tuple) else (result,))]


def _call(function: onnx.FunctionProto, call: onnx.NodeProto, given: list[Any], context: Context) -> list[Any]:
    known = {a.name: a for a in (*function.attribute_proto, *call.attribute)}
    values = dict.fromkeys(function.input) | dict(zip(function.input, given, strict=False))
    inner = context._replace(opset=_opset(function))
    for node in function.node:
        values.update(zip(node.output, _step(_bound(node, known), values, inner), strict=False))
    return [values[name] for name in function.output]


def _bound(node: onnx.NodeProto, known: Mapping[str, onnx.AttributeProto]) -> onnx.NodeProto:
    """The operator with the attributes of the function in place of references; those nobody gives are not there."""
    bound = onnx.NodeProto()
    bound.CopyFrom(node)
    del bound.attribute[:]
    for attribute in node.attribute:
        source = known.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
        if source is not None:
            copy = bound.attribute.add()
            copy.CopyFrom(source)
            copy.name = attribute.name
            inner = [_bound(n, known) for n in copy.g.node]
            del copy.g.node[:]
            copy.g.node.extend(inner)
    return bound


def _loop(body: onnx.GraphProto, given: list[Any], outer: Mapping[str, Any], context: Context) -> list[Any]:
    trips, condition, *state = given
    scans: list[list[Array]] = [[] for _ in body.output[1 + len(state) :]]
    number = 0
    while (trips is None or number < trips) and (condition is None or condition):
        names = [value.name for value in body.input]
        inner = {**outer, **dict(zip(names, [np.array(number), np.array(True), *state], strict=True))}
        condition, *results = _run(body, inner, context)
        state = results[: len(state)]
        for scan, result in zip(scans, results[len(state) :], strict=True):
            scan.append(result)
        number += 1
    return [*state, *(np.stack(scan) for scan in scans)]


def _scan(a: dict[str, Any], given: list[Any], outer: Mapping[str, Any], context: Context) -> list[Any]:
    """Scan over the first axis, forward (operator set 9 on)."""
    body, count = a["body"], a["num_scan_inputs"]
    state, sequences = given[: len(given) - count], given[len(given) - count :]
    scans: list[list[Array]] = [[] for _ in body.output[len(state) :]]
    for elements in zip(*sequences, strict=True):
        names = [value.name for value in body.input]
        results = _run(body, {**outer, **dict(zip(names, [*state, *elements], strict=True))}, context)
        state = results[: len(state)]
        for scan, result in zip(scans, results[len(state) :], strict=True):
            scan.append(result)
    return [*state, *(np.stack(scan) for scan in scans)]


def _dense(sparse: onnx.SparseTensorProto) -> Array:
    values, places = _wide(numpy_helper.to_array(sparse.values)), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    for value, place in zip(values, places, strict=True):
        dense[np.unravel_index(place, dense.shape) if places.ndim == 1 else tuple(place)] = value
    return dense


def _wide(value: Array) -> Array:
    return value.astype(np.float64) if value.dtype.kind in "fV" or value.dtype.name == "bfloat16" else value


def _attributes(node: onnx.NodeProto, opset: int) -> dict[str, Any]:
    schema = defs.get_schema(node.op_type, opset, "")
    found = {
        name: helper.get_attribute_value(a.default_value)
        for name, a in schema.attributes.items()
        if a.default_value.type
    }
    found["outputs"] = len(node.output)  # no attribute: an equal Split knows its parts by them alone
    return found | {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _pads(a: dict[str, Any], size: tuple[int, ...], kernel: tuple[int, ...], strides: list[int], dilations: list[int]):
    spatial = len(kernel)
    auto = a.get("auto_pad", b"NOTSET")
    if auto in (b"NOTSET", b""):
        pads = a.get("pads") or [0] * (2 * spatial)
        return list(zip(pads[:spatial], pads[spatial:], strict=True))
    if auto == b"VALID":
        return [(0, 0)] * spatial
    result = []
    for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        total = max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
        small, large = total // 2, total - total // 2
        result.append((small, large) if auto == b"SAME_UPPER" else (large, small))
    return result


def _conv(_: int, a: dict[str, Any], x: Array, w: Array, b: Array | None = None) -> Array:
    kernel, group = w.shape[2:], a["group"]
    strides, dilations = a.get("strides") or [1] * len(kernel), a.get("dilations") or [1] * len(kernel)
    x = np.pad(x, [(0, 0), (0, 0), *_pads(a, x.shape[2:], kernel, strides, dilations)])
    size = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True)]
    y = np.zeros((x.shape[0], group, w.shape[0] // group, *size))
    xs, ws = x.reshape(x.shape[0], group, -1, *x.shape[2:]), w.reshape(group, -1, *w.shape[1:])
    for tap in itertools.product(*map(range, kernel)):
        cut = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilations, size, strides, strict=True)
        )
        y += np.einsum("ngc...,gmc->ngm...", xs[(..., *cut)], ws[(slice(None),) * 3 + tap])
    y = y.reshape(x.shape[0], -1, *size)
    return y if b is None else y + b.reshape(-1, *(1,) * len(size))


def _conv_transpose(_: int, a: dict[str, Any], x: Array, w: Array, b: Array | None = None) -> Array:
    kernel, group = w.shape[2:], a["group"]
    spatial = len(kernel)
    strides, dilations = a.get("strides") or [1] * spatial, a.get("dilations") or [1] * spatial
    pads, extra = a.get("pads") or [0] * (2 * spatial), a.get("output_padding") or [0] * spatial
    full = [
        (n - 1) * s + (k - 1) * d + 1 + e
        for n, s, k, d, e in zip(x.shape[2:], strides, kernel, dilations, extra, strict=True)
    ]
    y = np.zeros((x.shape[0], group, w.shape[1], *full))
    xs, ws = x.reshape(x.shape[0], group, -1, *x.shape[2:]), w.reshape(group, -1, *w.shape[1:])
    for tap in itertools.product(*map(range, kernel)):
        cut = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilations, x.shape[2:], strides, strict=True)
        )
        y[(..., *cut)] += np.einsum("ngc...,gcm->ngm...", xs, ws[(slice(None),) * 3 + tap])
    cropped = tuple(slice(pads[i], full[i] - pads[spatial + i]) for i in range(spatial))
    y = y.reshape(x.shape[0], -1, *full)[(..., *cropped)]
    return y if b is None else y + b.reshape(-1, *(1,) * spatial)


def _gemm(_: int, a: dict[str, Any], x: Array, w: Array, c: Array | None = None) -> Array:
    x, w = x.T if a["transA"] else x, w.T if a["transB"] else w
    y = a["alpha"] * (x @ w)
    return y if c is None or not a["beta"] else y + a["beta"] * c


def _normalize(_: int, a: dict[str, Any], x: Array, *parameters: Array) -> Array:
    shape = (1, -1) + (1,) * (x.ndim - 2)
    per_value = a.get("spatial", 1) == 0 and parameters[0].ndim > 1
    if a.get("training_mode"):
        others = tuple(axis for axis in range(x.ndim) if axis != 1)
        parameters = (*parameters[:2], x.mean(others), x.var(others))
    scale, bias, mean, var = (p[None] if per_value else p.reshape(shape) for p in parameters)
    return scale * (x - mean) / np.sqrt(var + a["epsilon"]) + bias


def _reshape(opset: int, a: dict[str, Any], x: Array, shape: Array | None = None) -> Array:
    wanted = a["shape"] if shape is None else shape.tolist()
    keep = a.get("allowzero", 0)
    return x.reshape([x.shape[i] if n == 0 and not keep else int(n) for i, n in enumerate(wanted)])


def _axes(a: dict[str, Any], axes: Array | None) -> tuple[int, ...] | None:
    found = a.get("axes") if axes is None else axes.reshape(-1)
    return None if found is None else tuple(int(axis) for axis in found)


def _flatten(_: int, a: dict[str, Any], x: Array) -> Array:
    axis = a["axis"] % x.ndim if a["axis"] < 0 else a["axis"]
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _legacy(function: Any) -> Any:
    """Elementwise with the attributes `broadcast` and `axis` of the operator sets before 7."""

    def apply(opset: int, a: dict[str, Any], x: Array, y: Array) -> Array:
        if opset < 7 and a.get("broadcast") and a.get("axis") is not None:
            y = y.reshape(y.shape + (1,) * (x.ndim - a["axis"] - y.ndim))
        return np.asarray(function(x, y))

    return apply


def _constant(_: int, a: dict[str, Any]) -> Array:
    value = next(v for k, v in a.items() if k.startswith(("value", "sparse")))
    if isinstance(value, onnx.SparseTensorProto):
        return _dense(value)
    return _wide(numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value))


OPERATORS: dict[str, Any] = {
    "Asinh": lambda _, a, x: np.arcsinh(x),
    "Elu": lambda _, a, x: np.where(x > 0, x, a["alpha"] * np.expm1(np.minimum(x, 0))),
    "Add": _legacy(np.add),
    "Sub": _legacy(np.subtract),
    "Mul": _legacy(np.multiply),
    "Div": _legacy(np.divide),
    "Neg": lambda _, a, x: -x,
    "Sum": lambda _, a, *xs: sum(xs),
    "Relu": lambda _, a, x: np.maximum(x, 0),
    "Sigmoid": lambda _, a, x: 0.5 * (1 + np.tanh(x / 2)),
    "Sqrt": lambda _, a, x: np.sqrt(x),
    "Identity": lambda _, a, x: x,
    "Dropout": lambda _, a, x, *rest: x,
    "Cast": lambda _, a, x: x,
    "CastLike": lambda _, a, x, like: x,
    "Shape": lambda _, a, x: np.array(x.shape, np.int64),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": lambda _, a, x, y: x @ y,
    "BatchNormalization": _normalize,
    "Transpose": lambda _, a, x: x.transpose(a.get("perm")),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": lambda _, a, x, axes=None: np.squeeze(x, _axes(a, axes)),
    "Unsqueeze": lambda _, a, x, axes=None: np.expand_dims(x, _axes(a, axes)),
    "Concat": lambda _, a, *xs: np.concatenate(xs, a.get("axis", 1)),
    "GlobalAveragePool": lambda _, a, x: x.mean(axis=tuple(range(2, x.ndim)), keepdims=True),
    "Constant": _constant,
    "ConstantOfShape": lambda _, a, shape: np.full(
        shape.tolist(), _wide(numpy_helper.to_array(a["value"])).item() if "value" in a else 0.0
    ),
}
for _family in sorted(Path(__file__).parent.glob("[!_]*.py")):
    if _family.stem == "operators":
        continue
    _references = import_module(f"{__package__}.{_family.stem}").OPERATORS
    assert not OPERATORS.keys() & _references.keys(), _family
    OPERATORS |= _references
