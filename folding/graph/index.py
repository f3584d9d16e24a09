"""An index over a ModelProto: scopes, nodes, producers, consumers, shapes. The message stays the only graph."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx
from onnx import checker, defs, helper

from folding.errors import ModelError
from folding.graph.dtypes import dtype_of
from folding.graph.node import STANDARD_DOMAINS, Edge, Node, bodies
from folding.graph.weights import Weight
from folding.refusal import Refused, require

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from folding.algebra.shape import Shape
    from folding.onnxfile import OnnxFile

# The first opset in which an operator broadcasts as in NumPy; no other operator here has an operand to broadcast
BROADCASTS = {"Add": 7, "Mul": 7, "Max": 8, "Min": 8}
# The first opset in which ONNX Runtime's CPU provider (1.32) computes an operator in a type; inf means never
COMPUTED = {("Clip", "float64"): 12, ("Conv", "float64"): math.inf}
FIRST_IR_WITH_DEFAULTS = 4  # before it, an initializer had to be a graph input and was not a default value
KEPT_BYTES = 1 << 16  # of an evaluated constant; smaller ones are kept for good
HELD_BYTES = 1 << 28  # of all larger ones together


class Values(Protocol):
    """The only access to what is known of a value without running the model: whether it is constant, and its shape.

    The modules that determine this (`constants`, `shapes`) read scopes and nodes. Scopes and nodes use this protocol
    and do not import those modules.
    """

    def is_constant(self, scope: Scope, name: str) -> bool:
        """Whether the name has a known value that no caller may override."""
        ...

    def weight(self, scope: Scope, name: str) -> Weight:
        """A floating-point constant; raises Refused if it is not one."""
        ...

    def array(self, scope: Scope, name: str) -> NDArray[Any]:
        """A constant's values in its stored type; raises as `weight` does."""
        ...

    def shape(self, scope: Scope, name: str) -> Shape | None:
        """The shape of a value, None for unknown dimensions; None if its rank is unknown."""
        ...


class Nodes:
    """The operators of a scope in order. Inserting one takes constant time; the next reader puts the list together."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes = list(nodes)
        self._first: list[Node] = []  # what was inserted in front of all
        self._behind: dict[Node, list[Node]] = {}  # what was inserted directly behind each, the last one first
        self._ahead: dict[Node, list[Node]] = {}  # what was inserted ahead of each, in order

    def insert_behind(self, node: Node, new: Node) -> None:
        """Insert an operator directly behind another one."""
        self._behind.setdefault(node, []).append(new)

    def insert_ahead(self, node: Node, new: Node) -> None:
        """Insert an operator ahead of another one, behind those that were inserted there before."""
        self._ahead.setdefault(node, []).append(new)

    def insert_first(self, new: Node) -> None:
        """Insert an operator in front of all others, behind those that were inserted so before."""
        self._first.append(new)

    def __iter__(self) -> Iterator[Node]:
        if self._first:
            self._nodes, self._first = [*self._first, *self._nodes], []
        if self._behind or self._ahead:
            waiting = self._nodes[::-1]
            self._nodes = []
            while waiting:
                node = waiting.pop()
                if node in self._ahead:
                    waiting += [node, *self._ahead.pop(node)[::-1]]
                    continue
                self._nodes.append(node)
                waiting += self._behind.pop(node, ())
        return iter(self._nodes)


class Scope:
    """A graph (the main one, a body of If, Loop, Scan) or a function, with the producers and readers of its names."""

    def __init__(self, graph: Graph, proto: onnx.GraphProto | onnx.FunctionProto, parent: Scope | None) -> None:
        self.graph, self.proto, self.parent, self.values = graph, proto, parent, graph.values
        self.holder: Node | None = None  # the operator whose body it is
        self.index = len(graph.scopes)
        graph.scopes.append(self)
        self.is_function = isinstance(proto, onnx.FunctionProto)
        self.prefix: str = parent.prefix if parent else f"{proto.name}/" if self.is_function else ""  # of labels
        tables = _interface(proto) if isinstance(proto, onnx.FunctionProto) else proto
        self.inputs = {value.name for value in tables.input}
        self.outputs = {value.name for value in tables.output}
        self.initializers = {tensor.name: tensor for tensor in tables.initializer}
        self.sparse = {sparse.values.name: sparse for sparse in tables.sparse_initializer}
        self.annotated = {note.tensor_name for note in tables.quantization_annotation}
        self.pinned = {
            entry.value for note in tables.quantization_annotation for entry in note.quant_parameter_tensor_names
        }
        self.captured: set[str] = set()  # names that nested graphs read
        self.constness: dict[str, Refused | None] = {}  # the result of `constants` for the outputs of operators
        self.shadowing: set[str] = set()  # names with another meaning in an enclosing graph: readers disagree
        self.weights: dict[str, Weight] = {}  # constants that folds made, by the name of their initializer
        self.evaluated: dict[str, Weight | NDArray[Any]] = {}  # constants of the file that were requested
        self.made: dict[bytes, str] = {}  # names of the same constants by digest, so that equal ones are made once
        self.dropped: set[str] = set()  # names that folds removed
        self.restructured = False  # whether operators were added or removed
        self.shapes: dict[str, Shape] = {name: tuple(sparse.dims) for name, sparse in self.sparse.items()}
        self.types: dict[str, int] = {name: sparse.values.data_type for name, sparse in self.sparse.items()}
        self.nodes = Nodes(Node(node, self) for node in proto.node)
        self.producers = {name: node for node in self.nodes for name in node.outputs if name}
        if parent is not None:
            own = {*self.producers, *self.inputs, *self.initializers, *self.sparse}
            self.shadowing = {name for name in own if parent.owner(name) is not None}
        # Constants of the file under this name, whatever a caller or a fold does: the answer to most questions here
        self.settled = {*self.initializers, *self.sparse} - self.overridable - self.shadowing
        self.uses: dict[str, dict[Edge, None]] = defaultdict(dict)  # a dict is a set in order
        for node in self.nodes:
            for index, name in enumerate(node.inputs):
                if name:
                    self.uses[name][Edge(node, index)] = None
        for node in self.nodes:
            for body in bodies(node.proto):
                inner = Scope(graph, body, self)
                inner.holder = node
                self._capture(inner)

    def _capture(self, inner: Scope) -> None:
        """Record what a nested graph reads here; its constructor has recorded what is nested deeper."""
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

    @property
    def overridable(self) -> set[str]:
        """The initializers that a caller may override."""
        shared = self.inputs & self.initializers.keys() | self.inputs & self.sparse.keys()
        return {name for name in shared if self.is_overridable(name)}

    def is_overridable(self, name: str) -> bool:
        """Whether a caller may override this initializer: from IR version 4 on, if it is a graph input too."""
        if name not in self.inputs or self.graph.freeze_initializers:
            return False
        return self.parent is not None or self.graph.model.ir_version >= FIRST_IR_WITH_DEFAULTS

    def readers(self, name: str) -> Iterator[Edge]:
        """The uses of a value that read its elements."""
        return (edge for edge in self.uses.get(name, ()) if edge.reads_values)

    def is_seen(self, name: str) -> bool:
        """Whether more than the operators here reads a value: a caller, a nested graph or training information."""
        return name in self.outputs or name in self.captured or name in self.pinned

    def known_shape(self, name: str) -> Shape:
        """The shape of a value, None for unknown dimensions.

        Raises:
            Refused: "unknown-shape" if its rank is unknown.
        """
        shape = self.values.shape(self, name)
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
        return dtype_of(code)


class Graph:
    """The index of a whole model. `freeze_initializers` treats overridable initializers as constants.

    `folding.analysis.values.indexed` builds one, with access to its constants and shapes.
    """

    def __init__(self, file: OnnxFile, values: Values, *, freeze_initializers: bool = False) -> None:
        self.file, self.model, self.values, self.freeze_initializers = file, file.model, values, freeze_initializers
        versions = {o.version for o in self.model.opset_import if o.domain in STANDARD_DOMAINS}
        if len(versions) > 1:
            raise ModelError(
                f"the model imports the standard operators in versions {sorted(versions)}; keep one of them"
            )
        self.opset = versions.pop() if versions else 1
        self.inference_failure = ""  # why shape inference of the whole model ended early
        self.overridden = {f.name for f in self.model.functions if f.domain in STANDARD_DOMAINS}
        self.scopes: list[Scope] = []
        self._held: deque[tuple[Scope, str, int]] = deque()  # large constants that were evaluated, with their bytes
        self._held_bytes = 0
        self._numbers: dict[str, int] = {}  # of the last fresh name for each wish
        self._schemas: dict[str, defs.OpSchema] = {}
        self._defaults: dict[tuple[str, str], Any] = {}  # of attributes, by operator and name
        self._sound: set[tuple[object, ...]] = set()  # what is alike in operators that fit their schema, see `check`
        self._context = checker.C.CheckerContext()
        self._context.ir_version = self.model.ir_version
        self._context.opset_imports = {"": self.opset, "ai.onnx": self.opset}
        self.main = Scope(self, self.model.graph, None)
        self.main.pinned |= set(_training_names(self.model))
        for function in filter(self.reaches, self.model.functions):
            Scope(self, function, None)
        self.names: set[str] = set().union(*map(_all_names, self.scopes))

    def reaches(self, function: onnx.FunctionProto) -> bool:
        """Whether a function imports the model's standard operator set, so that it becomes a scope."""
        versions = {o.version for o in function.opset_import if o.domain in STANDARD_DOMAINS}
        return versions == {self.opset} and self.model.ir_version >= FIRST_IR_WITH_DEFAULTS

    def schema(self, op: str) -> defs.OpSchema:
        """The schema of an operator of the standard domain.

        Raises:
            Refused: "unknown-opset" if its meaning may have changed since, "custom-domain" if it has no schema.
        """
        if op not in self._schemas:
            newest = defs.onnx_opset_version()
            require(self.opset <= newest, "unknown-opset", f"opset {self.opset} is newer than {newest}, onnx's newest")
            try:
                self._schemas[op] = defs.get_schema(op, self.opset, "")
            except defs.SchemaError:
                raise Refused("custom-domain", f"{op} is not an operator of opset {self.opset}") from None
        return self._schemas[op]

    def default(self, op: str, name: str) -> Any:
        """The default of an operator's attribute, None if it has none; raises as `schema` does."""
        if (op, name) not in self._defaults:
            known = self.schema(op).attributes.get(name)
            default = None if known is None else known.default_value
            self._defaults[op, name] = helper.get_attribute_value(default) if default and default.type else None
        return self._defaults[op, name]

    def computes(self, op: str, dtype: np.dtype[Any]) -> bool:
        """Whether the model's operator set has the operator for this type, with NumPy's broadcasting."""
        since = max(BROADCASTS.get(op, 1), COMPUTED.get((op, dtype.name), 1))
        if self.opset < since or op in self.overridden:
            return False
        name = {"float32": "float", "float64": "double"}.get(dtype.name, dtype.name)
        return any(f"tensor({name})" in c.allowed_type_strs for c in self.schema(op).type_constraints)

    def check(self, node: Node) -> None:
        """Refuse a node whose inputs, outputs or attributes do not fit its schema."""
        given = tuple(map(bool, node.inputs)), tuple(map(bool, node.outputs))  # all that a schema says about names
        alike = (node.op, *given, *(attribute.SerializeToString() for attribute in node.proto.attribute))
        if alike in self._sound:
            return
        proto = onnx.NodeProto()
        proto.CopyFrom(node.proto)
        proto.domain = ""  # the checker does not know the spelling "ai.onnx"
        try:
            checker.check_node(proto, self._context)
            self._sound.add(alike)
        except checker.ValidationError as error:
            reason = str(error).strip().splitlines()[0]
            raise Refused("parameters", f"the operator is malformed: {reason}", node.label) from None

    def nodes(self) -> Iterator[Node]:
        """All operators of all scopes that were not removed, outer scopes first."""
        return (node for scope in self.scopes for node in scope.nodes if not node.removed)

    def hold(self, scope: Scope, name: str, found: Weight | NDArray[Any]) -> None:
        """Keep a constant that was evaluated: a small one for good, a large one as long as `release` lets it."""
        scope.evaluated[name] = found
        values = found.base if isinstance(found, Weight) else found  # a span of the file takes no memory
        if isinstance(values, np.ndarray) and values.nbytes > KEPT_BYTES:
            self._held.append((scope, name, values.nbytes))
            self._held_bytes += values.nbytes

    def release(self) -> None:
        """Release the oldest of the large constants that were evaluated while planning, down to HELD_BYTES."""
        while self._held_bytes > HELD_BYTES:
            scope, name, nbytes = self._held.popleft()
            scope.evaluated.pop(name, None)
            self._held_bytes -= nbytes

    def fresh_name(self, wish: str) -> str:
        """A new unique name, as close to `wish` as possible; it is reserved from now on."""
        name, number = wish, self._numbers.get(wish, 1)
        while name in self.names:
            number += 1
            name = f"{wish}_{number}"
        self._numbers[wish] = number
        self.names.add(name)
        return name


def _interface(function: onnx.FunctionProto) -> onnx.GraphProto:
    """The inputs and outputs of a function as a graph without operators; a function has no initializers."""
    values = [[onnx.ValueInfoProto(name=name) for name in names] for names in (function.input, function.output)]
    return onnx.GraphProto(input=values[0], output=values[1])


def _training_names(model: onnx.ModelProto) -> Iterator[str]:
    """Every name in the training information; the training runtime may read or write it."""
    for info in model.training_info:
        for graph in (info.initialization, info.algorithm):
            for node in graph.node:
                yield from node.input
                yield from node.output
        for entry in (*info.initialization_binding, *info.update_binding):
            yield from (entry.key, entry.value)


def _all_names(scope: Scope) -> set[str]:
    names = scope.inputs.union(scope.outputs, scope.initializers, scope.sparse, scope.producers, scope.uses)
    names.update(node.proto.name for node in scope.nodes)  # an operator that a fold adds gets a unique name
    return names.union(value.name for value in scope.proto.value_info)
