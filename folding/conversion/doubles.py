"""Write a model of float64 numbers in float32: constants, the types of values, and what names a type."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from folding.conversion.dimensions import all_graphs, values_of
from folding.conversion.ir import TYPED
from folding.editing.surgery import replace
from folding.editing.writeback import VALUES
from folding.errors import OptionError
from folding.graph.index import FIRST_IR_WITH_DEFAULTS
from folding.graph.node import STANDARD_DOMAINS, bodies
from folding.onnxfile import Span
from folding.report.changes import EXAMPLES, Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from folding.conversion.here import Body
    from folding.onnxfile import OnnxFile

WIDE, NARROW = TensorProto.DOUBLE, TensorProto.FLOAT
BLOCK = 1 << 20  # bytes of a result that are computed at a time
RATIO = 2  # bytes of a float64 for each byte of a float32
FLOAT_MAX = float(np.finfo(np.float32).max)


class Narrowed:
    """The payload of a constant of float64 numbers as float32, computed block by block while it is written."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.nbytes = span.length // RATIO

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The byte ranges in which it is computed."""
        return ((start, min(start + BLOCK, self.nbytes)) for start in range(0, self.nbytes, BLOCK))

    def evaluate(self, start: int, stop: int) -> memoryview:
        """The bytes of one of `blocks()`."""
        return memoryview(self._wide(start, stop).astype("<f4").tobytes())

    def _wide(self, start: int, stop: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.frombuffer(self._span.read(start * RATIO, stop * RATIO), "<f8")

    def fits(self) -> bool:
        """Whether all finite numbers are in the range of float32."""
        return all(_fits(self._wide(start, stop)) for start, stop in self.blocks())


def _fits(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bool:
    return not (np.abs(values[np.isfinite(values)]) > FLOAT_MAX).any()


def to_float(file: OnnxFile) -> list[Change]:
    """Write the model in float32 where it is in float64; graph inputs and outputs keep their type behind a Cast.

    Raises:
        OptionError: a constant is out of the range of float32, or a custom operator has an input of float64 numbers.
    """
    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    every = [*_bodies(model)]
    kept = _kept(model)
    tensors = [t for body in every for t in _tensors(body) if t.data_type == WIDE and t.name not in kept]
    saved = sum(_narrow(file, tensor) for tensor in tensors)
    changed = len(tensors)
    inputs, outputs = _border(model, WIDE)
    for body in every:
        for node in body.node:
            if body is not model.graph or node.op_type != "Cast" or node.output[0] not in outputs.done:
                changed += _narrow_attributes(node)
        for value in _values(body, is_main=body is model.graph):
            if value.name not in kept:
                changed += _narrow_type(value.type)
    if not (changed or inputs.open or outputs.open):
        return []
    _require_standard(model)
    _cast_at_the_border(model, inputs.open, outputs.open)
    file.model = model
    names = tuple(t.name for t in tensors if t.name)
    return [Change("converted", "double to float", changed, names[:EXAMPLES], nbytes=-saved)]


class _Side(NamedTuple):
    """The inputs, or the outputs, of a model in float64: those with a Cast from or to float32, and the others."""

    done: list[str]
    open: list[str]


def _border(model: onnx.ModelProto, kind: int) -> tuple[_Side, _Side]:
    """The inputs and the outputs of this type. Those between which there is no operator are inputs only."""
    narrowed, others, widened = set[str](), set[str](), set[str]()
    for graph in all_graphs(model.graph):
        for node in graph.node:
            to = _to(node)
            (narrowed if to == NARROW else others).update(node.input)
            widened.update(node.output if to == kind else ())
    inputs, outputs = (
        [value.name for value in values if value.type.tensor_type.elem_type == kind]
        for values in (model.graph.input, model.graph.output)
    )
    open_in = [name for name in inputs if name in others or name in outputs]
    done_out = [name for name in outputs if name in widened - others - narrowed]
    done_out += _constant_outputs(model) - set(done_out)
    open_out = [name for name in outputs if name not in done_out and name not in inputs]
    return _Side([name for name in inputs if name not in open_in], open_in), _Side(done_out, open_out)


def _to(node: onnx.NodeProto) -> int:
    """The type that a Cast returns, 0 for every other operator."""
    is_cast = node.op_type == "Cast" and node.domain in STANDARD_DOMAINS
    return next((int(attribute.i) for attribute in node.attribute if is_cast and attribute.name == "to"), 0)


def _kept(model: onnx.ModelProto) -> set[str]:
    """What keeps its type: graph inputs, with their default values, and outputs that are constants."""
    names = {value.name for value in model.graph.input}
    if model.ir_version < FIRST_IR_WITH_DEFAULTS:
        names -= {tensor.name for tensor in model.graph.initializer}
    return names | _constant_outputs(model)


def _constant_outputs(model: onnx.ModelProto) -> set[str]:
    """The graph outputs that are initializers and that no operator reads."""
    read = {name for graph in all_graphs(model.graph) for node in graph.node for name in node.input}
    return ({value.name for value in model.graph.output} & {t.name for t in model.graph.initializer}) - read


def _bodies(model: onnx.ModelProto) -> Iterator[Body]:
    yield from all_graphs(model.graph)
    for function in model.functions:
        yield function
        yield from (g for node in function.node for one in bodies(node) for g in all_graphs(one))


def _tensors(body: Body) -> Iterator[onnx.TensorProto]:
    if isinstance(body, onnx.GraphProto):
        yield from body.initializer
        yield from (sparse.values for sparse in body.sparse_initializer)
    for attribute in (attribute for node in body.node for attribute in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        if attribute.HasField("sparse_tensor"):
            yield attribute.sparse_tensor.values
        yield from attribute.tensors


def _values(body: Body, *, is_main: bool) -> Iterator[onnx.ValueInfoProto]:
    """The values whose declared types follow; outputs of the main graph keep theirs."""
    if isinstance(body, onnx.FunctionProto):
        yield from body.value_info
    elif is_main:
        yield from (*body.input, *body.value_info)
    else:
        yield from values_of(body)


def _narrow(file: OnnxFile, tensor: onnx.TensorProto) -> int:
    """Write a constant in float32; return the bytes that this saves."""
    payload = file.payload(tensor)
    name = tensor.name or "a constant without a name"
    if payload is None:
        values = numpy_helper.to_array(tensor)
        fits = _fits(values)
        with np.errstate(over="ignore"):
            data = values.astype("<f4").tobytes()
    else:
        assert isinstance(payload, Span)  # noqa: S101  folds attach their payloads later
        narrowed = Narrowed(payload)
        fits, data = narrowed.fits(), file.attach(narrowed)
        values = None
    if not fits:
        raise OptionError(f"{name!r} has numbers beyond the range of float; it stays double, which the target lacks")
    dims = list(tensor.dims)
    for field in VALUES:
        tensor.ClearField(field)
    tensor.dims.extend(dims)
    tensor.data_type, tensor.raw_data = NARROW, data
    return (payload.length if isinstance(payload, Span) else 0 if values is None else values.nbytes) // RATIO


def _narrow_type(kind: onnx.TypeProto) -> int:
    which = kind.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        return _narrow_type(getattr(kind, which).elem_type)
    if which == "map_type":
        return _narrow_type(kind.map_type.value_type)
    if which in ("tensor_type", "sparse_tensor_type") and getattr(kind, which).elem_type == WIDE:
        getattr(kind, which).elem_type = NARROW
        return 1
    return 0


def _narrow_attributes(node: onnx.NodeProto) -> int:
    """Let what names the type of a result name the narrower one."""
    changed = 0
    for attribute in node.attribute:
        if node.domain in STANDARD_DOMAINS and attribute.name in TYPED and attribute.i == WIDE:
            attribute.i = NARROW
            changed += 1
        if attribute.HasField("tp"):
            changed += _narrow_type(attribute.tp)
    return changed


def _require_standard(model: onnx.ModelProto) -> None:
    """Refuse custom operators: nobody knows whether they take float32."""
    known = {(function.domain, function.name) for function in model.functions}
    for body in _bodies(model):
        for node in body.node:
            if node.domain not in STANDARD_DOMAINS and (node.domain, node.op_type) not in known:
                raise OptionError(
                    f"double cannot become float: it is unknown whether {node.domain}::{node.op_type} "
                    f"({node.name or node.output[0]!r}) takes it; export the model in float32"
                )


def _cast_at_the_border(model: onnx.ModelProto, inputs: Iterable[str], outputs: Iterable[str]) -> None:
    """A Cast behind each of these inputs and before each of these outputs, whose names stay."""
    taken = {name for body in _bodies(model) for node in body.node for name in (*node.input, *node.output)}
    taken |= {tensor.name for body in _bodies(model) for tensor in _tensors(body)}
    taken |= {value.name for graph in all_graphs(model.graph) for value in values_of(graph)}
    names: dict[str, str] = {}
    for name in (*inputs, *outputs):
        wish, number = f"{name}_float", 1
        while wish in taken:
            number += 1
            wish = f"{name}_float_{number}"
        taken.add(wish)
        names[name] = wish
    _rename(model.graph, names, is_main=True)
    first = [_cast(name, names[name], NARROW) for name in inputs]
    last = [_cast(names[name], name, WIDE) for name in outputs]
    replace(model.graph.node, [*first, *model.graph.node, *last])


def _cast(source: str, result: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"{result}.cast", to=to)


def _rename(graph: onnx.GraphProto, names: dict[str, str], *, is_main: bool) -> None:
    """Rename values in a graph and wherever a nested graph reads them, but not what a nested graph defines itself."""
    if not is_main:
        own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        own |= {name for node in graph.node for name in node.output}
        names = {old: new for old, new in names.items() if old not in own}
        for value in graph.output:
            value.name = names.get(value.name, value.name)
    given = {value.name for value in graph.input} if is_main else set()
    for tensor in graph.initializer if is_main else ():
        if tensor.name not in given:
            tensor.name = names.get(tensor.name, tensor.name)
    for value in graph.value_info:
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                field[index] = names.get(name, name)
        for body in bodies(node):
            _rename(body, names, is_main=False)
