"""Dimensions as a model declares them: of graph inputs, of outputs and of recorded values; the text of an option."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from folding.errors import OptionError
from folding.graph.node import bodies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from folding.algebra.shape import Dimension, Shape

UNKNOWN = frozenset({"", "?"})  # names that say nothing; "?" is how onnx prints an unknown dimension
OPEN = frozenset({"?", "-1"})  # in the text of an option: leave this axis as it is
LONGEST = 2**63 - 1  # dimensions are int64 (onnx.proto)


def parse_shape(text: str) -> tuple[str, tuple[Dimension, ...]]:
    """The input's name and the dimensions of ``x=1x3x224x224``; names of dimensions stay names: ``x=Nx3x224x224``.

    The name may contain "=", ":" or "/": the last "=" counts. A dimension whose name contains an x needs commas:
    ``x=max_length,3``. "?" leaves an axis as it is. ``x=`` is a scalar.

    Raises:
        OptionError: there is no "=", or a dimension is neither a name nor a length from 1 on.
    """
    name, separator, listed = text.rpartition("=")
    if not separator or not name:
        raise OptionError(f'shape: {text!r} has no name before a "="; write it as in x=1x3x224x224')
    parts = listed.split("," if "," in listed else "x") if listed.strip() else []
    return name, tuple(_parsed(part.strip(), text) for part in parts)


def _parsed(part: str, text: str) -> Dimension:
    if part in OPEN:
        return None
    if part.isdecimal() and 0 < int(part) <= LONGEST:
        return int(part)
    if not part or part[0].isdecimal() or part[0] in "+-":
        how = "a length from 1 on, a name, or ? for as it is; separate names that contain an x by commas"
        raise OptionError(f"shape: {part!r} in {text!r} is no dimension; give {how}")
    return part


def written(dims: tuple[Dimension, ...] | None) -> str:
    """Dimensions as the option has them: ``1x3x224x224``."""
    if dims is None:
        return "of unknown rank"
    named = any(isinstance(dim, str) and "x" in dim for dim in dims)
    return ("," if named else "x").join("?" if dim is None else str(dim) for dim in dims) or "scalar"


def dimension(proto: onnx.TensorShapeProto.Dimension) -> Dimension:
    """A length, a name, or None; old exporters write -1 for unknown."""
    if proto.HasField("dim_value"):
        return proto.dim_value if proto.dim_value >= 0 else None
    return None if proto.dim_param in UNKNOWN else proto.dim_param


def dims_of(value: onnx.ValueInfoProto) -> tuple[Dimension, ...] | None:
    """The dimensions of a tensor; None if its rank is not declared or it is no tensor."""
    if value.type.WhichOneof("value") != "tensor_type" or not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(map(dimension, value.type.tensor_type.shape.dim))


def set_dimension(proto: onnx.TensorShapeProto.Dimension, dim: Dimension) -> None:
    """Declare a length or a name, or nothing; what the dimension denotes stays."""
    proto.ClearField("dim_value")
    proto.ClearField("dim_param")
    if isinstance(dim, int):
        proto.dim_value = dim
    elif dim is not None:
        proto.dim_param = dim


def real_inputs(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """The inputs that a caller has to give: those without a default value."""
    graph = model.graph
    defaults = {t.name for t in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    return {value.name: value for value in graph.input if value.name not in defaults}


def declared_inputs(model: onnx.ModelProto) -> list[tuple[str, str, Shape]]:
    """The name, element type as ONNX names it, and shape of each input that a caller has to give."""
    return [
        (name, onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower(), dims_of(value) or ())
        for name, value in real_inputs(model).items()
    ]


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all nested ones, in the order in which `Graph.scopes` has them."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from all_graphs(body)


def values_of(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    """All values of which a graph declares a type: inputs, outputs and recorded ones."""
    yield from graph.input
    yield from graph.output
    yield from graph.value_info


def dimensions_in(kind: onnx.TypeProto) -> Iterator[onnx.TensorShapeProto.Dimension]:
    """All dimensions in a type: of a tensor, or of the tensors in a sequence, a map or an optional value."""
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        yield from getattr(kind, which).shape.dim
    elif which in ("sequence_type", "optional_type"):
        yield from dimensions_in(getattr(kind, which).elem_type)
    elif which == "map_type":
        yield from dimensions_in(kind.map_type.value_type)
