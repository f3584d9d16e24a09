"""An index over a ModelProto: scopes, nodes, producers, consumers, shapes. The message stays the only graph."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import onnx
from onnx import checker, defs, helper

from folding import constants, shapes
from folding.errors import ModelError
from folding.plan import Refused, require
from folding.shapes import FIRST_IR_WITH_DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from folding.onnxfile import OnnxFile
    from folding.shapes import Shape
    from folding.weights import Weight

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})  # two spellings of one domain, see the ONNX IR specification
SHAPE_READERS = frozenset({"Shape", "Size"})  # read no values, so a change of values is nothing to them
KEPT_BYTES = 1 << 24  # of an evaluated constant: more than an affine operator's ever has


@dataclass(frozen=True)
class Edge:
    """Input number `index` of `node`."""

    node: Node
    index: int


class Node:
    """One operator: what the rules may ask about it. Only `folding.commit` changes it."""

    def __init__(self, proto: onnx.NodeProto, scope: Scope) -> None:
        self.proto, self.scope = proto, scope
        self.inputs: list[str] = list(proto.input)
        self.outputs: list[str] = list(proto.output)
        self.label = _first(proto.name, *self.outputs, proto.op_type)
        self.key = f"{scope.index}:{_first(*self.outputs, self.label)}"
        self.removed = False
        self.is_made = False  # whether a fold made it: it is not a part of the model the user knows
        self._is_checked = False  # against its schema
        self.known_site: object = None  # what `sites.affine_of` answered; see `changed`

    @property
    def op(self) -> str:
        """The standard operator's name; domain and name joined by "::" for everything else."""
        if self.proto.domain in STANDARD_DOMAINS and self.proto.op_type not in self.scope.graph.overridden:
            return str(self.proto.op_type)
        return f"{self.proto.domain}::{self.proto.op_type}"

    @property
    def output(self) -> str:
        """The name of its first output."""
        return self.outputs[0] if self.outputs else ""

    @property
    def schema(self) -> defs.OpSchema:
        """The operator's schema in the model's operator set, which the node was checked against.

        Raises:
            Refused: as `Graph.schema`, and "parameters" if the node breaks its schema.
        """
        schema = self.scope.graph.schema(self.op)
        if not self._is_checked:
            self.scope.graph.check(self)
            self._is_checked = True
        return schema

    @property
    def version(self) -> int:
        """The operator set in which the operator got its present meaning."""
        return int(self.schema.since_version)

    @cached_property
    def _attributes(self) -> dict[str, onnx.AttributeProto]:
        return {a.name: a for a in self.proto.attribute}

    def attribute(self, name: str) -> Any:
        """An attribute's value; the schema's default where it is absent, None where there is none."""
        if name in self._attributes:
            return helper.get_attribute_value(self._attributes[name])
        known = self.schema.attributes.get(name)
        if known is None or not known.default_value.type:
            return None
        return helper.get_attribute_value(known.default_value)

    def attribute_proto(self, name: str) -> onnx.AttributeProto | None:
        """The attribute's message, for payloads."""
        return self._attributes.get(name)

    def changed(self) -> None:
        """Call after the message's operator, attributes or constants changed: what was derived of them is stale."""
        self.__dict__.pop("_attributes", None)
        self.known_site = None
        for name in self.outputs:
            if self.scope.evaluated.pop(name, None) is not None:
                for edge in self.scope.uses[name]:
                    edge.node.changed()

    def has(self, index: int) -> bool:
        """Whether the optional input is given."""
        return index < len(self.inputs) and bool(self.inputs[index])

    def is_constant(self, index: int) -> bool:
        """Whether the input is given and has a value known now (and not to be overridden)."""
        return self.has(index) and constants.is_constant(self.scope, self.inputs[index])

    def weight(self, index: int) -> Weight:
        """The input as a floating-point constant.

        Raises:
            Refused: "weight-not-constant", "overridable", "not-float" or "too-large".
        """
        require(self.has(index), "weight-not-constant", f"{self.op} has no input {index}")
        return constants.weight(self.scope, self.inputs[index])

    def integers(self, index: int) -> list[int] | None:
        """The input as a flat list of integers, None if it is absent or not constant."""
        if not self.is_constant(index):
            return None
        return [int(value) for value in constants.array(self.scope, self.inputs[index]).reshape(-1)]

    def array(self, index: int) -> NDArray[Any]:
        """The constant input's values in its own type."""
        return constants.array(self.scope, self.inputs[index])

    def shape(self, index: int) -> Shape:
        """The shape of an input.

        Raises:
            Refused: "unknown-shape" if not even its rank is known.
        """
        return self.scope.known_shape(self.inputs[index])

    def rank(self, index: int) -> int:
        """The rank of an input; raises as `shape` does."""
        return len(self.shape(index))

    @property
    def output_shape(self) -> Shape:
        """The shape of the first output; raises as `shape` does."""
        return self.scope.known_shape(self.output)

    def dtype(self, index: int) -> np.dtype[Any] | None:
        """The element type of an input, None if unknown."""
        return self.scope.dtype(self.inputs[index])

    def __repr__(self) -> str:
        return f"{self.op}({', '.join(self.inputs)}) -> {', '.join(self.outputs)}"


class Scope:
    """One GraphProto (the main graph, or a body of If, Loop, Scan) and who produces and reads what in it."""

    def __init__(self, graph: Graph, proto: onnx.GraphProto, parent: Scope | None) -> None:
        self.graph, self.proto, self.parent = graph, proto, parent
        self.index = len(graph.scopes)
        graph.scopes.append(self)
        self.inputs = {value.name for value in proto.input}
        self.outputs = {value.name for value in proto.output}
        self.initializers = {tensor.name: tensor for tensor in proto.initializer}
        self.sparse = {sparse.values.name for sparse in proto.sparse_initializer}
        self.annotated = {note.tensor_name for note in proto.quantization_annotation}
        self.pinned = {
            entry.value for note in proto.quantization_annotation for entry in note.quant_parameter_tensor_names
        }
        self.captured: set[str] = set()  # names that nested graphs read
        self.constness: dict[str, Refused | None] = {}  # what `constants` found of names that operators make
        self.shadowing: set[str] = set()  # names that mean something else in an enclosing graph: readers disagree
        self.weights: dict[str, Weight] = {}  # constants that folds made: what an initializer of that name will hold
        self.evaluated: dict[str, Weight | NDArray[Any]] = {}  # constants of the file that were asked for
        self.made: dict[bytes, str] = {}  # the same constants by digest: equal ones are made once
        self.dropped: set[str] = set()  # names that folds took out
        self.restructured = False  # whether operators were added or taken out
        self.shapes: dict[str, Shape] = {}
        self.types: dict[str, int] = {}
        self.nodes = [Node(node, self) for node in proto.node]
        self.producers = {name: node for node in self.nodes for name in node.outputs if name}
        if parent is not None:
            own = {*self.producers, *self.inputs, *self.initializers, *self.sparse}
            self.shadowing = {name for name in own if parent.owner(name) is not None}
        self.uses: dict[str, list[Edge]] = defaultdict(list)
        for node in self.nodes:
            for index, name in enumerate(node.inputs):
                if name:
                    self.uses[name].append(Edge(node, index))
        for node in self.nodes:
            for body in shapes.bodies(node.proto):
                self._capture(Scope(graph, body, self))

    def _capture(self, inner: Scope) -> None:
        """Note what a nested graph reads here; its own constructor has noted what is nested deeper."""
        read = {*inner.uses, *inner.outputs, *inner.captured}
        own = {*inner.producers, *inner.inputs, *inner.initializers, *inner.sparse}
        self.captured |= read - own

    def owner(self, name: str) -> Scope | None:
        """The innermost scope, from this one outwards, that defines a name."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.producers or name in scope.initializers or name in scope.inputs or name in scope.weights:
                return scope
            if name in scope.sparse:
                return scope
            scope = scope.parent
        return None

    def is_overridable(self, name: str) -> bool:
        """Whether a caller may replace this initializer: it is a graph input too, from IR version 4 on."""
        if name not in self.inputs or self.graph.freeze_initializers:
            return False
        return self.parent is not None or self.graph.model.ir_version >= FIRST_IR_WITH_DEFAULTS

    def readers(self, name: str) -> list[Edge]:
        """The uses of a value that read its elements."""
        return [edge for edge in self.uses.get(name, ()) if edge.node.op not in SHAPE_READERS]

    def known_shape(self, name: str) -> Shape:
        """The shape of a value, its unknown dimensions None.

        Raises:
            Refused: "unknown-shape" if its rank is unknown.
        """
        shape = shapes.of(self, name)
        if shape is None:
            raise Refused("unknown-shape", f"the rank of {name!r} is unknown")
        return shape

    def dtype(self, name: str) -> np.dtype[Any] | None:
        """The element type of a value, None if unknown."""
        scope = self.owner(name)
        if scope is None:
            return None
        if name in scope.weights:
            return scope.weights[name].dtype
        code = scope.initializers[name].data_type if name in scope.initializers else scope.types.get(name, 0)
        return constants.dtype_of(code)


class Graph:
    """A whole model, indexed. `freeze_initializers` makes overridable initializers constants."""

    def __init__(self, file: OnnxFile, *, freeze_initializers: bool = False) -> None:
        self.file, self.model, self.freeze_initializers = file, file.model, freeze_initializers
        versions = {o.version for o in self.model.opset_import if o.domain in STANDARD_DOMAINS}
        if len(versions) > 1:
            raise ModelError(
                f"the model imports the standard operators in versions {sorted(versions)}; keep one of them"
            )
        self.opset = versions.pop() if versions else 1
        self.overridden = {f.name for f in self.model.functions if f.domain in STANDARD_DOMAINS}
        self.scopes: list[Scope] = []
        self._schemas: dict[str, defs.OpSchema] = {}
        self._context = checker.C.CheckerContext()
        self._context.ir_version = self.model.ir_version
        self._context.opset_imports = {"": self.opset, "ai.onnx": self.opset}
        self.main = Scope(self, self.model.graph, None)
        self.main.pinned |= set(_training_names(self.model))
        self.names = {name for scope in self.scopes for name in _all_names(scope)}

    def schema(self, op: str) -> defs.OpSchema:
        """The schema of an operator of the standard domain.

        Raises:
            Refused: "unknown-opset" if it may have got another meaning since, "custom-domain" if there is none.
        """
        if op not in self._schemas:
            newest = defs.onnx_opset_version()
            require(self.opset <= newest, "unknown-opset", f"opset {self.opset} is newer than {newest}, onnx's newest")
            try:
                self._schemas[op] = defs.get_schema(op, self.opset, "")
            except defs.SchemaError:
                raise Refused("custom-domain", f"{op} is not an operator of opset {self.opset}") from None
        return self._schemas[op]

    def check(self, node: Node) -> None:
        """Refuse a node that has not the inputs, outputs and attributes its schema asks for."""
        proto = onnx.NodeProto()
        proto.CopyFrom(node.proto)
        proto.domain = ""  # the other spelling, which the checker does not know
        try:
            checker.check_node(proto, self._context)
        except checker.ValidationError as error:
            reason = str(error).strip().splitlines()[0]
            raise Refused("parameters", f"the operator is malformed: {reason}", node.label) from None

    def infer_shapes(self) -> None:
        """Fill in the shapes and types of all values; call it before the first commit."""
        shapes.infer(self)

    def nodes(self) -> Iterator[Node]:
        """All operators of all scopes that are still there, outer scopes first."""
        return (node for scope in self.scopes for node in scope.nodes if not node.removed)

    def release(self) -> None:
        """Forget large constants that were evaluated while planning: few are asked for twice."""
        for scope in self.scopes:
            for name in [name for name, found in scope.evaluated.items() if found.nbytes > KEPT_BYTES]:
                del scope.evaluated[name]

    def fresh_name(self, wish: str) -> str:
        """A name nothing has yet, as close to `wish` as possible; it is taken from now on."""
        name, number = wish, 1
        while name in self.names:
            number += 1
            name = f"{wish}_{number}"
        self.names.add(name)
        return name


def _first(*names: str) -> str:
    return next(name for name in names if name)


def _training_names(model: onnx.ModelProto) -> Iterator[str]:
    """Every name that training information mentions: the training runtime may read or write it."""
    for info in model.training_info:
        for graph in (info.initialization, info.algorithm):
            for node in graph.node:
                yield from node.input
                yield from node.output
        for entry in (*info.initialization_binding, *info.update_binding):
            yield from (entry.key, entry.value)


def _all_names(scope: Scope) -> Iterator[str]:
    yield from (*scope.inputs, *scope.outputs, *scope.initializers, *scope.sparse, *scope.producers, *scope.uses)
    yield from (value.name for value in scope.proto.value_info)
