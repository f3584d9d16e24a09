"""What an adapter may know of the values around an operator, and the constants and operators that it may add there."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from folding.analysis import shapes
from folding.analysis.constants import LISTS
from folding.analysis.inlined import with_small_values
from folding.analysis.values import indexed
from folding.conversion.dimensions import all_graphs, values_of
from folding.graph.index import FIRST_IR_WITH_DEFAULTS
from folding.graph.node import bodies
from folding.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from folding.algebra.shape import Shape
    from folding.graph.index import Graph, Scope
    from folding.onnxfile import OnnxFile

SEQUENCES = frozenset({"SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SplitToSequence"})
OTHER_TYPES = {"sequence_type": "seq", "optional_type": "optional", "map_type": "map"}

Array = NDArray[Any]
Body = onnx.GraphProto | onnx.FunctionProto


class Known:
    """The index of the model as it was; it is built when something is asked of it, since few conversions do."""

    def __init__(self, file: OnnxFile) -> None:
        self._model = file.model
        self._file = file

    @cached_property
    def graph(self) -> Graph:
        """The index, with shapes and types."""
        model = with_small_values(self._file, self._model)
        graph = indexed(self._file.variant(model))
        shapes.infer(graph)
        graph.names.update(
            name for function in model.functions if not graph.reaches(function) for name in _names(function)
        )
        return graph

    @cached_property
    def others(self) -> dict[str, str]:
        """The values that are declared as no tensors, or made by an operator that makes none: seq or optional."""
        model = self._model
        graphs = [*all_graphs(model.graph)]
        graphs += [g for f in model.functions for node in f.node for one in bodies(node) for g in all_graphs(one)]
        found = {name: "seq" for body in (*graphs, *model.functions) for name in _made_sequences(body)}
        for value in (value for graph in graphs for value in values_of(graph)):
            kind = OTHER_TYPES.get(value.type.WhichOneof("value") or "")
            if kind is not None:
                found[value.name] = kind
        return found

    def scopes(self, function: int | None) -> list[Scope | None]:
        """The scopes of the main graph, or of the function with a number, and of what is nested in it.

        Empty for a function of another operator set, which the index does not know.
        """
        if function is None:
            return [scope for scope in self.graph.scopes if not scope.is_function and not scope.prefix]
        reached = [n for n, proto in enumerate(self.graph.model.functions) if self.graph.reaches(proto)]
        if function not in reached:
            return []
        starts = [n for n, scope in enumerate(self.graph.scopes) if scope.is_function]
        start = starts[reached.index(function)]
        nested: list[Scope | None] = [self.graph.scopes[start]]
        for scope in self.graph.scopes[start + 1 :]:
            if scope.is_function:
                break
            nested.append(scope)
        return nested


def _made_sequences(body: Body) -> Iterator[str]:
    return (name for node in body.node if node.op_type in SEQUENCES for name in node.output)


def _names(body: Body) -> Iterator[str]:
    yield from (value if isinstance(value, str) else value.name for value in (*body.input, *body.output))
    for node in body.node:
        yield from (node.name, *node.input, *node.output)
        for inner in bodies(node):
            yield from _names(inner)


class Here:
    """One graph or function body while its operators are converted.

    `scope` answers for values that the model has had; what adapters make is noted here. `omitted` are the inputs of
    this function that a call leaves out.
    """

    def __init__(
        self,
        proto: Body,
        scope: Callable[[], Scope | None],
        known: Known,
        ir: int,
        *,
        is_function: bool,
        omitted: Collection[str] = (),
    ) -> None:
        self.proto, self._scope, self._known, self.omitted = proto, scope, known, omitted
        self.constants: list[onnx.NodeProto] = []  # Constant nodes to put before all others
        self._as_nodes = is_function or ir < FIRST_IR_WITH_DEFAULTS
        self._facts: dict[str, tuple[int | None, Shape | None]] = {}
        self._arrays: dict[str, Array] = {}
        self._made: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    @cached_property
    def scope(self) -> Scope | None:
        """The scope in the index, None for a function of another operator set."""
        return self._scope()

    def shape(self, name: str) -> Shape | None:
        """The shape of a value, None for unknown dimensions; None if its rank is unknown."""
        if name in self._facts:
            return self._facts[name][1]
        return self.scope.values.shape(self.scope, name) if self.scope is not None and name else None

    def rank(self, name: str) -> int | None:
        """The rank of a value, None if it is unknown."""
        shape = self.shape(name)
        return None if shape is None else len(shape)

    def length(self, name: str, axis: int) -> int | None:
        """The length of a value along an axis, None if it is unknown."""
        shape = self.shape(name)
        found = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
        return found if isinstance(found, int) else None

    def code(self, name: str) -> int | None:
        """The element type of a value as in TensorProto, None if it is unknown."""
        if name in self._facts:
            return self._facts[name][0]
        owner = self.scope.owner(name) if self.scope is not None and name else None
        if owner is None:
            return None
        tensor = owner.initializers.get(name)
        return (tensor.data_type if tensor is not None else owner.types.get(name, 0)) or None

    def other(self, name: str) -> str:
        """What a value is that is no tensor: seq, optional or map; "" if it is one, or that is unknown."""
        return self._known.others.get(name, "")

    def array(self, name: str) -> Array | None:
        """The values of a constant; None for any other value."""
        if name in self._arrays:
            return self._arrays[name]
        if self.scope is None:
            return self._of_node(name)
        if not name or name in self._facts or not self.scope.values.is_constant(self.scope, name):
            return None
        try:
            return self.scope.values.array(self.scope, name)
        except Refused:
            return None

    def _of_node(self, name: str) -> Array | None:
        """The value of a Constant node in a function that the index does not know."""
        for node in self.proto.node:
            if name in node.output and node.op_type == "Constant" and node.attribute[0].name == "value":
                return numpy_helper.to_array(node.attribute[0].t)
        return None

    def integers(self, name: str) -> list[int] | None:
        """The values of a constant as a flat list; None for any other value."""
        found = self.array(name)
        return None if found is None else [int(n) for n in found.reshape(-1)]

    def is_read(self, name: str) -> bool:
        """Whether anything reads a value."""
        return self.scope is None or bool(self.scope.uses.get(name)) or self.scope.is_seen(name)

    def note(self, name: str, code: int | None, shape: Shape | None) -> None:
        """Record the type and shape of a value that an adapter made."""
        self._facts[name] = code, shape

    def fresh(self, wish: str) -> str:
        """A new unique name, as close to `wish` as possible."""
        return self._known.graph.fresh_name(wish)

    def constant(self, values: Any, wish: str) -> str:
        """The name of a constant, which equal ones share: a new initializer or a Constant node.

        A Constant node where initializers are inputs (IR versions before 4), and in functions, which have none.
        """
        array = np.asarray(values)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key in self._made:
            return self._made[key]
        name = self.fresh(wish)
        tensor = numpy_helper.from_array(array, name)
        self._arrays[name] = array
        self.note(name, tensor.data_type, array.shape)
        if self._as_nodes:
            self.constants.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            assert isinstance(self.proto, onnx.GraphProto)  # noqa: S101  functions have nodes
            self.proto.initializer.append(tensor)
        self._made[key] = name
        return name

    def new(
        self, op: str, inputs: list[str], wish: str, shape: Shape | None = None, code: int | None = None, **given: Any
    ) -> onnx.NodeProto:
        """A new operator with one output, whose type is that of its first input unless `code` says otherwise."""
        output = self.fresh(wish)
        node = helper.make_node(op, inputs, [output], name=self.fresh(f"{wish}.{op.lower()}"), **given)
        self.note(output, code if code is not None else self.code(inputs[0]) if inputs else None, shape)
        return node

    def learn(self, node: onnx.NodeProto) -> None:
        """Note the value of a Constant node that an adapter made."""
        one = node.attribute[0] if node.op_type == "Constant" and len(node.attribute) == 1 else None
        if one is None or one.name not in (*LISTS, "value"):
            return
        value = helper.get_attribute_value(one)
        array = numpy_helper.to_array(value) if one.name == "value" else np.asarray(value, LISTS[one.name])
        self._arrays[node.output[0]] = array
        self.note(node.output[0], helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    def behind(self, node: onnx.NodeProto, wish: str) -> str:
        """Give a new name to the first output of an operator, whose old name it returns for an operator behind it."""
        old = node.output[0]
        inner = self.fresh(f"{old}_{wish}")
        self.note(inner, self.code(old), self.shape(old))
        node.output[0] = inner
        return str(old)


def dtype_of(code: int | None) -> np.dtype[Any] | None:
    """The NumPy type of an element type, None if it is unknown or has none."""
    try:
        return helper.tensor_dtype_to_np_dtype(code) if code else None
    except KeyError:
        return None


INT64 = TensorProto.INT64
