"""One operator of a graph, and one of its inputs, with all that the rules may ask about them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx
from onnx import defs, helper

from folding.refusal import Refused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from folding.algebra.shape import Shape
    from folding.graph.index import Scope
    from folding.graph.weights import Weight

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})  # two spellings of one domain (ONNX IR specification)
SHAPE_READERS = frozenset({"Shape", "Size"})  # they read no values, so a change of values does not affect them
CAST_LIKE, LIKE = "CastLike", 1  # it reads the type of this input, and no values of it


class Edge(NamedTuple):
    """The input with number `index` of `node`."""

    node: Node
    index: int  # type: ignore[assignment]  # instead of the method of tuples

    @property
    def reads_values(self) -> bool:
        """Whether the operator depends on the elements, not only on the shape or the type."""
        return self.node.op not in SHAPE_READERS and (self.node.op, self.index) != (CAST_LIKE, LIKE)


class Node:
    """One operator, with all that the rules may ask about it. Only `folding.editing.surgery` changes it."""

    def __init__(self, proto: onnx.NodeProto, scope: Scope) -> None:
        self.proto, self.scope = proto, scope
        self.inputs: list[str] = proto.input[:]
        self.outputs: list[str] = proto.output[:]
        first = next(filter(None, self.outputs), "")
        self.label = scope.prefix + (proto.name or first or proto.op_type)
        self.key = f"{scope.index}:{first or self.label}"
        self.removed = False
        self.op = self._operator()
        self.is_made = False  # whether a fold made it, so that it is not part of the user's model
        self._is_checked = False  # against its schema
        self.known_site: object = None  # the result of `sites.affine_of`; see `changed`

    def _operator(self) -> str:
        """The standard operator's name; domain and name joined by "::" for everything else."""
        domain, name = self.proto.domain, self.proto.op_type
        is_standard = domain in STANDARD_DOMAINS and name not in self.scope.graph.overridden
        return name if is_standard else f"{domain}::{name}"

    @property
    def output(self) -> str:
        """The name of its first output."""
        return self.outputs[0] if self.outputs else ""

    @property
    def schema(self) -> defs.OpSchema:
        """The operator's schema in the model's operator set; the node is checked against it.

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
        """The opset in which the operator got its present meaning."""
        return int(self.schema.since_version)

    @cached_property
    def _attributes(self) -> dict[str, onnx.AttributeProto]:
        return {a.name: a for a in self.proto.attribute}

    def attribute(self, name: str) -> Any:
        """An attribute's value; the schema's default if it is absent, None if there is no default.

        Raises:
            Refused: "attribute-reference" if each call of a function sets its value; and as `schema`.
        """
        given = self._attributes.get(name)
        if given is not None:
            if reference := given.ref_attr_name:
                raise Refused("attribute-reference", f"{name} is the function's {reference}", self.label)
            return helper.get_attribute_value(given)
        _ = self.schema  # raises for a malformed operator
        return self.scope.graph.default(self.op, name)

    def attribute_proto(self, name: str) -> onnx.AttributeProto | None:
        """The attribute's message, which holds its payload."""
        return self._attributes.get(name)

    def changed(self) -> None:
        """Call this after the operator type, attributes or constants changed; it drops the values derived from them."""
        self.__dict__.pop("_attributes", None)
        self.op = self._operator()
        self.known_site = None
        for name in self.outputs:
            if self.scope.evaluated.pop(name, None) is not None:
                for edge in list(self.scope.uses[name]):
                    edge.node.changed()

    def has(self, index: int) -> bool:
        """Whether the optional input is given."""
        return index < len(self.inputs) and bool(self.inputs[index])

    def is_constant(self, index: int) -> bool:
        """Whether the input is given and has a known value that no caller may override."""
        if index >= len(self.inputs) or not (name := self.inputs[index]):
            return False
        return name in self.scope.settled or self.scope.values.is_constant(self.scope, name)

    def weight(self, index: int) -> Weight:
        """The input as a floating-point constant.

        Raises:
            Refused: "weight-not-constant", "overridable", "not-float" or "too-large".
        """
        if not self.has(index):
            raise Refused("weight-not-constant", f"{self.op} has no input {index}")
        return self.scope.values.weight(self.scope, self.inputs[index])

    def integers(self, index: int) -> list[int] | None:
        """The input as a flat list of integers, None if it is absent or not constant."""
        if not self.is_constant(index):
            return None
        return [int(value) for value in self.scope.values.array(self.scope, self.inputs[index]).reshape(-1)]

    def array(self, index: int) -> NDArray[Any]:
        """The constant input's values in its stored type."""
        return self.scope.values.array(self.scope, self.inputs[index])

    def shape(self, index: int) -> Shape:
        """The shape of an input.

        Raises:
            Refused: "unknown-shape" if its rank is unknown.
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

    def computes(self, op: str) -> bool:
        """Whether the operator `op` exists for the dtype of this node's value, see `Graph.computes`."""
        dtype = self.dtype(0) or self.scope.dtype(self.output)
        return dtype is not None and self.scope.graph.computes(op, dtype)

    def __repr__(self) -> str:
        return f"{self.op}({', '.join(self.inputs)}) -> {', '.join(self.outputs)}"


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs that an operator holds as attributes."""
    found: list[onnx.GraphProto] = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found.append(attribute.g)
        if attribute.graphs:
            found += attribute.graphs
    return found
