"""Skeleton: the graph of a module as an ONNX model in which the operators that can fold are ONNX's own.

All others are operators of a domain of ours, which folding leaves alone. Every operator and every value has a name by
which it is found again in the folded model: values are "%" and the name of the node in the module's graph, constants
have the names of the module's parameters and buffers, and what a translation adds begins with "#".
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch.fx import Node as Fx

from folding.torch.examples import array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from folding.torch.capture import Captured
    from folding.torch.modules import Names

OPSET, IR = 17, 9
OPAQUE = "bnfold.torch"  # the domain of operators that are carried over as they are
TYPES = {
    torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE,
    torch.float16: TensorProto.FLOAT16,
    torch.bfloat16: TensorProto.BFLOAT16,
    torch.int64: TensorProto.INT64,
    torch.int32: TensorProto.INT32,
    torch.int16: TensorProto.INT16,
    torch.int8: TensorProto.INT8,
    torch.uint8: TensorProto.UINT8,
    torch.bool: TensorProto.BOOL,
    torch.complex64: TensorProto.COMPLEX64,
    torch.complex128: TensorProto.COMPLEX128,
}
Operand: TypeAlias = Fx | str  # a node of the module's graph, or the name of a constant that a translation added


class UntranslatedError(Exception):
    """An operator has no form in ONNX that folding would know; it is carried over as it is."""


@dataclass
class Origin:
    """Where an operator of the skeleton comes from: its node, and how that can be copied with other operands."""

    node: Fx
    slots: tuple[int | None, ...] | None  # of every node among the arguments, in order, which input of the operator it
    # is, None for one that is no input; None for an operator that is only a part of what the node does
    inputs: tuple[str, ...]
    parts: tuple[int, ...]  # of every output, which part of the node's result it is; () where that is one tensor


@dataclass
class Skeleton:
    """A model under construction; `model` finishes it."""

    captured: Captured
    names: Names
    origins: dict[str, Origin] = field(default_factory=dict)  # by the name of the ONNX operator
    modules: dict[str, str] = field(default_factory=dict)  # of every operator, by its name
    constants: dict[str, torch.Tensor] = field(default_factory=dict)  # values by name, as stored
    evaluated: dict[str, Fx] = field(default_factory=dict)  # nodes that compute a constant, by its name

    def __post_init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._needed: set[str] = set()  # constants whose values folding must know
        self._read: dict[str, torch.Tensor] = {}  # constants that any operator reads
        self._taken: Counter[str] = Counter()
        self._known: dict[Fx, torch.Tensor | None] = {}
        self._values: dict[str, Any] = {}  # what is known of a value's shape and type, by name

    # --- what translations ask ----------------------------------------------------------------------------

    def like(self, node: Fx) -> torch.Tensor:
        """What torch.export knows of a node's value: its shape and type.

        Raises:
            UntranslatedError: it is no tensor.
        """
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            return value
        constant = self.constant(node)
        if constant is None:
            raise UntranslatedError
        return constant

    def shape(self, node: Fx) -> tuple[int | None, ...]:
        """The shape of a node's value, None for what is open."""
        return tuple(size if isinstance(size, int) else None for size in self.like(node).shape)

    def constant(self, node: Fx) -> torch.Tensor | None:
        """The value of a node that does not depend on the inputs; None of others."""
        if node not in self._known:
            self._known[node] = self._constant(node)
        return self._known[node]

    def _constant(self, node: Fx) -> torch.Tensor | None:
        if node.op == "get_attr":
            found = self.captured.tensor(str(node.target))
            return found.detach() if isinstance(found, torch.Tensor) else None
        target: Any = node.target
        if node.op != "call_function" or torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
            return None
        if not isinstance(node.meta.get("val"), torch.Tensor) or not isinstance(target, torch._ops.OpOverload):
            return None
        values = {other: self.constant(other) for other in node.all_input_nodes}
        if any(value is None for value in values.values()):
            return None
        args, kwargs = torch.fx.map_arg((node.args, dict(node.kwargs)), values.__getitem__)
        with torch.no_grad():
            result = target(*args, **kwargs)
        return result if isinstance(result, torch.Tensor) else None

    def known(self, operand: Operand) -> torch.Tensor:
        """The value of a constant operand.

        Raises:
            UntranslatedError: it depends on the inputs.
        """
        value = self.constants.get(operand) if isinstance(operand, str) else self.constant(operand)
        if value is None:
            raise UntranslatedError
        return value

    def added(self, node: Fx, suffix: str, value: torch.Tensor) -> str:
        """The name of a constant that a translation adds beside a node."""
        name = f"#{node.name}.{suffix}"
        self.constants[name] = self._read[name] = value
        self._needed.add(name)
        return name

    def value(self, operand: Operand, *, needed: bool = True) -> str:
        """The name of a value; of a constant, `needed` says that folding must know what it is."""
        if isinstance(operand, str):
            return operand
        if operand.op != "placeholder" and (constant := self.constant(operand)) is not None:
            name = str(operand.target) if operand.op == "get_attr" else f"%{operand.name}"
            if operand.op != "get_attr":
                self.evaluated[name] = operand
            self.constants[name] = self._read[name] = constant
            if needed:
                self._needed.add(name)
            return name
        if operand.target is operator.getitem and isinstance(operand.args[0], Fx):
            return f"%{operand.args[0].name}.{operand.args[1]}"
        return f"%{operand.name}"

    def emit(
        self,
        op: str,
        node: Fx,
        inputs: Sequence[Operand | None],
        outputs: Sequence[str] | None = None,
        *,
        domain: str = "",
        part: bool = False,
        **attributes: Any,
    ) -> str:
        """Add an operator that a node becomes, or a `part` of it; return its first output."""
        at = self.names.captured(node)
        wish = f"{at}/{op}" if at else op
        name = wish if not self._taken[wish] else f"{wish}_{self._taken[wish]}"
        self._taken[wish] += 1
        read = [self.value(one, needed=not domain) if one is not None else "" for one in inputs]
        written = list(outputs) if outputs is not None else [f"%{node.name}"]
        given = {key: value for key, value in attributes.items() if value is not None}
        self._nodes.append(helper.make_node(op, read, written, name, domain=domain, **given))
        parts = tuple(int(one.rpartition(".")[2]) for one in written if one != f"%{node.name}" and one[0] == "%")
        self.origins[name] = Origin(node, None if part else _slots(node, inputs), tuple(read), parts)
        self.modules[name] = at
        return written[0]

    def note(self, name: str, like: Any) -> None:
        """Record what is known of a value."""
        self._values[name] = like

    # --- what builds it -----------------------------------------------------------------------------------

    def placeholder(self, node: Fx) -> None:
        """An input of the module."""
        if isinstance(node.meta.get("val"), torch.Tensor):
            self._inputs.append(f"%{node.name}")
            self.note(f"%{node.name}", node.meta["val"])

    def output(self, node: Fx) -> None:
        """The outputs of the module; each is a name of its own."""
        for number, returned in enumerate(node.all_input_nodes):
            if self.constant(returned) is None:
                name = f"out{number}"
                self._nodes += [helper.make_node("Identity", [self.value(returned)], [name], f"#{name}")]
                self._outputs.append(name)
                self.note(name, returned.meta.get("val"))

    def opaque(self, node: Fx) -> None:
        """An operator that is carried over as it is, with all its outputs."""
        places: set[Any] = {user.args[1] for user in node.users if user.target is operator.getitem}
        outputs = [f"%{node.name}.{place}" for place in sorted(places)] if places else [f"%{node.name}"]
        read = [one for one in occurrences(node) if not self.is_inner(one)]
        self.emit("Call", node, read, outputs, domain=OPAQUE)

    def opaque_nodes(self) -> list[tuple[str, Fx]]:
        """The operators that are carried over as they are, each with the name of its module, or its own."""
        nodes = (self.origins[one.name].node for one in self._nodes if one.domain == OPAQUE)
        return [(self.names.captured(node) or node.name, node) for node in nodes]

    def is_inner(self, node: Fx) -> bool:
        """Whether a node is no value: a graph inside another one."""
        return node.op == "get_attr" and not isinstance(self.captured.tensor(str(node.target)), torch.Tensor)

    def model(self) -> onnx.ModelProto:
        """The finished model."""
        weights = [_tensor(name, self.constants[name]) for name in self._read if name in self._needed]
        others = [name for name in self._read if name not in self._needed]
        inputs = [_info(name, self._values.get(name)) for name in self._inputs]
        inputs += [_info(name, self._read[name]) for name in others]
        made = {name for one in self._nodes for name in one.output}
        values = [_info(name, like) for name, like in self._values.items() if name in made - set(self._outputs)]
        graph = helper.make_graph(
            self._nodes,
            "module",
            inputs,
            [_info(name, self._values[name]) for name in self._outputs],
            weights,
            value_info=[one for one in values if one.type.WhichOneof("value")],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(OPAQUE, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="bnfold")


def occurrences(node: Fx) -> list[Fx]:
    """The nodes among the arguments of a node, in order, as often as they occur."""
    found: list[Fx] = []

    def occurs(other: Fx) -> Fx:
        found.append(other)
        return other

    torch.fx.map_arg((node.args, dict(node.kwargs)), occurs)
    return found


def _slots(node: Fx, inputs: Sequence[Operand | None]) -> tuple[int | None, ...] | None:
    """For every node among the arguments its input of the operator; None if some input is not among them in order."""
    waiting = [place for place, one in enumerate(inputs) if isinstance(one, Fx)]
    slots = [
        waiting.pop(0) if waiting and inputs[waiting[0]] is other else None  # in the order of both
        for other in occurrences(node)
    ]
    return None if waiting else tuple(slots)


def _tensor(name: str, value: torch.Tensor) -> TensorProto:
    still = value.detach().cpu().contiguous()
    data = np.ascontiguousarray(array(still)).tobytes()
    return TensorProto(name=name, data_type=TYPES[value.dtype], dims=list(value.shape), raw_data=data)


def _info(name: str, like: Any) -> onnx.ValueInfoProto:
    """What is known of a value: open sizes are symbols."""
    if not isinstance(like, torch.Tensor) or like.dtype not in TYPES:
        return onnx.ValueInfoProto(name=name)
    sizes = [size if isinstance(size, int) else str(size) for size in like.shape]
    return helper.make_tensor_value_info(name, TYPES[like.dtype], sizes)
