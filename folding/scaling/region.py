"""A scale on one value, spread until weights absorb it on all sides: the values between them are scaled alike.

A move of the planner removes an operator, and ends at one that absorbs. Here nothing is removed: what makes the value
absorbs the scale, or passes it from its own inputs, and what reads it absorbs the inverse, or passes the scale on to
what it makes. So a stream of residual sums is scaled as a whole, whoever reads it. All scales are powers of two: the
products and sums between are those of before, times a power of two, digit for digit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.affine import Affine
from folding.analysis import constants
from folding.graph.node import Edge
from folding.graph.sites import OPERATORS
from folding.planning.copies import require_small
from folding.planning.makers import require_makers
from folding.planning.plan import Move
from folding.planning.soundness import require_unobserved
from folding.refusal import Refused, require
from folding.rules import RULES, Edit, OperatorRule, Passage, asked, constant, fits_input

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from folding.graph.index import Scope
    from folding.graph.node import Node
    from folding.graph.weights import Weight
    from folding.options import Options

MOST = 1 << 12  # operators that one scale may reach
HALF = 0.5  # the significand of a power of two, as frexp has it
NO_RULE = OperatorRule()
INVERTING = {"Mul": True, "Div": False}  # whether the constant of a product or quotient absorbs the inverse of a scale


@dataclass
class Region:
    """How far a scale on a value of the main graph reaches; changes nothing. `maps` are the scaled values' maps.

    `idioms` are operators that runtimes compute as one, which neither absorb nor pass. `clamps`: Relu and Clip may
    become Max and Min, with a bound for every channel.
    """

    options: Options
    scope: Scope
    idioms: Collection[Node] = ()
    clamps: bool = False
    maps: dict[str, Affine] = field(default_factory=dict)
    edits: dict[Node, Edit] = field(default_factory=dict)
    passed: dict[Node, tuple[Mapping[int, Affine], Mapping[int, Affine]]] = field(default_factory=dict)
    _waiting: deque[str] = field(default_factory=deque)

    def spread(self, name: str, a: Affine) -> Move:
        """The edits that make a value `a` of itself, and nothing else different that anything outside can see.

        Raises:
            Refused: something on the way neither absorbs nor passes the scale, or would round.
        """
        move = self.reach(name, a)
        for edit in move.edits:
            for index, weight in edit.constants.items():
                require_exact(edit.node, index, weight)
        return move

    def reach(self, name: str, a: Affine) -> Move:
        """The edits of `spread` for a scale that may round."""
        self._scale(name, a)
        while self._waiting:
            require(len(self.maps) <= MOST, "too-far", f"more than {MOST} values would be scaled")
            name = self._waiting.popleft()
            self._before(name, self.maps[name])
            for edge in self.scope.readers(name):
                self._behind(edge, self.maps[name])
        move = Move(tuple(self.edits.values()))
        require(move.edits, "no-gain", "no weight is scaled")
        require_small(move, normalizes=False)
        for edit in move.edits:
            require_makers(self.options, edit.node, edit.constants)
        return move

    def _scale(self, name: str, a: Affine) -> None:
        if name in self.maps:
            require(_is_same(self.maps[name], a), "reconvergent", f"{name!r} would be scaled in two ways")
            return
        producer = self.scope.producers.get(name)
        if producer is None:
            raise Refused("graph-input", f"{name!r} is an input of the graph")
        require_unobserved(self.scope, name, producer)
        self.maps[name] = a
        self._waiting.append(name)

    def _before(self, name: str, a: Affine) -> None:
        """Let what makes the value absorb its scale, or pass it from its inputs."""
        node = self.scope.producers[name]
        index = node.outputs.index(name)
        if node in self.passed:
            self._require_passed(self.passed[node][1], index, a, node)
            return
        rule = self._rule(node)
        if rule.absorb_backward is not None and index == 0:
            try:
                self._absorb(node, asked(node, rule.absorb_backward, a))
            except Refused:
                if rule.pass_backward is None:
                    raise
            else:
                return
        ways = rule.pass_backward if index == 0 else None
        require(ways, "barrier", f"{node.op} neither absorbs nor passes a scale", node.label)
        assert ways is not None  # noqa: S101  narrowed for the type checker
        found = [_passage(way) for way in asked(node, ways, a)]
        found.sort(key=lambda way: sum(not node.is_constant(index) for index in way.maps))  # a constant ends it here
        self._pass_first(node, found, {0: a})

    def _behind(self, edge: Edge, a: Affine) -> None:
        """Let what reads the value absorb the inverse of its scale, or pass the scale on."""
        node = edge.node
        if node in self.passed:
            self._require_passed(self.passed[node][0], edge.index, a, node)
            return
        rule = self._rule(node)
        if rule.absorb_forward is not None:
            try:
                self._absorb(node, asked(node, rule.absorb_forward, edge.index, _inverse(a)))
            except Refused:
                if rule.pass_forward is None:
                    raise
            else:
                return
        if not self._into_constant(edge, a):
            self._pass_on(node, edge.index, a, rule)

    def _into_constant(self, edge: Edge, a: Affine) -> bool:
        """``(scale * x) * (c / scale) = x * c``, and ``(scale * x) / (scale * c) = x / c``."""
        node, other = edge.node, 1 - edge.index
        if node.op not in INVERTING or node in self.edits or not node.is_constant(other):
            return False
        if node.op == "Div" and edge.index:
            return False
        try:
            self._rewrite(Edge(node, other), fits_input(node, other, _inverse(a) if INVERTING[node.op] else a))
        except Refused:
            return False
        return True

    def _pass_on(self, node: Node, index: int, a: Affine, rule: OperatorRule) -> None:
        """``f(x / a) = f'(x) / b``: an operator that would undo the scale of what it reads makes a scaled value."""
        require(rule.pass_forward, "barrier", f"{node.op} neither absorbs nor passes a scale", node.label)
        assert rule.pass_forward is not None  # noqa: S101  narrowed for the type checker
        try:
            found = asked(node, rule.pass_forward, index, _inverse(a))
        except Refused:
            if rule.pass_backward is None:
                raise
            # A scale passes a sum only if all that is added has it.
            behind = _fitting(a, node)
            ways = [_passage(way) for way in asked(node, rule.pass_backward, behind)]
            fitting = [way for way in ways if index in way.maps and _is_same(way.maps[index], a)]
            self._pass_first(node, fitting, {0: behind})
            return
        outputs = found if isinstance(found, Passage) else Passage({0: found})
        self._pass(node, {index: a}, {number: _inverse(b) for number, b in outputs.maps.items()}, outputs.edit)

    def _pass_first(self, node: Node, ways: list[Passage], outputs: Mapping[int, Affine]) -> None:
        """The first way past an operator: what it asks for may still be refused, and then there is no other."""
        require(ways, "barrier", f"{node.op} passes no such scale", node.label)
        self._pass(node, ways[0].maps, outputs, ways[0].edit)

    def _pass(self, node: Node, inputs: Mapping[int, Affine], outputs: Mapping[int, Affine], edit: Edit | None) -> None:
        require(node not in self.edits, "reconvergent", "it would both absorb and pass a scale", node.label)
        inputs, outputs = _changed(inputs), _changed(outputs)
        self.passed[node] = inputs, outputs
        if edit is not None:
            self._require_plain(edit)
            self.edits[node] = edit
        for index, name in enumerate(node.inputs):
            if index in inputs and node.is_constant(index):
                self._rewrite(Edge(node, index), inputs[index])
            elif index in inputs:
                self._scale(name, inputs[index])
            else:
                require(name not in self.maps, "reconvergent", f"{name!r} must be scaled and stay", node.label)
        for index, a in outputs.items():
            self._scale(node.outputs[index], a)

    def _rewrite(self, edge: Edge, a: Affine) -> None:
        """Scale a constant, of a sum or a product."""
        require(edge.node not in self.edits, "reconvergent", "two of its constants would be scaled", edge.node.label)
        edit = constant.absorb(edge, a)
        self._require_plain(edit)
        self.edits[edge.node] = edit

    def _absorb(self, node: Node, edit: Edit) -> None:
        """Add an edit of an operator that absorbs; one that absorbs on both sides scales its weight twice."""
        self._require_plain(edit)
        earlier = self.edits.get(node)
        if earlier is None:
            self.edits[node] = edit
            return
        both = dict(earlier.constants)
        for index, weight in edit.constants.items():
            both[index] = _joined(node.weight(index), both[index], weight) if index in both else weight
        self.edits[node] = replace(earlier, constants=both)

    def _rule(self, node: Node) -> OperatorRule:
        """The rule of an operator that may change. The constant of an affine one is scaled, where it must be."""
        require(not self.options.keeps(node.label), "kept-by-option", "an option keeps it", node.label)
        require(not self.options.keeps_fp32(node.label), "kept-by-option", "an option keeps it in float32", node.label)
        require(node not in self.idioms, "idiom", "it is part of what runtimes compute as one operator", node.label)
        rule = RULES.get(node.op, NO_RULE)
        return replace(rule, absorb_backward=None, absorb_forward=None) if node.op in OPERATORS else rule

    def _require_plain(self, edit: Edit) -> None:
        """Require that an edit changes the values of constants and nothing else."""
        node = edit.node
        uniform = edit.clamp is None or (edit.clamp.is_uniform and edit.clamp.operators == (node.op,))
        same = edit.become is None and edit.leftover is None and not edit.attributes
        plain = same and (uniform or self.clamps)
        require(plain, "no-gain", f"{node.op} would become another operator", node.label)
        for index in edit.constants:
            integers = node.is_constant(index) and constants.origin(node.scope, node.inputs[index]) is not None
            require(not integers, "quantized", "its weight is quantized", node.label)

    def _require_passed(self, maps: Mapping[int, Affine], index: int, a: Affine, node: Node) -> None:
        fits = index in maps and _is_same(maps[index], a)
        require(fits, "reconvergent", "two scales meet here that differ", node.label)


def require_exact(node: Node, index: int, weight: Weight) -> None:
    """Require that a new constant is the old one times powers of two."""
    require(node.has(index), "no-gain", "a constant would be added", node.label)
    old = node.weight(index)
    if weight.base is old.base and weight.factors[: len(old.factors)] == old.factors:
        exact = all(_are_powers(factor.values) for factor in weight.factors[len(old.factors) :])
    else:
        before, after = np.broadcast_arrays(old.values(), weight.values())
        there = before != 0
        exact = bool(np.array_equal(there, after != 0)) and _are_powers(after[there] / before[there])
    require(exact, "no-gain", "the scale would round its constants", node.label)


def _are_powers(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bool:
    return bool(np.all(np.abs(np.frexp(values)[0]) == HALF))


def _joined(old: Weight, one: Weight, other: Weight) -> Weight:
    """A constant that was scaled in two ways, each apart from the other."""
    kept = len(old.factors)
    require(one.base is old.base is other.base, "no-gain", "its constants would be scaled twice")
    return replace(one, factors=(*one.factors, *other.factors[kept:]))


def _passage(way: Mapping[int, Affine] | Passage) -> Passage:
    return way if isinstance(way, Passage) else Passage(way)


def _changed(maps: Mapping[int, Affine]) -> dict[int, Affine]:
    return {index: a for index, a in maps.items() if not a.is_identity}


def _fitting(a: Affine, node: Node) -> Affine:
    """The same map for what an operator makes, which must have every axis along which the map varies."""
    shape = node.output_shape
    try:
        fitted = a.with_rank(len(shape))
    except ValueError:
        raise Refused("axis", "what it makes does not have these channels", node.label) from None
    has_axes = all(shape[axis] == fitted.shape[axis] for axis in fitted.axes)
    require(has_axes, "axis", "what it makes does not have these channels", node.label)
    return fitted


def _inverse(a: Affine) -> Affine:
    return Affine.of(1 / a.scale, 0.0)


def _is_same(one: Affine, other: Affine) -> bool:
    return one.shape == other.shape and np.array_equal(one.scale, other.scale)
