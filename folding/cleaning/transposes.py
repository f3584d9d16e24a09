"""Transposes that cancel through the elementwise operators between them.

``f(transpose(x)) = transpose(f(x))`` for an elementwise f. So a Transpose may move from the inputs of a region of such
operators to its outputs, where it meets the one that turns the value back. A region begins at a Transpose and takes in
its readers as long as their other operands are constants, scalars, or Transposes of the same order.

It is done only if fewer Transposes are left: those in front that nothing else reads, and those behind that turn back,
against one for each value that others read in its old order. An idiom is taken in whole, or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from folding.analysis import constants
from folding.cleaning.work import permutation, settled, shape_of
from folding.editing import rewiring, surgery
from folding.graph.weights import Weight

if TYPE_CHECKING:
    from folding.cleaning.work import Work
    from folding.graph.index import Scope
    from folding.graph.node import Edge, Node

ELEMENTWISE = frozenset(
    "Abs Add And Cast Ceil Clip Cos Div Elu Equal Erf Exp Floor Gelu Greater HardSigmoid HardSwish Identity LeakyRelu "  # noqa: SIM905
    "Less Log Max Mean Min Mish Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign "
    "Sqrt Sub Sum Tanh ThresholdedRelu Where".split()
)
REGION = 64  # operators; an activation that is written out has ten
OPERAND = 1 << 12  # elements of a constant that is turned
BROADCASTS = 8  # opset since which all of these broadcast as NumPy does


@dataclass
class Region:
    """Elementwise operators whose values are to be computed before the Transpose `perm` instead of behind it.

    `values` are their results and the Transposes in front, with the operator that makes each.
    """

    scope: Scope
    perm: list[int]
    fronts: dict[str, Node]
    nodes: dict[str, Node] = field(default_factory=dict)
    backs: list[Edge] = field(default_factory=list)  # Transposes behind that turn back
    open: dict[str, None] = field(default_factory=dict)  # values that others read

    @property
    def gain(self) -> int:
        """The number of Transposes that go, less those that come."""
        gone = sum(1 for name in self.fronts if name not in self.open)
        return gone + len(self.backs) - sum(1 for name in self.nodes if name in self.open)


def move(work: Work) -> list[str]:
    """Move Transposes behind elementwise operators where that leaves fewer; return the labels of what moved."""
    found: list[str] = []
    for scope in work.graph.scopes:
        for node in [one for one in scope.nodes if one.op == "Transpose" and not one.removed]:
            if node.removed or work.stays(node) or node in work.idioms or scope.graph.opset < BROADCASTS:
                continue
            perm = permutation(node)
            region = None if perm is None or perm == sorted(perm) else _region(node, perm, work)
            if region is not None and region.gain > 0:
                found.append(node.label)
                _turn(region, work)
    return found


def _region(node: Node, perm: list[int], work: Work) -> Region | None:
    region = Region(node.scope, perm, {node.output: node})
    waiting, tried = [node.output], 0
    while waiting:
        for edge in list(node.scope.uses.get(waiting.pop(), ())):
            reader, tried = edge.node, tried + 1
            if tried > REGION:
                return None
            if reader.output not in region.nodes and _joins(reader, region, work):
                region.nodes[reader.output] = reader
                waiting.append(reader.output)
    if not region.nodes:
        return None
    for name in (*region.fronts, *region.nodes):
        _note_readers(name, region, work)
    members = set(region.nodes.values())
    parts = [work.idioms[one] for one in members if one in work.idioms]
    return region if all(members.issuperset(part.nodes) for part in parts) else None


def _joins(node: Node, region: Region, work: Work) -> bool:
    """Whether an operator can compute its result in the order before the Transpose; adds the Transposes it reads."""
    if node.op not in ELEMENTWISE or len(node.outputs) != 1 or work.stays(node) or not node.output:
        return False
    fronts: dict[str, Node] = {}
    for name in filter(None, node.inputs):
        maker = region.scope.producers.get(name)
        if name in region.fronts or name in region.nodes or _is_operand(region, name):
            continue
        same = maker is not None and maker.op == "Transpose" and permutation(maker) == region.perm
        if maker is None or not same or work.stays(maker):
            return False
        fronts[name] = maker
    region.fronts |= fronts
    return True


def _is_operand(region: Region, name: str) -> bool:
    """Whether a value is a scalar, or a constant that can be turned."""
    shape = settled(shape_of(region.scope, name))
    if shape is None or len(shape) > len(region.perm):
        return False
    return all(n == 1 for n in shape) or (int(np.prod(shape)) <= OPERAND and constants.is_stored(region.scope, name))


def _note_readers(name: str, region: Region, work: Work) -> None:
    """Find what reads a value besides the region: Transposes that turn back, and others."""
    back = [region.perm.index(axis) for axis in range(len(region.perm))]
    if not work.is_inner(region.scope, name):
        region.open[name] = None
    for edge in region.scope.uses.get(name, ()):
        reader = edge.node
        if reader.output in region.nodes and region.nodes[reader.output] is reader:
            continue
        if name in region.nodes and reader.op == "Transpose" and permutation(reader) == back and not work.stays(reader):
            region.backs.append(edge)
        else:
            region.open[name] = None


def _turn(region: Region, work: Work) -> None:
    """Carry it out. Each value of the region gets a new name, because its shape is another one."""
    inside = {one: list(one.inputs) for one in region.nodes.values()}
    made: dict[str, str] = {name: front.inputs[0] for name, front in region.fronts.items()}
    for name, node in region.nodes.items():
        made[name] = _rename(region, name, node)
    for node, names in inside.items():
        for index, name in enumerate(names):
            if name in made:
                surgery.connect(node, index, made[name])
            elif name and any(n != 1 for n in settled(shape_of(region.scope, name)) or ()):
                _turn_constant(region, node, index)
    for edge in region.backs:
        name = next(old for old, node in region.nodes.items() if edge.node.inputs[0] in {old, made[old]})
        surgery.connect(edge.node, 0, made[name])
        surgery.set_attributes(edge.node, {"perm": list(range(len(region.perm)))})
    work.look_at([*inside, *region.fronts.values(), *(edge.node for edge in region.backs)])
    for name in [*(node.output for node in inside), *region.open]:
        work.look_at(edge.node for edge in rewiring.edges(region.scope, name))


def _rename(region: Region, name: str, node: Node) -> str:
    """Give the result of an operator a new name; where others read it, a Transpose makes the old one of it."""
    scope, shape = region.scope, shape_of(region.scope, name)
    if name in region.open:
        behind = surgery.append_operator(node, "Transpose")
        surgery.set_attributes(behind, {"perm": region.perm})
        inner = node.output
    else:
        inner = scope.graph.fresh_name(f"{name}_turned")
        if name in scope.types:
            scope.types[inner] = scope.types[name]
        surgery.set_output(node, 0, inner)
        rewiring.redirect(scope, name, inner)
        scope.dropped.add(name)
    scope.shapes.pop(inner, None)
    if shape is not None:
        scope.shapes[inner] = tuple(shape[region.perm.index(axis)] for axis in range(len(shape)))
    return inner


def _turn_constant(region: Region, node: Node, index: int) -> None:
    values = node.array(index)
    full = values.reshape((1,) * (len(region.perm) - values.ndim) + values.shape)
    turned = np.ascontiguousarray(full.transpose(np.argsort(region.perm)))
    surgery.set_constant(node, index, Weight.exactly(turned), "")
