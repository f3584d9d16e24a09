"""Lengths that a file declares: which are open, which may be of another time, and which are mere names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    from collections.abc import Iterable

    from folding.algebra.shape import Dimension


def dimension_of(proto: onnx.TensorShapeProto.Dimension) -> Dimension:
    """A declared length: a number, a name, or None."""
    if proto.HasField("dim_value"):
        return proto.dim_value if proto.dim_value >= 0 else None  # old exporters write -1 for unknown
    return proto.dim_param if proto.dim_param not in {"", "?"} else None


def variable_axes(inputs: Iterable[onnx.ValueInfoProto]) -> set[int]:
    """The axes that are open in an input. A length that the file records there may be of another time."""
    shapes = [value.type.tensor_type.shape.dim for value in inputs]
    return {axis for shape in shapes for axis, d in enumerate(shape) if not isinstance(dimension_of(d), int)}


def undated(value: onnx.ValueInfoProto, variable: set[int]) -> onnx.ValueInfoProto:
    """What the file records of a value, without lengths of these axes and without names of lengths."""
    known = onnx.ValueInfoProto()
    known.CopyFrom(value)
    for axis, dimension in enumerate(known.type.tensor_type.shape.dim):
        if axis in variable or not dimension.HasField("dim_value"):
            dimension.Clear()
    return known


def name_lengths(copies: list[onnx.GraphProto]) -> None:
    """Give every open length of an input of the model its own name, so that lengths with one name are equal.

    `copies` are the graph and its nested graphs. What a file declares is no proof of that: no runtime checks whether
    two inputs that declare the same name have the same length there, nor what outputs and nested graphs declare.
    """
    main, *nested = copies
    _name_apart(main.input)
    for value in (*main.output, *(value for graph in nested for value in (*graph.input, *graph.output))):
        for dimension in value.type.tensor_type.shape.dim:
            if not dimension.HasField("dim_value"):
                dimension.Clear()


def _name_apart(inputs: Iterable[onnx.ValueInfoProto]) -> None:
    """Give the open lengths of inputs names of their own; the first length that a name is declared for keeps it."""
    places = [(value.name, axis, d) for value in inputs for axis, d in enumerate(value.type.tensor_type.shape.dim)]
    open_places = [(name, axis, d) for name, axis, d in places if not isinstance(dimension_of(d), int)]
    reserved, used = {d.dim_param for _, _, d in open_places}, set[str]()
    for name, axis, dimension in open_places:
        wish = declared = dimension.dim_param
        if wish in {"", "?"} or wish in used:
            wish = f"{name}.{axis}"
            while wish in reserved:
                wish += "'"
        used |= {wish, declared}
        reserved.add(wish)
        dimension.dim_param = wish
