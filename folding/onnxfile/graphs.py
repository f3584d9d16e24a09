"""Check every graph: each name that is read has exactly one source, and there are no cycles and no recursion."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from folding.errors import ModelError
from folding.onnxfile.scopes import OUTSIDE, Scope, node_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

    from folding.onnxfile.limits import Limits

FunctionKey = tuple[str, str, str]  # domain, name, overload


class Place(NamedTuple):
    """A tensor of a model, and its owner."""

    tensor: TensorProto
    owner: NodeProto | str = ""  # the node or function whose attribute holds it
    sparse: bool = False  # part of a sparse tensor

    @property
    def label(self) -> str:
        """The name of the tensor in messages."""
        if self.tensor.name:
            return str(self.tensor.name)
        owner = self.owner if isinstance(self.owner, str) else node_label(self.owner)
        return f"a tensor of {owner}" if owner else "an initializer without a name"


def function_key(domain: str, name: str, overload: str) -> FunctionKey:
    """The key that matches a call to a function; "ai.onnx" is the long name of the default domain."""
    return ("" if domain == "ai.onnx" else domain, name, overload)


class Body(NamedTuple):
    """The contents of a function or the main graph, including subgraphs."""

    nodes: int
    calls: Counter[FunctionKey]  # how often it calls each function


class GraphCheck:
    """Visit every graph, function and tensor of a model once; bounded by `limits`, linear in the model's size.

    `run` leaves all tensors in `places`.

    Raises (from `run`):
        ModelError: there is no graph, a name has two sources or none, or there is a cycle or a recursive function.
        LimitError: nodes, initializers, attributes, functions or expanded_nodes is exceeded.
    """

    def __init__(self, model: ModelProto, limits: Limits) -> None:
        self.places: list[Place] = []
        self._model, self._limits = model, limits
        self._totals: Counter[str] = Counter()
        self._functions: dict[FunctionKey, FunctionProto] = {}
        self._calls: Counter[FunctionKey] = Counter()  # in the function or main graph that is visited now

    def run(self) -> None:
        """Check everything."""
        for function in self._model.functions:
            key = function_key(function.domain, function.name, function.overload)
            if key in self._functions:
                raise ModelError(f'the function "{_name(key)}" is defined twice')
            self._functions[key] = function
        self._limits.hold("functions", len(self._functions))
        main = self._graph(self._model.graph)
        _refuse_unknown(main.captures, set(), main.where)
        body = Body(self._totals["nodes"], self._calls)
        bodies = {key: self._function(key, function) for key, function in self._functions.items()}
        names = main.names
        for training in self._model.training_info:
            for graph in (training.initialization, training.algorithm):
                scope = self._graph(graph)
                _refuse_unknown(scope.captures, names, scope.where)
        self._expand(body, bodies)

    def _count(self, name: str, more: int) -> None:
        self._totals[name] += more
        self._limits.hold(name, self._totals[name])

    def _function(self, key: FunctionKey, function: FunctionProto) -> Body:
        before, self._calls = self._totals["nodes"], Counter()
        where = f'the function "{_name(key)}"'
        scope = Scope(where)
        scope.define(function.input, OUTSIDE)
        self._body(function.node, scope)
        for attribute in function.attribute_proto:
            self._attribute(attribute, where)
        scope.read_outputs(function.output)
        _refuse_unknown(scope.captures, set(), where)
        return Body(self._totals["nodes"] - before, self._calls)

    def _graph(self, graph: GraphProto) -> Scope:
        scope = Scope(f'graph "{graph.name}"' if graph.name else "the graph")
        scope.define((value.name for value in graph.input), OUTSIDE)
        self._count("initializers", len(graph.initializer) + len(graph.sparse_initializer))
        scope.define_initializers(graph)
        self.places += (Place(tensor) for tensor in graph.initializer)
        for sparse in graph.sparse_initializer:
            self._sparse(sparse, "")
        self._body(graph.node, scope)
        scope.read_outputs([value.name for value in graph.output])
        return scope

    def _body(self, nodes: Sequence[NodeProto], scope: Scope) -> None:
        self._count("nodes", len(nodes))
        inner: dict[int, set[str]] = {}  # names that the subgraphs of a node read from this scope
        functions, calls, define, read = self._functions, self._calls, scope.define, scope.read
        for index, node in enumerate(nodes):
            read(node.input, index)
            if attributes := node.attribute:
                self._count("attributes", len(attributes))
                captured = {name for attribute in attributes for name in self._attribute(attribute, node)}
                if captured:
                    inner[index] = captured
                    read(captured, index)
            define(node.output, index)
            if functions and (key := function_key(node.domain, node.op_type, node.overload)) in functions:
                calls[key] += 1
        scope.settle(nodes, inner)

    def _attribute(self, attribute: AttributeProto, owner: NodeProto | str) -> set[str]:
        """Record the tensors of an attribute; return the names that its graphs read from outside.

        All its contents count, whatever type it declares, because another reader may use either.
        """
        has = attribute.HasField
        captured: set[str] = set()
        if has("t"):
            self.places.append(Place(attribute.t, owner))
        if has("sparse_tensor"):
            self._sparse(attribute.sparse_tensor, owner)
        if has("g"):
            captured |= self._graph(attribute.g).captures.keys()
        for tensor in attribute.tensors:
            self.places.append(Place(tensor, owner))
        for sparse in attribute.sparse_tensors:
            self._sparse(sparse, owner)
        for graph in attribute.graphs:
            captured |= self._graph(graph).captures.keys()
        return captured

    def _sparse(self, sparse: SparseTensorProto, owner: NodeProto | str) -> None:
        parts = [getattr(sparse, part) for part in ("values", "indices") if sparse.HasField(part)]
        self.places += (Place(tensor, owner, sparse=True) for tensor in parts)

    def _expand(self, main: Body, bodies: dict[FunctionKey, Body]) -> None:
        """Check expanded_nodes. A function's size is computed once, after those of the functions that it calls."""
        sizes: dict[FunctionKey, int] = {}
        most = self._limits.expanded_nodes + 1  # sizes are capped here, because huge ones are slow to compute

        def size(body: Body) -> int:
            return min(most, body.nodes + sum(times * (sizes[callee] - 1) for callee, times in body.calls.items()))

        for key in _callees_first(bodies):
            sizes[key] = size(bodies[key])
        self._limits.hold("expanded_nodes", size(main), "the model with its functions expanded")


def _callees_first(bodies: dict[FunctionKey, Body]) -> Iterator[FunctionKey]:
    """All functions, each after those that it calls; a call chain may have any length.

    Raises:
        ModelError: a function calls itself, directly or through others.
    """
    done: set[FunctionKey] = set()
    for root, body in bodies.items():
        path = {root: iter(body.calls)} if root not in done else {}
        while path:
            key, callees = next(reversed(path.items()))
            callee = next(callees, None)
            if callee is None:
                del path[key]
                done.add(key)
                yield key
            elif callee in path:
                raise ModelError(f'the function "{_name(callee)}" calls itself (through "{_name(key)}")')
            elif callee not in done:
                path[callee] = iter(bodies[callee].calls)


def _name(key: FunctionKey) -> str:
    return ".".join(part for part in key if part)


def _refuse_unknown(captures: dict[str, str], known: set[str], where: str) -> None:
    for name, reader in captures.items():
        if name not in known:
            raise ModelError(f'{where}: {reader} "{name}", which nothing produces')
