"""Write what inference found into the model: the shapes of values and outputs; and give open axes of inputs names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from folding.analysis import shapes as inference
from folding.analysis.inlined import with_small_values
from folding.analysis.values import indexed
from folding.conversion.dimensions import (
    all_graphs,
    dimensions_in,
    dims_of,
    real_inputs,
    set_dimension,
    values_of,
    written,
)
from folding.report.changes import EXAMPLES, Change

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from folding.algebra.shape import Dimension, Shape
    from folding.graph.index import Graph, Scope
    from folding.onnxfile import OnnxFile

BATCH = "batch"


def record(graph: Graph, model: onnx.ModelProto) -> list[Change]:
    """Write shapes and types of a graph that was inferred into `model`, which it indexes: `value_info` and outputs.

    What is recorded already gets the lengths that it lacks, and those that are of another time; names stay. A length
    that inference does not know stays as it is.
    """
    names = {d.dim_param for g in all_graphs(model.graph) for v in values_of(g) for d in dimensions_in(v.type)}
    scopes = [scope for scope in graph.scopes if not scope.is_function and not scope.prefix]
    counts = [_record(scope, proto, names) for scope, proto in zip(scopes, all_graphs(model.graph), strict=True)]
    added, updated = (sum(numbers) for numbers in zip(*counts, strict=True))
    found = (("shape of a value recorded", added), ("recorded shape completed", updated))
    return [Change("converted", kind, count) for kind, count in found if count]


def _record(scope: Scope, proto: onnx.GraphProto, names: Collection[str]) -> tuple[int, int]:
    """Record the values of one graph; return how many are new, and how many were completed."""
    updated = 0
    declared = {value.name for value in (*proto.input, *proto.output)}
    for value in proto.output if scope.parent is None else ():
        updated += _complete(value, scope, names)
    for value in proto.value_info:
        updated += _complete(value, scope, names)
        declared.add(value.name)
    made = (name for node in proto.node for name in node.output if name)
    new = [value for name in made if name not in declared and (value := _value(name, scope, names)) is not None]
    proto.value_info.extend(new)
    return len(new), updated


def _value(name: str, scope: Scope, names: Collection[str]) -> onnx.ValueInfoProto | None:
    code, shape = scope.types.get(name), scope.shapes.get(name)
    if not code or shape is None:
        return None
    value = onnx.ValueInfoProto(name=name)
    value.type.tensor_type.elem_type = code
    _set_shape(value, _named(shape, names))
    return value


def _named(shape: Shape, names: Collection[str]) -> Shape:
    """The shape without names that inference made up; `names` are those of the model."""
    return tuple(None if isinstance(d, str) and d not in names else d for d in shape)


def _set_shape(value: onnx.ValueInfoProto, shape: Shape) -> None:
    value.type.tensor_type.shape.SetInParent()
    for dim in shape:
        set_dimension(value.type.tensor_type.shape.dim.add(), dim)


def _complete(value: onnx.ValueInfoProto, scope: Scope, names: Collection[str]) -> bool:
    """Complete what is recorded of a value; return whether anything was missing or of another time."""
    found = scope.shapes.get(value.name)
    kind = value.type.WhichOneof("value")
    if found is None or kind not in ("tensor_type", None):
        return False
    before = value.SerializeToString()
    known, shape = dims_of(value), _named(found, names)
    if not value.type.tensor_type.elem_type and (code := scope.types.get(value.name)):
        value.type.tensor_type.elem_type = code
    if known is None:
        _set_shape(value, shape)
    elif len(known) != len(shape):
        value.type.tensor_type.ClearField("shape")
        _set_shape(value, shape)
    else:
        for proto, old, new in zip(value.type.tensor_type.shape.dim, known, shape, strict=True):
            if (isinstance(new, int) and new != old) or (old is None and new is not None):
                set_dimension(proto, new)
    return bool(before != value.SerializeToString())


# --- names for open axes -------------------------------------------------------------------------------------


def name_axes(file: OnnxFile) -> list[Change]:
    """Give unnamed open axes of inputs names, and those of outputs that follow from them.

    The first axis is "batch" if it is open and without a name in all inputs of a rank from 1 on; any other axis is
    `{input}_{axis}`.
    """
    inputs = real_inputs(file.model)
    shapes = {name: dims for name, value in inputs.items() if (dims := dims_of(value))}
    if not any(None in dims for dims in shapes.values()):
        return []
    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    taken = {d.dim_param for g in all_graphs(model.graph) for v in values_of(g) for d in dimensions_in(v.type)}
    batch = _fresh(BATCH, taken) if all(dims[0] is None for dims in shapes.values()) else None
    for name, value in real_inputs(model).items():
        for axis, dim in enumerate(shapes.get(name, ())):
            if dim is None:
                chosen = batch if axis == 0 and batch is not None else _fresh(f"{name}_{axis}", taken)
                set_dimension(value.type.tensor_type.shape.dim[axis], chosen)
    _name_outputs(file, model)
    file.model = model
    named = [name for name, dims in shapes.items() if None in dims]
    examples = tuple(f"{name}: {written(dims_of(value) or ())}" for name, value in _chosen(model, named))
    return [Change("converted", "open axes of an input named", len(named), examples[:EXAMPLES])]


def _chosen(model: onnx.ModelProto, names: Iterable[str]) -> list[tuple[str, onnx.ValueInfoProto]]:
    inputs = real_inputs(model)
    return [(name, inputs[name]) for name in names]


def _fresh(wish: str, taken: set[str]) -> str:
    name, number = wish, 1
    while name in taken:
        number += 1
        name = f"{wish}_{number}"
    taken.add(name)
    return name


def _name_outputs(file: OnnxFile, model: onnx.ModelProto) -> None:
    """Give open axes of outputs the names that inference finds for them."""
    graph = indexed(file.variant(with_small_values(file, model)))
    inference.infer(graph)
    names = {d.dim_param for value in model.graph.input for d in dimensions_in(value.type)}
    for value in model.graph.output:
        found: Shape = _named(graph.main.shapes.get(value.name, ()), names)
        known: tuple[Dimension, ...] = dims_of(value) or ()
        for axis, dim in enumerate(known if len(known) == len(found) else ()):
            if dim is None and isinstance(found[axis], str):
                set_dimension(value.type.tensor_type.shape.dim[axis], found[axis])
