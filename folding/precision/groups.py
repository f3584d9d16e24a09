"""What changes its type together: by the type constraints of schemas, and across If, Loop and Scan.

A group is one type constraint of one operator (ONNX operator specification, "Type Constraints"), as far as float32 is
bound to it: all inputs and outputs of the constraint have one type. A value is made by one group and read by others;
where they differ, a Cast is between them. A carried value of a Loop is one group: what goes in, what the body gets and
returns, and what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from folding.graph import schemas
from folding.graph.node import SHAPE_READERS, Edge
from folding.precision.kinds import FLOAT32
from folding.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from folding.graph.index import Graph, Scope
    from folding.graph.node import Node
    from folding.precision.kinds import Kind

HIGH, LOW = 0, 1  # the groups of what is fixed
FREE = -1
CONSTANT = -1  # the maker of a constant, of which there is a copy in each type that is read
# Runtimes or onnx's inference want one type in all inputs of these, although the standard has several constraints.
TIED = frozenset({"BatchNormalization", "Pow", "RMSNormalization"})
UNKNOWN_TYPE = "a type is unknown"
INTERFACE = "an input or output of the model"


class Result(NamedTuple):
    """A result of a graph, which reads a value as an operator does: the scope and the number of the result."""

    scope: Scope
    number: int


Reader = Edge | Result


@dataclass(slots=True, eq=False)
class Value:
    """A value of type float32 (or of none that is known): the group that makes it, and those that read it."""

    scope: Scope
    name: str
    maker: int = HIGH
    readers: list[tuple[int, Reader]] = field(default_factory=list)
    elements: int = -1  # as `classes.elements` counts them


@dataclass(slots=True, eq=False)
class Group:
    """What has one type: the operator, the side on which it is fixed and why, and the values that it touches.

    `high` and `low` are the costs of storing it in the 16-bit type, or not.
    """

    node: Node | None
    key: Hashable
    fixed: int = FREE
    reason: str = ""
    high: int = 0
    low: int = 0
    read: list[Value] = field(default_factory=list)
    made: list[Value] = field(default_factory=list)

    def fix(self, reason: str) -> None:
        """Leave it in float32; the first reason counts."""
        if self.fixed == FREE:
            self.fixed, self.reason = HIGH, reason


class Formal(NamedTuple):
    """A formal parameter: its type constraint, and whether all actual ones that it stands for have one type."""

    constraint: str
    alike: bool


class Signature(NamedTuple):
    """The formal inputs and outputs of an operator, and the constraints that allow the 16-bit type."""

    inputs: tuple[Formal, ...]
    outputs: tuple[Formal, ...]
    allowed: frozenset[str]


class Groups:
    """All groups and values of a graph; `of` are the groups of an operator, by constraint."""

    def __init__(self, graph: Graph, kind: Kind, *, lower_io: bool = False) -> None:
        self.graph, self.kind = graph, kind
        self.all = [Group(None, "high", HIGH, INTERFACE), Group(None, "low", LOW)]
        self.values: dict[tuple[int, str], Value] = {}
        self.of: dict[Node, dict[Hashable, int]] = {}
        self.outputs = LOW if lower_io else HIGH
        self._signature = cache(self._read_signature)
        self._bodies: dict[int, Scope] = {id(scope.proto): scope for scope in graph.scopes}
        scopes = [scope for scope in graph.scopes if not scope.prefix]  # functions have one
        for name in graph.main.inputs:
            if (value := self.value(graph.main, name)) is not None and value.maker != CONSTANT:
                value.maker = self.outputs
        for scope in scopes:
            for node in scope.nodes:
                if not node.removed:
                    self._add(node)
        for index, output in enumerate(graph.main.proto.output):
            value = self.value(graph.main, output.name)
            number = HIGH if value is not None and value.maker == CONSTANT else self.outputs
            self._read(graph.main, output.name, number, Result(graph.main, index))
        for scope in scopes:
            for name in {**dict.fromkeys(scope.annotated), **dict.fromkeys(scope.pinned)}:
                value = self.values.get((scope.index, name))
                if value is not None and value.maker > LOW:
                    self.all[value.maker].fix("more than the graph reads it: an annotation, or training")

    def value(self, scope: Scope, name: str) -> Value | None:
        """The record of a value that is float32, None for others."""
        if (known := self.values.get((scope.index, name))) is not None:
            return known
        owner = scope.owner(name)
        if owner is None:
            return None
        key = (owner.index, name)
        if key not in self.values:
            if owner.dtype(name) != FLOAT32:
                return None
            self.values[key] = Value(owner, name, CONSTANT if is_leaf(owner, name) else HIGH)
        return self.values[key]

    def bodies(self, node: Node) -> list[Scope]:
        """The scopes of the graphs that an operator holds, in the order of `then`, `else`; `body`."""
        names = ("then_branch", "else_branch", "body")
        given = [attribute for name in names if (attribute := node.attribute_proto(name)) is not None]
        return [self._bodies[id(attribute.g)] for attribute in given]

    def group(self, node: Node, key: Hashable) -> int:
        """The group of a constraint of an operator; made where it is asked for first."""
        own = self.of.setdefault(node, {})
        if key not in own:
            own[key] = len(self.all)
            self.all.append(Group(node, key))
        return own[key]

    # --- building -----------------------------------------------------------------------------------------

    def _add(self, node: Node) -> None:
        if node.op == "Constant" or node.op in SHAPE_READERS:
            return
        if node.op in CARRYING and self._add_carrying(node):
            return
        try:
            signature = self._signature(node.op)
        except Refused:
            self._add_fixed(node, f"{node.op} is no standard operator")
            return
        uncertain = False
        for formals, names, is_input in (
            (signature.inputs, node.inputs, True),
            (signature.outputs, node.outputs, False),
        ):
            for index, name in enumerate(names):
                if not name:
                    continue
                formal = formals[min(index, len(formals) - 1)] if formals else Formal("", alike=True)
                key = "T" if node.op in TIED else formal.constraint
                number = self._bind(
                    node, key if formal.alike else (key, is_input, index), index, name, is_input=is_input
                )
                uncertain |= number is None and self._is_unknown(node.scope, name)
                if number is not None and formal.constraint not in signature.allowed:
                    self.all[number].fix(f"{node.op} of operator set {self.graph.opset} has no {self.kind.name}")
        if uncertain:
            self._fix(node, UNKNOWN_TYPE)

    def _bind(self, node: Node, key: Hashable, index: int, name: str, *, is_input: bool) -> int | None:
        """Let a group read or make a value, if that is float32."""
        value = self.value(node.scope, name)
        if value is None:
            return None
        number = self.group(node, key)
        if is_input:
            value.readers.append((number, Edge(node, index)))
            self.all[number].read.append(value)
        else:
            value.maker = number
            self.all[number].made.append(value)
        return number

    def _read(self, scope: Scope, name: str, number: int, reader: Reader) -> None:
        value = self.value(scope, name)
        if value is not None:
            value.readers.append((number, reader))
            self.all[number].read.append(value)

    def _make(self, scope: Scope, name: str, number: int) -> None:
        value = self.value(scope, name)
        if value is not None:
            value.maker = number
            self.all[number].made.append(value)

    def _add_fixed(self, node: Node, reason: str) -> None:
        """An operator of which nothing is known: all that it reads and makes stays float32."""
        for index, name in enumerate(node.inputs):
            if name:
                self._bind(node, "fixed", index, name, is_input=True)
        for index, name in enumerate(node.outputs):
            if name:
                self._bind(node, "fixed", index, name, is_input=False)
        for body in self._all_bodies(node):
            for name in body.inputs:
                self._make(body, name, self.group(node, "fixed"))
            for index, output in enumerate(body.proto.output):
                self._read(body, output.name, self.group(node, "fixed"), Result(body, index))
        self._fix(node, reason)

    def _all_bodies(self, node: Node) -> Iterator[Scope]:
        for attribute in node.proto.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                if id(graph) in self._bodies:
                    yield self._bodies[id(graph)]

    def _add_carrying(self, node: Node) -> bool:
        """An If, Loop or Scan: what is passed in, carried and returned is one group each; False if it is malformed."""
        bodies = self.bodies(node)
        if len(bodies) != (2 if node.op == "If" else 1):
            return False
        uncertain = False
        for scope, name, key, reader in _ports(node, bodies):
            if not name:
                continue
            uncertain |= self._is_unknown(scope, name)
            if self.value(scope, name) is not None:
                number = self.group(node, key)
                if reader is None:
                    self._make(scope, name, number)
                else:
                    self._read(scope, name, number, reader)
        if uncertain:
            self._fix(node, UNKNOWN_TYPE)
        return True

    def _fix(self, node: Node, reason: str) -> None:
        for number in self.of.get(node, {}).values():
            self.all[number].fix(reason)

    def _is_unknown(self, scope: Scope, name: str) -> bool:
        return scope.dtype(name) is None

    def _read_signature(self, op: str) -> Signature:
        schema = self.graph.schema(op)
        allowed = {c.type_param_str for c in schema.type_constraints if self.kind.tensor in c.allowed_type_strs}
        if self.graph.opset < schemas.DEFINED.get((op, self.kind.tensor), 0):
            allowed = set()
        inputs, outputs = (
            tuple(Formal(one.type_str, one.is_homogeneous) for one in side) for side in (schema.inputs, schema.outputs)
        )
        return Signature(inputs, outputs, frozenset(allowed))


def is_leaf(scope: Scope, name: str) -> bool:
    """Whether a name is a constant that is stored, and that no caller may override."""
    if scope.is_overridable(name) or name in scope.shadowing:
        return False
    if name in scope.weights or name in scope.initializers or name in scope.sparse:
        return True
    node = scope.producers.get(name)
    return node is not None and node.op == "Constant" and scope.values.is_constant(scope, name)


def _ports(node: Node, bodies: list[Scope]) -> Iterator[tuple[Scope, str, Hashable, Reader | None]]:
    """All values that an If, Loop or Scan reads and makes, inside and outside, with their groups.

    What is made has no reader. The carried values come last among the inputs of the body, before those that are only
    passed in.
    """
    before, carried, passed = CARRYING[node.op](node, bodies[0])
    for index, name in enumerate(node.inputs[before:]):
        yield node.scope, name, ("in", index), Edge(node, before + index)
    for body in bodies:
        first = len(body.proto.input) - carried - passed
        for index, value in enumerate(body.proto.input[first:]):
            yield body, value.name, ("in", index), None
        skipped = 1 if node.op == "Loop" else 0  # whether to go on
        for index, value in enumerate(body.proto.output[skipped:]):
            yield body, value.name, _result(index, carried), Result(body, skipped + index)
    for index, name in enumerate(node.outputs):
        yield node.scope, name, _result(index, carried), None


def _of_loop(node: Node, _: Scope) -> tuple[int, int, int]:
    """M and cond come first; all others are carried (operator Loop)."""
    return 2, len(node.inputs) - 2, 0


def _of_scan(node: Node, body: Scope) -> tuple[int, int, int]:
    """States, then what is scanned; Scan-8 has the lengths of the sequences before both (operator Scan)."""
    given = node.attribute_proto("num_scan_inputs")
    scanned = 0 if given is None else int(given.i)
    before = 1 if node.scope.graph.opset == FIRST_SCAN else 0
    return before, len(body.proto.input) - scanned, scanned


def _result(index: int, carried: int) -> Hashable:
    """The group of a result: that of the carried value, or one of its own."""
    return ("in", index) if index < carried else ("out", index - carried)


FIRST_SCAN = 8  # the operator set of its first version
# How many inputs come before those that the body gets, how many are carried, and how many are only passed in.
CARRYING = {"If": lambda _node, _body: (1, 0, 0), "Loop": _of_loop, "Scan": _of_scan}
