"""Rewrite a model so that values are rounded where they are made: graphs, bodies of If, Loop and Scan, and functions.

The value keeps its name, so its readers do; what makes it gets another one. A function is rewritten once for each
combination of types it is called with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from onnx import AttributeProto, FunctionProto, NodeProto, helper

from folding.execution.halves import (
    OPSET,
    STANDARD,
    Body,
    Call,
    declared,
    element,
    results,
    sequence,
    tensor,
    unwrapped,
)
from folding.execution.ordering import graphs_in, ordered
from folding.onnxfile import function_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from onnx import GraphProto, ModelProto, OperatorSetIdProto, TensorProto, ValueInfoProto

    from folding.onnxfile import FunctionKey

CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})  # their results have the types of what their bodies return
# Operators whose results are among the numbers that they read, but for their signs.
MOVING = frozenset(
    """Abs Compress Concat ConcatFromSequence Constant ConstantOfShape DepthToSpace Expand Flatten Gather
    GatherElements GatherND GlobalMaxPool Identity Max MaxPool Min Neg OptionalGetElement ReduceMax ReduceMin Relu
    Reshape SequenceAt Slice SpaceToDepth Split Squeeze Tile TopK Transpose Unsqueeze Where""".split()  # noqa: SIM905
)
SCAN_WITHOUT_BATCH = 9  # the opset from which Scan has no input for the lengths of its sequences


class Made(NamedTuple):
    """A function for one combination of types: its name, the kinds of its outputs, roundings on its longest path."""

    name: str
    kinds: list[str]
    depth: int


class Rewriting(ABC):
    """The rewriting of one message; `run` returns the roundings on the longest path to an output.

    What is left open: which types are rounded and how, and what becomes of constants, attributes and declarations.
    """

    moving = MOVING

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._functions = {function_key(f.domain, f.name, f.overload): f for f in model.functions}
        self._made: dict[object, Made] = {}
        self._copies: list[FunctionProto] = []
        self._count = 0
        self._prefix = _unused("rounded", self._names())

    # --- what is left open --------------------------------------------------------------------------------

    @abstractmethod
    def rounds(self, code: int) -> bool:
        """Whether values of an element type are rounded."""

    @abstractmethod
    def rounding(self, raw: str, rounded: str, code: int) -> list[NodeProto]:
        """The nodes that round a value of a type."""

    @abstractmethod
    def constant(self, held: TensorProto) -> bool:
        """Change a constant of a graph; return whether its values have to be rounded where they are read."""

    def rounded_cast(self, cast: NodeProto, code: int) -> list[NodeProto]:
        """The nodes that round the result of a Cast or CastLike, which may be changed; its output keeps its name."""
        name, cast.output[0] = cast.output[0], self.fresh()
        return self.rounding(cast.output[0], name, code)

    def declaration(self, value: ValueInfoProto) -> None:  # noqa: B027  most change nothing there
        """Change the declared type of an input or output."""

    def attributes(self, node: NodeProto, body: Body) -> None:  # noqa: B027  most change nothing there
        """Change the attributes of a node."""

    def default(self, attribute: AttributeProto) -> None:  # noqa: B027  most change nothing there
        """Change the default of an attribute of a function."""

    def reads_rounded(self, call: Call, place: int) -> bool:  # noqa: ARG002
        """Whether an operator reads there what is rounded of an input or a constant of the graph."""
        return True

    def preamble(self) -> list[NodeProto]:
        """Nodes that come first in the main graph and in every function."""
        return []

    # --- bodies -------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Rewrite everything."""
        model = self._model
        del model.training_info[:]
        body = Body(_opsets(model.opset_import))
        held = {initializer.name for initializer in model.graph.initializer}
        first = self.preamble()
        for value in model.graph.input:
            kind = declared(value.type)
            body.define(value.name, kind, 0)
            if value.name not in held and self.rounds(element(kind)):
                first += self._renamed(value.name, element(kind), body)
        self._graph(model.graph, body, first)
        _replace(model.functions, self._copies)
        return max((body.depths.get(value.name, 0) for value in model.graph.output), default=0)

    def fresh(self) -> str:
        """A name that no value has."""
        self._count += 1
        return f"{self._prefix}_{self._count}"

    def _renamed(self, name: str, code: int, body: Body) -> list[NodeProto]:
        """The nodes that round an input or a constant, which keeps its name: its readers read another one."""
        body.depths[name] = 1
        body.renamed[name] = self.fresh()
        return self.rounding(name, body.renamed[name], code)

    def _names(self) -> Iterator[str]:
        yield from (f.name for f in self._model.functions)
        waiting: list[GraphProto | FunctionProto] = [self._model.graph, *self._model.functions]
        while waiting:
            part = waiting.pop()
            if not isinstance(part, FunctionProto):
                yield from (value.name for value in (*part.input, *part.initializer))
            for node in part.node:
                yield from node.output
                waiting += graphs_in(node)

    def _graph(self, graph: GraphProto, body: Body, first: Sequence[NodeProto] = ()) -> None:
        """Rewrite a graph whose inputs are in its body."""
        body.hints = {value.name: declared(value.type) for value in (*graph.value_info, *graph.output)}
        first = list(first)
        for held in (*graph.initializer, *(one.values for one in graph.sparse_initializer)):
            kind = tensor(held.data_type)
            body.define(held.name, kind, 0)
            if self.constant(held):
                first += self._renamed(held.name, element(kind), body)
        _replace(graph.node, [*first, *self._nodes(graph.node, body)])
        for value in (*graph.input, *graph.output):
            self.declaration(value)
        del graph.value_info[:]
        del graph.quantization_annotation[:]

    def _nodes(self, nodes: Sequence[NodeProto], body: Body) -> list[NodeProto]:
        return [made for node in ordered(nodes) for made in self._node(node, body)]

    def _node(self, node: NodeProto, body: Body) -> list[NodeProto]:
        """A node, and what rounds its results."""
        call = body.call(node)
        kinds, depths, is_rounded = self._outcome(call, body)
        for place, name in enumerate(node.input):
            if name in body.renamed and self.reads_rounded(call, place):
                node.input[place] = body.renamed[name]
        self.attributes(node, body)
        made = [node]
        for place, (name, kind, depth) in enumerate(zip(list(node.output), kinds, depths, strict=True)):
            rounds = bool(name) and not is_rounded and self.rounds(element(kind))
            if rounds:
                made += self._rounded(node, place, element(kind))
            body.define(name, kind, depth + rounds)
        return made

    def _rounded(self, node: NodeProto, place: int, code: int) -> list[NodeProto]:
        """What rounds an output of a node, which keeps its name."""
        if node.domain in STANDARD and node.op_type in {"Cast", "CastLike"}:
            return self.rounded_cast(node, code)
        name, node.output[place] = node.output[place], self.fresh()
        return self.rounding(node.output[place], name, code)

    def _outcome(self, call: Call, body: Body) -> tuple[list[str], list[int], bool]:
        """The kinds of a node's outputs, the roundings on the longest path to each, and whether all are rounded."""
        node, count = call.node, len(call.node.output)
        depth = max((body.depths.get(name, 0) for name in node.input), default=0)
        key = function_key(node.domain, node.op_type, node.overload)
        if key in self._functions:
            made = self._called(key, call, body)
            node.op_type, node.overload = made.name, ""
            return made.kinds[:count], [depth + made.depth] * count, True
        if node.domain not in STANDARD:
            kinds = [body.hints.get(name, kind) for name, kind in zip(node.output, results(call), strict=True)]
            return kinds, [depth] * count, False
        if node.op_type in CONTROL:
            return *self._control(call, body), True
        return results(call), [depth] * count, node.op_type in self.moving

    def _control(self, call: Call, body: Body) -> tuple[list[str], list[int]]:
        """Rewrite the graphs in If, Loop, Scan or SequenceMap; the kinds and depths of what they return."""
        node, count = call.node, len(call.node.output)
        kinds, depths = [""] * count, [0] * count
        for graph in graphs_in(node):
            inner, given = body.inner(), _given(call)
            for place, value in enumerate(graph.input):
                kind, depth = given[place] if place < len(given) else ("", 0)
                inner.define(value.name, kind or declared(value.type), depth)
            self._graph(graph, inner)
            returned = list(graph.output)[len(graph.output) - count :]  # a Loop's body returns its condition first
            for place, value in enumerate(returned):
                kind = inner.kinds.get(value.name, "")
                kinds[place] = kinds[place] or (sequence(kind) if node.op_type == "SequenceMap" else kind)
                depths[place] = max(depths[place], inner.depths.get(value.name, 0))
        return kinds, depths

    def _called(self, key: FunctionKey, call: Call, body: Body) -> Made:
        """The function for the types of a call; a copy for every combination of them."""
        original = self._functions[key]
        given = {one.name: one for one in original.attribute_proto}
        given |= {one.name: found for one in call.node.attribute if (found := body.resolved(one)) is not None}
        referred = set(_referred(original.node))
        types = tuple((name, one.i, one.t.data_type) for name, one in sorted(given.items()) if name in referred)
        signature = key, tuple(call.inputs), types
        if signature not in self._made:
            self._made[signature] = self._copied(original, call.inputs, given, body)
        return self._made[signature]

    def _copied(
        self, original: FunctionProto, inputs: Sequence[str], given: dict[str, AttributeProto], caller: Body
    ) -> Made:
        function = FunctionProto()
        function.CopyFrom(original)
        function.name, function.overload = self.fresh(), ""
        if not any(one.domain in STANDARD for one in function.opset_import):
            function.opset_import.append(helper.make_opsetid("", caller.opsets.get("", OPSET)))
        body = Body(_opsets(function.opset_import), attributes=given)
        body.hints = {value.name: declared(value.type) for value in function.value_info}
        for name, kind in zip(function.input, [*inputs, *[""] * len(function.input)], strict=False):
            body.define(name, kind, 0)
        _replace(function.node, [*self.preamble(), *self._nodes(function.node, body)])
        for attribute in function.attribute_proto:
            self.default(attribute)
        del function.value_info[:]
        self._copies.append(function)
        depth = max((body.depths.get(name, 0) for name in function.output), default=0)
        return Made(function.name, [body.kinds.get(name, "") for name in function.output], depth)


def _given(call: Call) -> list[tuple[str, int]]:
    """The kinds and depths of the inputs of a body, as a node gives them: a Loop its trip count and condition first."""
    given = list(zip(call.inputs, call.depths, strict=True))
    if call.node.op_type == "SequenceMap":
        return [(unwrapped(kind), depth) for kind, depth in given]
    if call.node.op_type == "Scan" and call.opset < SCAN_WITHOUT_BATCH:
        return given[1:]  # the lengths of the sequences come first
    return [] if call.node.op_type == "If" else given


def _referred(nodes: Iterable[NodeProto]) -> Iterator[str]:
    """The attributes of a call on which the types in a function may depend."""
    for node in nodes:
        yield from (one.ref_attr_name for one in node.attribute if one.ref_attr_name)
        for graph in graphs_in(node):
            yield from _referred(graph.node)


def _opsets(imports: Iterable[OperatorSetIdProto]) -> dict[str, int]:
    return {"" if one.domain in STANDARD else one.domain: one.version for one in imports}


def _replace(field: Any, messages: Iterable[Any]) -> None:
    messages = list(messages)
    del field[:]
    field.extend(messages)


def _unused(prefix: str, names: Iterable[str]) -> str:
    """A beginning that no name has."""
    taken = {name for name in names if name.startswith(prefix)}
    while any(name.startswith(prefix) for name in taken):
        prefix += "_"
    return prefix
