"""Carry: what folding did to a skeleton, carried over to a new graph of the module.

Convolutions, linear layers and normalizations become modules again (`nn.Conv2d` under the name that it had), with the
constants that folding left them, so that `state_dict` reads as before and quantization finds them. Any other operator
is copied, with its new operands.
"""

from __future__ import annotations

import copy
import operator
from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from onnx import numpy_helper

from folding.torch.forms import FORMS
from folding.torch.layers import Guards, Layers
from folding.torch.public import write_publicly

if TYPE_CHECKING:
    import onnx
    from torch.fx import Node as Fx

    from folding.torch.skeleton import Origin, Skeleton

ADDED = "#"  # begins the names of what a translation added: no node of the module's graph


class InexpressibleError(Exception):
    """Folding left an operator that has no form in PyTorch: `label` names it."""

    def __init__(self, node: onnx.NodeProto) -> None:
        super().__init__(f"{node.name} ({node.op_type})")
        self.label = node.name


class Carry:
    """The new graph under construction; `module` finishes it.

    Raises:
        InexpressibleError: an operator of the folded model has no form in PyTorch.
    """

    def __init__(self, skeleton: Skeleton, folded: onnx.ModelProto) -> None:
        self._skeleton, self._old = skeleton, skeleton.captured
        self.graph = torch.fx.Graph()
        self.layers = Layers(self.graph, self._old)
        self.pending: dict[str, tuple[Fx, torch.Tensor, str]] = {}
        self._stored = {tensor.name: tensor for tensor in folded.graph.initializer}
        self._values: dict[str, Fx] = {}  # the new node of every value
        self._copies: dict[Fx, Fx] = {}  # the new node of every old one that is no value of the skeleton
        self._changed: dict[str, bool] = {}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in folded.graph.node:
            for name in node.input:
                self._readers[name].append(node)
        self._results = {one.name for one in folded.graph.output}
        self._carry(folded)

    def module(self) -> torch.fx.GraphModule:
        """The result, which shares no storage with the original."""
        write_publicly(self.graph)
        self.graph.lint()
        return self.layers.module()

    def _carry(self, folded: onnx.ModelProto) -> None:
        for old in self._old.nodes:
            if old.op == "placeholder":
                self._values[f"%{old.name}"] = self._copies[old] = self.graph.node_copy(old)
        for old in self._old.nodes:
            if old.op == "call_module":  # the guards of torch.export, which check the inputs
                self.layers.place(str(old.target), Guards(self._old.tensor(str(old.target))))
                self.graph.node_copy(old, self._copies.__getitem__)
        for node in folded.graph.node:
            self._node(node)
        (returned,) = (old for old in self._old.nodes if old.op == "output")
        names = {old: f"out{number}" for number, old in enumerate(returned.all_input_nodes)}
        found = {old: self._values.get(name) or self._old_value(old) for old, name in names.items()}
        self.graph.node_copy(returned, found.__getitem__)
        self.graph.set_codegen(copy.deepcopy(self._old.module.graph._codegen))

    # --- what forms ask -----------------------------------------------------------------------------------

    def value(self, name: str) -> Fx:
        """The new node of a value or a constant."""
        if name not in self._values:
            self._values[name] = self._constant(name)
        return self._values[name]

    def _constant(self, name: str) -> Fx:
        """A constant: as the module has it where folding left it, or a new buffer."""
        if name.startswith(ADDED) or self.is_changed(name):
            return self.layers.buffer(name.lstrip("#%"), self.tensor(name))
        if name in self._skeleton.evaluated:
            return self._old_value(self._skeleton.evaluated[name])
        return self.layers.attribute(name)

    def tensor(self, name: str) -> torch.Tensor:
        """The values of a constant of the folded model."""
        if name not in self._stored:
            return self._skeleton.constants[name]
        values = numpy_helper.to_array(self._stored[name])
        if values.dtype.name == "bfloat16":
            return torch.from_numpy(values.view("int16").copy()).view(torch.bfloat16)
        return torch.from_numpy(values.copy())

    def is_constant(self, name: str) -> bool:
        """Whether a name is a constant of the folded model."""
        return name in self._stored

    def is_changed(self, name: str) -> bool:
        """Whether folding made this constant, or gave it other values."""
        if name not in self._changed:
            before = self._skeleton.constants.get(name)
            now = self.tensor(name) if name in self._stored else None
            self._changed[name] = now is not None and (before is None or not _equal(before, now))
        return self._changed[name]

    def origin(self, node: onnx.NodeProto) -> Origin | None:
        """Where an operator comes from; None for one that folding made."""
        return self._skeleton.origins.get(node.name)

    def at(self, node: onnx.NodeProto) -> str:
        """The module that an operator belongs to."""
        return self._skeleton.modules.get(node.name, "")

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The operator that reads a value, where it is one."""
        readers = self._readers[name]
        return readers[0] if len(readers) == 1 and name not in self._results else None

    def is_result(self, name: str) -> bool:
        """Whether a value is returned as it is."""
        return any(one.output[0] in self._results for one in self._readers[name])

    # --- operators ----------------------------------------------------------------------------------------

    def _node(self, node: onnx.NodeProto) -> None:
        """Carry over one operator of the folded model."""
        if node.name.startswith(ADDED):  # gives a result of the module its name
            self._values[node.output[0]] = self.value(node.input[0])
            return
        form = FORMS.get(node.op_type) if not node.domain else None
        made = form(self, node) if form is not None else None
        if made is not None:
            self._values[node.output[0]] = made
            return
        made, origin = self._copied(node), self._skeleton.origins[node.name]
        for place, name in enumerate(node.output):
            parted = (made, origin.parts[place]) if origin.parts else None
            self._values[name] = self.graph.call_function(operator.getitem, parted) if parted else made

    def _copied(self, node: onnx.NodeProto) -> Fx:
        """The old node with its new operands."""
        origin = self.origin(node)
        if origin is None or origin.slots is None or len(node.input) != len(origin.inputs):
            raise InexpressibleError(node)
        numbers = [name for place, name in enumerate(node.input) if name and place not in origin.slots]
        if any(map(self.is_changed, numbers)):
            raise InexpressibleError(node)
        slots = iter(origin.slots)

        def operand(old: Fx) -> Fx:
            place = next(slots)
            return self._old_value(old) if place is None else self.value(node.input[place])

        args, kwargs = torch.fx.map_arg((origin.node.args, dict(origin.node.kwargs)), operand)
        return self.graph.create_node("call_function", origin.node.target, args, kwargs, origin.node.name)

    def _old_value(self, old: Fx) -> Fx:
        """The new node of an old one that is no input of an operator: a length, a constant, an inner graph."""
        if old not in self._copies:
            if old.op == "get_attr":
                self._copies[old] = self.layers.attribute(str(old.target))
            elif (name := self._skeleton.value(old, needed=False)) in self._values:
                return self._values[name]
            else:
                self._copies[old] = self.graph.node_copy(old, self._old_value)
        return self._copies[old]


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two constants are the same, NaN included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    still = one.detach().cpu()
    return torch.equal(still, other) or bool(torch.all((still == other) | (still.isnan() & other.isnan())))
