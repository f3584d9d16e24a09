"""Emulate 16-bit types: the same model in float32, in which every value that is stored in 16 bits is rounded to them.

ONNX Runtime on a CPU computes float16 in float32, leaves out Casts, and has no bfloat16: it calls right what overflows
on a GPU. Explicit pairs of Casts, to 16 bits and back, it keeps at every level of optimisation. So each 16-bit result
passes such a pair; operators compute in float32, as tensor cores accumulate:

    y = Op(x)  in float16    ->    raw = Op(x); half = Cast(raw, float16); y = Cast(half, float)

1. 16-bit constants become float32 constants with the same values, inputs and outputs are declared as float32.
2. An input is rounded by a pair, and its readers read what comes out of it.
3. Casts and CastLike to 16 bits become the pair; attributes that name a 16-bit type name float32.
4. Values that only move (Reshape, Concat, Relu, ...) are rounded already and need no pair.
5. Bodies of If, Loop and Scan are rewritten in place; a function once for each combination of types it is called with.

Not emulated: what an operator keeps in 16 bits inside (the state of an LSTM between two steps).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, helper

from folding.onnxfile.graphs import function_key
from folding.onnxfile.halves import (
    HALVES,
    OPSET,
    STANDARD,
    TYPED,
    Body,
    Call,
    UnknownTypeError,
    declared,
    element,
    results,
    sequence,
    tensor,
    unwrapped,
    widen,
)
from folding.onnxfile.ordering import graphs_in, ordered
from folding.onnxfile.reader import read
from folding.onnxfile.widened import widen_tensor
from folding.onnxfile.writer import write

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from onnx import GraphProto, OperatorSetIdProto

    from folding.onnxfile.graphs import FunctionKey
    from folding.onnxfile.reader import OnnxFile

FLOAT = TensorProto.FLOAT
CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})  # their results have the types of what their bodies return
# Operators whose results are among the numbers that they read, but for their signs.
MOVING = frozenset(
    """Abs Compress Concat ConcatFromSequence Constant ConstantOfShape DepthToSpace Expand Flatten Gather
    GatherElements GatherND GlobalMaxPool Identity Max MaxPool Min Neg OptionalGetElement ReduceMax ReduceMin Relu
    Reshape SequenceAt Slice SpaceToDepth Split Squeeze Tile TopK Transpose Unsqueeze Where""".split()  # noqa: SIM905
)
CAST_BY_NUMBER = 6  # the opset from which Cast takes a type as a number
SCAN_WITHOUT_BATCH = 9  # the opset from which Scan has no input for the lengths of its sequences


class EmulationError(Exception):
    """A model cannot be emulated; the text says why."""


class Emulation(NamedTuple):
    """The 16-bit inputs and outputs of the graph by their types, the roundings on the longest path to an output."""

    inputs: dict[str, str]
    outputs: dict[str, str]
    depth: int
    nbytes: int


def emulate(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> Emulation:
    """Write the emulation of the model file `source` to `target`; its weights are not loaded.

    Raises:
        EmulationError: the type of a value cannot be told, or an operator is not the same in float32.
        ModelError, FoldingError: as `read` and `write`.
    """
    with read(source) as file:
        graph = file.model.graph
        inputs, outputs = (
            {value.name: HALVES[code] for value in values if (code := element(declared(value.type)))}
            for values in (graph.input, graph.output)
        )
        held = {tensor.name for tensor in graph.initializer}
        try:
            depth = _Emulator(file).run()
        except UnknownTypeError as error:
            raise EmulationError(str(error)) from None
        except RecursionError:
            raise EmulationError("graphs or functions are nested too deep") from None
        nbytes = write(file, target)
        return Emulation({name: kind for name, kind in inputs.items() if name not in held}, outputs, depth, nbytes)


class Made(NamedTuple):
    """A function for one combination of types: its name, the kinds of its outputs, roundings on its longest path."""

    name: str
    kinds: list[str]
    depth: int


class _Emulator:
    """The rewriting of one message; `run` returns the depth."""

    def __init__(self, file: OnnxFile) -> None:
        self._file, self._model = file, file.model
        self._functions = {function_key(f.domain, f.name, f.overload): f for f in self._model.functions}
        self._made: dict[object, Made] = {}
        self._copies: list[FunctionProto] = []
        self._count = 0
        self._prefix = _unused("emulated", self._names())

    def _names(self) -> Iterator[str]:
        yield from (f.name for f in self._model.functions)
        waiting: list[GraphProto | FunctionProto] = [self._model.graph, *self._model.functions]
        while waiting:
            body = waiting.pop()
            if not isinstance(body, FunctionProto):
                yield from (value.name for value in (*body.input, *body.initializer))
            for node in body.node:
                yield from node.output
                waiting += graphs_in(node)

    def _fresh(self) -> str:
        self._count += 1
        return f"{self._prefix}_{self._count}"

    def run(self) -> int:
        model = self._model
        del model.training_info[:]
        scope = Body(_opsets(model.opset_import))
        held = {tensor.name for tensor in model.graph.initializer}
        first: list[NodeProto] = []
        for value in model.graph.input:
            kind = declared(value.type)
            code = element(kind) if value.name not in held else 0
            scope.define(value.name, kind, depth=int(code != 0))
            if code:
                scope.renamed[value.name] = self._fresh()
                first += self._pair(value.name, scope.renamed[value.name], code)
        self._graph(model.graph, scope, first)
        _replace(model.functions, self._copies)
        return max((scope.depths.get(value.name, 0) for value in model.graph.output), default=0)

    # --- bodies -------------------------------------------------------------------------------------------

    def _graph(self, graph: GraphProto, scope: Body, first: Sequence[NodeProto] = ()) -> None:
        """Rewrite a graph whose inputs are in its scope."""
        scope.hints = {value.name: declared(value.type) for value in (*graph.value_info, *graph.output)}
        for tensor_ in (*graph.initializer, *(one.values for one in graph.sparse_initializer)):
            scope.define(tensor_.name, tensor(tensor_.data_type), 0)
            widen_tensor(self._file, tensor_)
        _replace(graph.node, [*first, *self._nodes(graph.node, scope)])
        for value in (*graph.input, *graph.output):
            widen(value.type)
        del graph.value_info[:]
        del graph.quantization_annotation[:]

    def _nodes(self, nodes: Sequence[NodeProto], scope: Body) -> list[NodeProto]:
        return [made for node in ordered(nodes) for made in self._node(node, scope)]

    def _node(self, node: NodeProto, scope: Body) -> list[NodeProto]:
        """A node in float32, and the pairs that round its results."""
        call = scope.call(node)
        kinds, depths, is_rounded = self._outcome(call, scope)
        self._attributes(node, scope)
        node.input[:] = [scope.renamed.get(name, name) for name in node.input]
        made = [node]
        for place, (name, kind, depth) in enumerate(zip(list(node.output), kinds, depths, strict=True)):
            code = element(kind) if name and not is_rounded else 0
            if code:
                made += self._rounding(node, place, code, scope)
            scope.define(name, kind, depth + (code != 0))
        return made

    def _outcome(self, call: Call, scope: Body) -> tuple[list[str], list[int], bool]:
        """The kinds of a node's outputs, the roundings on the longest path to each, and whether all are rounded."""
        node, count = call.node, len(call.node.output)
        depth = max((scope.depths.get(name, 0) for name in node.input), default=0)
        key = function_key(node.domain, node.op_type, node.overload)
        if key in self._functions:
            made = self._called(key, call, scope)
            node.op_type, node.overload = made.name, ""
            return made.kinds[:count], [depth + made.depth] * count, True
        if node.domain not in STANDARD:
            kinds = [scope.hints.get(name, kind) for name, kind in zip(node.output, results(call), strict=True)]
            return kinds, [depth] * count, False
        if node.op_type in CONTROL:
            return *self._control(call, scope), True
        return results(call), [depth] * count, node.op_type in MOVING

    def _control(self, call: Call, scope: Body) -> tuple[list[str], list[int]]:
        """Rewrite the bodies of If, Loop, Scan or SequenceMap; the kinds and depths of what they return."""
        node, count = call.node, len(call.node.output)
        kinds, depths = [""] * count, [0] * count
        for graph in graphs_in(node):
            inner, given = scope.inner(), _given(call)
            for place, value in enumerate(graph.input):
                kind = given[place] if place < len(given) else ""
                depth = scope.depths.get(node.input[place], 0) if place < len(given) else 0
                inner.define(value.name, kind or declared(value.type), depth)
            self._graph(graph, inner)
            returned = list(graph.output)[len(graph.output) - count :]  # a Loop's body returns its condition first
            for place, value in enumerate(returned):
                kind = inner.kinds.get(value.name, "")
                kinds[place] = kinds[place] or (sequence(kind) if node.op_type == "SequenceMap" else kind)
                depths[place] = max(depths[place], inner.depths.get(value.name, 0))
        return kinds, depths

    def _called(self, key: FunctionKey, call: Call, scope: Body) -> Made:
        """The function for the types of a call; a copy for every combination of them."""
        original = self._functions[key]
        given = {one.name: one for one in original.attribute_proto}
        given |= {one.name: found for one in call.node.attribute if (found := scope.resolved(one)) is not None}
        telling = _referred(original)
        types = tuple((name, one.i, one.t.data_type) for name, one in sorted(given.items()) if name in telling)
        signature = key, tuple(call.inputs), types
        if signature not in self._made:
            self._made[signature] = self._copied(original, call.inputs, given, scope)
        return self._made[signature]

    def _copied(
        self, original: FunctionProto, inputs: Sequence[str], given: dict[str, AttributeProto], scope: Body
    ) -> Made:
        function = FunctionProto()
        function.CopyFrom(original)
        function.name, function.overload = self._fresh(), ""
        if not any(one.domain in STANDARD for one in function.opset_import):
            function.opset_import.append(helper.make_opsetid("", scope.opsets.get("", OPSET)))
        body = Body(_opsets(function.opset_import), attributes=given)
        body.hints = {value.name: declared(value.type) for value in function.value_info}
        for name, kind in zip(function.input, [*inputs, *[""] * len(function.input)], strict=False):
            body.define(name, kind, 0)
        _replace(function.node, self._nodes(function.node, body))
        for attribute in function.attribute_proto:
            self._attribute(attribute)
        del function.value_info[:]
        self._copies.append(function)
        depth = max((body.depths.get(name, 0) for name in function.output), default=0)
        return Made(function.name, [body.kinds.get(name, "") for name in function.output], depth)

    # --- nodes --------------------------------------------------------------------------------------------

    def _attributes(self, node: NodeProto, scope: Body) -> None:
        """Widen the constants in the attributes of a node, and the types that they name."""
        for attribute in node.attribute:
            found = scope.resolved(attribute)
            if attribute.name in TYPED and found is not None and found.i in HALVES:
                attribute.CopyFrom(helper.make_attribute(attribute.name, FLOAT))
            self._attribute(attribute)

    def _attribute(self, attribute: AttributeProto) -> None:
        if attribute.HasField("t"):
            widen_tensor(self._file, attribute.t)
        if attribute.HasField("sparse_tensor"):
            widen_tensor(self._file, attribute.sparse_tensor.values)
        for tensor_ in (*attribute.tensors, *(sparse.values for sparse in attribute.sparse_tensors)):
            widen_tensor(self._file, tensor_)

    def _rounding(self, node: NodeProto, place: int, code: int, scope: Body) -> list[NodeProto]:
        """What rounds an output of a node to a type; the output keeps its name, and the node gets another one."""
        if scope.opset(NodeProto()) < CAST_BY_NUMBER:
            raise UnknownTypeError(f"Cast has no types by number before operator set {CAST_BY_NUMBER}")
        name, raw = node.output[place], self._fresh()
        node.output[place] = raw
        if node.domain in STANDARD and node.op_type in {"Cast", "CastLike"}:
            kept = [one for one in node.attribute if one.name != "to"]
            node.op_type, node.input[:] = "Cast", node.input[:1]
            _replace(node.attribute, [*kept, helper.make_attribute("to", code)])
            return [_cast(raw, name, FLOAT)]
        return self._pair(raw, name, code)

    def _pair(self, raw: str, rounded: str, code: int) -> list[NodeProto]:
        half = self._fresh()
        return [_cast(raw, half, code), _cast(half, rounded, FLOAT)]


def _cast(source: str, target: str, code: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], to=code)


def _given(call: Call) -> Sequence[str]:
    """The kinds of the inputs of a body, as a node gives them: a Loop its trip count and its condition first."""
    if call.node.op_type == "SequenceMap":
        return [unwrapped(kind) for kind in call.inputs]
    if call.node.op_type == "Scan" and call.opset < SCAN_WITHOUT_BATCH:
        return call.inputs[1:]  # the lengths of the sequences come first
    return [] if call.node.op_type == "If" else call.inputs


def _referred(function: FunctionProto) -> set[str]:
    """The attributes of a call on which the types in a function may depend."""
    return {one.ref_attr_name for node in function.node for one in node.attribute if one.ref_attr_name}


def _opsets(imports: Iterable[OperatorSetIdProto]) -> dict[str, int]:
    return {"" if one.domain in STANDARD else one.domain: one.version for one in imports}


def _replace(field_: Any, messages: Iterable[Any]) -> None:
    messages = list(messages)
    del field_[:]
    field_.extend(messages)


def _unused(prefix: str, names: Iterable[str]) -> str:
    """A beginning that no name has."""
    taken = {name for name in names if name.startswith(prefix)}
    while any(name.startswith(prefix) for name in taken):
        prefix += "_"
    return prefix
