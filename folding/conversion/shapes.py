"""Fix the shapes of graph inputs, and the same lengths wherever else the model names them."""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

import onnx

from folding.analysis import shapes as inference
from folding.analysis.inference import InferenceError, inferred
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
from folding.errors import OptionError
from folding.report.changes import EXAMPLES, Change

if TYPE_CHECKING:
    from collections.abc import Mapping

    from folding.algebra.shape import Dimension, Shape
    from folding.graph.index import Graph
    from folding.graph.node import Node
    from folding.onnxfile import OnnxFile

BATCH = re.compile(r"batch|^[bn]$|^bs$", re.IGNORECASE)  # names that exporters give the batch axis
SHOWN = 5  # inputs that a message lists


def fix(file: OnnxFile, shapes: Mapping[str, Shape], batch: int | None = None) -> list[Change]:
    """Declare the dimensions of graph inputs, and the same lengths wherever else the model has their names.

    `shapes` has, by input, a length, a name or None (as it is) for each axis. `batch` is the length of the first axis
    of all inputs in which that is open and not given in `shapes`. Outputs and recorded values follow. On an error the
    model is as it was.

    Raises:
        OptionError: there is no such input, its rank or a length of it is another one, one name would have two
            lengths, or an operator does not take these lengths.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(file.model)
    inputs = real_inputs(changed)
    before = {name: dims_of(value) for name, value in inputs.items()}
    wanted = _wanted(file.model, shapes, before)
    if batch is not None:
        _add_batch(wanted, before, batch)
    names = _named(wanted, before)
    for name, dims in wanted.items():
        _declare(inputs[name], dims)
    for graph in all_graphs(changed.graph):
        for proto in (d for value in values_of(graph) for d in dimensions_in(value.type)):
            if proto.dim_param in names:
                set_dimension(proto, names[proto.dim_param])
    after = {name: dims_of(value) for name, value in inputs.items()}
    differing = [name for name in inputs if after[name] != before[name]]
    if not differing:
        return []
    _update_recorded(file, changed, before, ", ".join(f"{name}={written(after[name])}" for name in differing))
    file.model = changed
    examples = tuple(f"{name}: {written(after[name])}" for name in differing)
    return [Change("converted", "input shape fixed", len(differing), examples[:EXAMPLES])]


# --- what was asked for ------------------------------------------------------------------------------------


def _wanted(
    model: onnx.ModelProto, shapes: Mapping[str, Shape], declared: Mapping[str, Shape | None]
) -> dict[str, list[Dimension]]:
    """What is asked of each axis of each input, after a check that the input has these axes and lengths."""
    wanted = {}
    for name, dims in shapes.items():
        if name not in declared:
            raise OptionError(f"shape: {_unknown(model, name, declared)}")
        known = declared[name]
        if known is not None and len(known) != len(dims):
            given, axes = f"{written(dims)} has {len(dims)}", f"it is {written(known)}"
            raise OptionError(f"shape: the input {name!r} has {len(known)} axes ({axes}), but {given}")
        for axis, (dim, old) in enumerate(zip(dims, known or dims, strict=True)):
            if isinstance(old, int) and dim is not None and dim != old:
                _refuse_length("shape", name, axis, old, dim, known)
        wanted[name] = list(dims)
    return wanted


def _unknown(model: onnx.ModelProto, name: str, inputs: Mapping[str, object]) -> str:
    if any(value.name == name for value in model.graph.input):
        return f"{name!r} is an input with a default value, whose shape it has; leave it out"
    close = get_close_matches(name, inputs, n=3)
    known = ", ".join(map(repr, [*inputs][:SHOWN])) + (", ..." if len(inputs) > SHOWN else "")
    meant = f"did you mean {' or '.join(map(repr, close))}?" if close else f"its inputs are {known or 'none'}"
    return f"the model has no input {name!r}; {meant}"


def _refuse_length(option: str, name: str, axis: int, old: int, new: Dimension, known: Shape | None) -> None:
    how = "it was exported with this length; give it, or export the model with an open axis"
    raise OptionError(
        f"{option}: the input {name!r} has the length {old} on axis {axis} (it is {written(known)}), "
        f"and {new} was given; {how}"
    )


def _add_batch(wanted: dict[str, list[Dimension]], declared: Mapping[str, Shape | None], batch: int) -> None:
    """Ask for `batch` on the first axis of all inputs in which that is open, and not asked for otherwise."""
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise OptionError(f"batch is {batch!r}; give a length from 1 on")
    firsts = {name: dims[0] for name, dims in declared.items() if dims}
    names = {dim for dim in firsts.values() if isinstance(dim, str)}
    likely = {name for name in names if BATCH.search(name)} if len(names) > 1 else names
    if len(names) > 1 and len(likely) != 1:
        listed = ", ".join(f"{name} {written(declared[name])}" for name, dim in firsts.items() if dim in names)
        raise OptionError(
            f"batch: the inputs differ in what their first axis is ({listed}); use shape for each instead"
        )
    for name, dim in firsts.items():
        axes = wanted.get(name) or [None] * len(declared[name] or ())
        if (dim is None or dim in likely) and axes[0] is None:
            wanted[name] = [batch, *axes[1:]]
    fits = any(dim is None or dim in (batch, *likely) for dim in firsts.values())
    if not fits:
        name = next(iter(firsts), "")
        if name and isinstance(firsts[name], int):
            _refuse_length("batch", name, 0, int(firsts[name] or 0), batch, declared[name])
        raise OptionError("batch: no input of the model has a first axis; use shape")


def _named(wanted: Mapping[str, list[Dimension]], declared: Mapping[str, Shape | None]) -> dict[str, Dimension]:
    """What becomes of each name of a dimension."""
    names: dict[str, tuple[Dimension, str]] = {}
    known = {dim for dims in declared.values() for dim in dims or () if isinstance(dim, str)}
    for name, dims in wanted.items():
        for axis, (old, new) in enumerate(zip(declared[name] or (), dims, strict=False)):
            if not isinstance(old, str) or new is None:
                continue
            where = f"axis {axis} of {name!r}"
            before, place = names.setdefault(old, (new, where))
            if before != new:
                raise OptionError(
                    f"shape: {old!r} is one length of the model, and {before} on {place}, {new} on {where}"
                )
            if isinstance(new, str) and new != old and new in known:
                raise OptionError(
                    f"shape: {new!r} is another length of the model already, and would become {old!r} too"
                )
    return {old: new for old, (new, _) in names.items()}


def _declare(value: onnx.ValueInfoProto, dims: list[Dimension]) -> None:
    """Declare lengths and names of an input; names that it has had are replaced in the whole model, not here."""
    shape = value.type.tensor_type.shape
    known = dims_of(value)
    if known is None:
        if value.type.WhichOneof("value") != "tensor_type":
            raise OptionError(f"shape: the input {value.name!r} is no tensor; leave it out")
        shape.SetInParent()
        for _ in dims:
            shape.dim.add()
    for proto, old, new in zip(shape.dim, known or (None,) * len(dims), dims, strict=True):
        if old is None and new is not None:
            set_dimension(proto, new)


# --- what follows from it ------------------------------------------------------------------------------------


def _update_recorded(file: OnnxFile, changed: onnx.ModelProto, before: Mapping[str, Shape | None], given: str) -> None:
    """Bring the lengths of outputs and recorded values up to date; they may be of the time of the export.

    Raises:
        OptionError: an operator does not take the lengths.
    """
    bare = _bare(file, changed)
    graph = indexed(file.variant(bare))
    inference.infer(graph)
    _require_fit(file, bare, graph, given)
    variable = {axis for dims in before.values() for axis, dim in enumerate(dims or ()) if not isinstance(dim, int)}
    scopes = [scope for scope in graph.scopes if not scope.is_function and not scope.prefix]
    for scope, proto in zip(scopes, all_graphs(changed.graph), strict=True):
        for value in (*proto.output, *proto.value_info):
            found, recorded = scope.shapes.get(value.name, ()), dims_of(value) or ()
            for axis, old in enumerate(recorded):
                new = found[axis] if len(found) == len(recorded) else None
                if isinstance(old, int) and isinstance(new, int) and new != old:
                    set_dimension(value.type.tensor_type.shape.dim[axis], new)
                elif isinstance(old, int) and new is None and axis in variable:
                    set_dimension(value.type.tensor_type.shape.dim[axis], None)


def _bare(file: OnnxFile, model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without lengths of results, which may be of the time of the export."""
    bare = with_small_values(file, model)
    for graph in all_graphs(bare.graph):
        del graph.value_info[:]
    for value in bare.graph.output:
        if value.type.WhichOneof("value") == "tensor_type":
            value.type.tensor_type.ClearField("shape")
    return bare


def _require_fit(file: OnnxFile, bare: onnx.ModelProto, graph: Graph, given: str) -> None:
    """Refuse lengths that an operator does not take: by its constants, or by another input."""
    for node in graph.nodes():
        if node.op == "Reshape" and (why := _misfit(node)):
            raise OptionError(f"shape: {given} does not fit {node.label!r} (Reshape), {why}; export the model for it")
    reason = _contradiction(bare)
    if reason and not _contradiction(_bare(file, file.model)):
        raise OptionError(f"shape: {given} does not fit the model: {reason}; give lengths that it was made for")


def _contradiction(model: onnx.ModelProto) -> str:
    """Why inference finds a contradiction in a model; "" if it finds none."""
    try:
        inferred(model, strict=True)
    except InferenceError as error:
        return str(error)
    return ""


def _misfit(node: Node) -> str:
    """Why a Reshape to constant sizes does not take its input; "" if it does, or if that is unknown."""
    owner = node.scope.owner(node.inputs[0]) if node.has(0) else None
    source = owner.shapes.get(node.inputs[0]) if owner is not None else None
    target = node.integers(1) if len(node.inputs) > 1 else None
    if source is None or target is None or not all(isinstance(n, int) for n in source) or 0 in source:
        return ""
    count = math.prod(n for n in source if isinstance(n, int))
    zero = node.attribute_proto("allowzero")
    copied = [*source, *(0,) * len(target)]
    sizes = [n if n or (zero is not None and zero.i) else int(copied[i] or 0) for i, n in enumerate(target)]
    rest = math.prod(n for n in sizes if n >= 0)
    if (rest == count and -1 not in sizes) or (-1 in sizes and rest and count % rest == 0):
        return ""
    return f"which makes {written(tuple(target))} of {written(source)}"
