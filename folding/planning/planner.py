"""Plan how an affine map moves backward or forward through the graph until all branches absorb it, or none."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from folding.analysis import constants
from folding.graph.node import Edge
from folding.graph.sites import NORMALIZATION, OPERATORS, affine_of
from folding.planning.halves import half_way, halves
from folding.planning.makers import require_makers
from folding.planning.noise import require_digits
from folding.planning.plan import Move, Plan
from folding.planning.soundness import repeated, require_sound, require_unobserved
from folding.refusal import Refused, require
from folding.rules import RULES, Edit, OperatorRule, Passage, asked, constant, normalization, quantized

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from folding.algebra.affine import Affine
    from folding.graph.idioms import Occurrence
    from folding.graph.node import Node
    from folding.graph.sites import Site
    from folding.options import Options
    from folding.planning.plan import Direction
    from folding.rules import Ways

DEPTH_LIMIT = 128  # operators in a row; each takes a few of the 1,000 Python frames that the interpreter allows
VISIT_LIMIT = 4096  # operators that one move may visit; nested sums repeat visits for each place of a shift
NO_RULE = OperatorRule()
BARRIERS = {"barrier", "quantized"}  # the codes of operators that never absorb


@dataclass
class Planner:
    """Plans folds of single sites; changes nothing.

    `merge` lets an affine operator absorb another one. That is the last resort, because an affine map that
    moves into a weight leaves no operator. `halve` lets one half of a map stay at an affine operator on the way, which
    then has one constant for both of them. `blocked` holds the reasons why sites must stay, by node key; `idioms` the
    idioms by each of their operators.
    """

    options: Options
    merge: bool = False
    halve: bool = False
    blocked: Mapping[str, Refused] = field(default_factory=dict)
    idioms: Mapping[Node, Occurrence] = field(default_factory=dict)
    _visits: list[int] = field(default_factory=lambda: [0])  # of the move that is planned, one number

    def plan(self, site: Site) -> Plan | tuple[Refused, Refused]:
        """The first plan that works, backward before forward; both refusals if there is none."""
        node = site.node
        if node.key in self.blocked:
            return self.blocked[node.key], self.blocked[node.key]
        if node in self.idioms:
            return self._whole(node), self._whole(node)
        is_unread = not any(node.scope.readers(node.output))
        if (site.affine.is_identity or is_unread) and self._can_vanish(site):
            return Plan(node, site.affine, "forward", Move(removed=(node,)))
        ways: list[Refused] = []
        for direction in ("backward", "forward"):
            self._visits[0] = 0
            try:
                is_known = direction == "backward" or not site.is_open
                require(is_known, "unknown-shape", "the rank of its value is unknown")
                move = Move(removed=(node,)) + self.move(site, direction)
                require_sound(self.options, site, move)
            except Refused as refusal:
                ways.append(refusal)
            else:
                return Plan(node, site.affine, direction, move)
        return ways[0], ways[1]

    def plan_split(self, site: Site) -> Plan | None:
        """Move only the scale or only the shift of a normalization; one Add or one Mul is left of it.

        Of two affine operators in a row, one is left. If the map is that of one of them, it goes as a whole.
        """
        whole = replace(self, halve=True).plan(site)
        if isinstance(whole, Plan):
            return whole
        if site.node.op != NORMALIZATION or site.node.key in self.blocked:
            return None
        for direction, moved, left in halves(site.affine):
            self._visits[0] = 0
            part = replace(site, affine=moved)
            try:
                require_digits(site)  # the half that stays could move forward afterwards
                move = Move(edits=(Edit(site.node, become=left),)) + self.move(part, direction)
                require_sound(self.options, site, move)
            except Refused:
                continue
            return Plan(site.node, site.affine, direction, move)
        return None

    def move(self, site: Site, direction: Direction, depth: int = 0) -> Move:
        """The move of a site's map in one direction; raises Refused if there is none."""
        if direction == "backward":
            return self._backward(Edge(site.node, site.data), site.affine, depth)
        require_digits(site)
        return self._forward(site.node, site.affine, depth)

    def _can_vanish(self, site: Site) -> bool:
        """Whether an identity, or a map whose values nothing reads, can be removed: its readers then read its input."""
        try:
            require_unobserved(site.node.scope, site.node.output, site.node)
            require_makers(self.options, site.node, range(len(site.node.inputs)))
        except Refused:
            return False
        return True

    # --- backward ---------------------------------------------------------------------------------------

    def _backward(self, edge: Edge, a: Affine, depth: int) -> Move:
        """Change the graph before `edge` so that the value it reads becomes `a` of that value."""
        self._count(depth, edge.node)
        scope, name = edge.node.scope, edge.node.inputs[edge.index]
        if edge.node.is_constant(edge.index) and not (a.is_linear and constants.origin(scope, name)):
            return Move(edits=(constant.absorb(edge, a),))
        producer = scope.producers.get(name)
        if producer is None:
            inside = name in scope.inputs
            raise Refused(
                "graph-input" if inside else "outer-scope",
                f"{name!r} is an input of the graph" if inside else f"{name!r} comes from an enclosing graph",
            )
        require_unobserved(scope, name, producer)
        if others := list(islice((reader.node.label for reader in scope.readers(name) if reader != edge), 3)):
            raise Refused("other-consumer", f"{', '.join(map(repr, others))} reads {name!r} too", producer.label)
        self._require_changeable(producer)
        if name != producer.output:
            return self._through_part(producer, producer.outputs.index(name), a, depth)
        return self._through_affine(producer, a, depth) or self._through_rule(producer, a, depth)

    def _through_affine(self, producer: Node, a: Affine, depth: int) -> Move | None:
        """Combine with an affine operator on the way: both become one map, with one operator less."""
        site = self._companion(producer)
        if site is None:
            return None
        both = a.after(site.affine)
        try:
            return Move(removed=(producer,)) + self._backward(Edge(producer, site.data), both, depth + 1)
        except Refused:
            if (move := self._half_way(site, both, "backward", depth)) is not None:
                return move
            if not self.merge:
                raise
        return None

    def _half_way(self, site: Site, both: Affine, direction: Direction, depth: int) -> Move | None:
        return half_way(replace(self, halve=False).move, site, both, direction, depth) if self.halve else None

    def _through_rule(self, producer: Node, a: Affine, depth: int) -> Move:
        idiom = self.idioms.get(producer)
        if idiom is not None and not idiom.is_bias:
            if producer is not idiom.last:
                raise self._whole(producer)
            edits = normalization.idiom_absorb_backward(idiom, a)
            return sum((self._landed(edit, depth) for edit in edits), Move())
        rule, refusal = self._rule(producer), None
        if rule.absorb_backward is not None:
            try:
                return self._landed(asked(producer, rule.absorb_backward, a), depth)
            except Refused as error:
                refusal = _located(error, producer)
        refusal = refusal or _barrier(producer)
        if rule.pass_backward is not None:
            return self._any_way(producer, partial(asked, producer, rule.pass_backward, a), depth, refusal)
        if rule.part_backward is not None:
            return self._through_part(producer, 0, a, depth)
        raise refusal

    def _through_part(self, producer: Node, output: int, a: Affine, depth: int) -> Move:
        """Pass an operator whose other outputs do not change, because they are other parts of its input."""
        rule = self._rule(producer)
        require(rule.part_backward, "barrier", f"it is output {output}, not the first", producer.label)
        assert rule.part_backward is not None  # noqa: S101  narrowed for the type checker
        answer = partial(asked, producer, rule.part_backward, output, a)
        return self._any_way(producer, answer, depth, _barrier(producer))

    def _any_way(self, producer: Node, answer: Callable[[], Ways], depth: int, first: Refused) -> Move:
        """The first way past an operator on which every branch is absorbed."""
        try:
            passages = [way if isinstance(way, Passage) else Passage(way) for way in answer()]
        except Refused as error:
            raise _decisive(first, _located(error, producer)) from None
        refusal = first
        for maps, edit in passages:
            try:
                passing = self._passing(producer, edit)
                changed = {index: part for index, part in maps.items() if not part.is_identity}
                branches = [self._backward(Edge(producer, index), part, depth + 1) for index, part in changed.items()]
                return sum(branches, passing)
            except Refused as error:
                refusal = error
        raise refusal

    def _passing(self, node: Node, edit: Edit | None) -> Move:
        """The operator's part in a move that passes it.

        A bound per channel turns Relu or Clip into another operator, which may be slower in a runtime.
        """
        if edit is not None and edit.clamp is not None and self.options.clamp != "always":
            cheap = edit.clamp.is_uniform or edit.clamp.operators == (node.op,)
            require(cheap, "clamp", f"{node.op} would become {' and '.join(edit.clamp.operators)}", node.label)
        return Move(path=(node,), edits=() if edit is None else (replace(edit, passed=True),))

    def _landed(self, edit: Edit, depth: int) -> Move:
        """The move of an absorber's edit. A quantized weight is scaled at its dequantization, so its integers stay."""
        factors = {index: quantized.factor(edit.node, index, weight) for index, weight in edit.constants.items()}
        if all(a is None for a in factors.values()):
            return Move(edits=(edit,))
        kept = {index: weight for index, weight in edit.constants.items() if factors[index] is None}
        moved = (
            self._backward(Edge(edit.node, index), a, depth + 1)
            for index, a in factors.items()
            if a is not None and not a.is_identity
        )
        return sum(moved, Move(edits=(replace(edit, constants=kept),)))

    # --- forward ----------------------------------------------------------------------------------------

    def _forward(self, producer: Node, a: Affine, depth: int, output: int = 0) -> Move:
        """Change all readers of an output of the producer so that they apply `a` to it first."""
        self._count(depth, producer)
        scope, name = producer.scope, producer.outputs[output]
        require_unobserved(scope, name, producer)
        readers = list(scope.readers(name))
        require(readers, "unused", f"nothing reads {name!r}")
        twice = repeated(edge.node for edge in readers)
        require(twice is None, "reconvergent", f"it reads {name!r} twice", twice.label if twice else "")
        return sum((self._into(edge, a, depth) for edge in readers), Move())

    def _into(self, edge: Edge, a: Affine, depth: int) -> Move:
        node = edge.node
        self._require_changeable(node)
        site = self._companion(node)
        if node in self.idioms:
            return self._into_idiom(node, site, a)
        if site is not None and site.data == edge.index and not site.is_open:
            both = site.affine.after(a)
            try:
                require_digits(site)
                return Move(removed=(node,)) + self._forward(node, both, depth + 1)
            except Refused:
                if (move := self._half_way(site, both, "forward", depth)) is not None:
                    return move
                if not self.merge:
                    raise
        rule, refusal = self._rule(node), None
        if rule.absorb_forward is not None:
            try:
                return self._with_leftover(asked(node, rule.absorb_forward, edge.index, a), depth)
            except Refused as error:
                refusal = _located(error, node)
        refusal = refusal or _barrier(node)
        if rule.pass_forward is None:
            raise refusal
        try:
            passed = asked(node, rule.pass_forward, edge.index, a)
        except Refused as error:
            raise _decisive(refusal, _located(error, node)) from None
        maps, edit = passed if isinstance(passed, Passage) else ({0: passed}, None)
        changed = {output: part for output, part in maps.items() if not part.is_identity}
        read = {output: part for output, part in changed.items() if len(maps) == 1 or self._is_read(node, output)}
        branches = (self._forward(node, part, depth + 1, output) for output, part in read.items())
        return sum(branches, self._passing(node, edit))

    def _into_idiom(self, node: Node, site: Site | None, a: Affine) -> Move:
        """Add a shift to a lone bias; other idioms take no preceding map.

        Idioms are found anew after every round: what was a bias may be the Mul that half a move left there.
        """
        if site is not None and a.is_shift and site.affine.is_shift and not site.is_open:
            return Move(edits=(Edit(node, become=site.affine.after(a)),))
        raise self._whole(node)

    def _whole(self, node: Node) -> Refused:
        """Why an operator of an idiom stays as it is."""
        return Refused("idiom", f"it is part of {self.idioms[node].idiom.name}", node.label)

    def _is_read(self, node: Node, output: int) -> bool:
        """Whether anything can read this output."""
        scope, name = node.scope, node.outputs[output]
        return bool(name) and (any(scope.readers(name)) or scope.is_seen(name))

    def _with_leftover(self, edit: Edit, depth: int) -> Move:
        """Move what an absorber could not absorb further forward if possible; otherwise it stays after the absorber."""
        if edit.leftover is None:
            return self._landed(edit, depth)
        landed = self._landed(replace(edit, leftover=None), depth)
        try:
            return landed + self._forward(edit.node, edit.leftover, depth + 1)
        except Refused:
            return self._landed(edit, depth)

    # --- checks of every move ---------------------------------------------------------------------------

    def _count(self, depth: int, node: Node) -> None:
        self._visits[0] += 1
        if depth >= DEPTH_LIMIT or self._visits[0] >= VISIT_LIMIT:
            raise Refused("too-far", f"more than {self._visits[0]} operators lie on the way", node.label)

    def _companion(self, node: Node) -> Site | None:
        """The node as an affine operator that may move too, None if it is none or must stay."""
        if node.op not in OPERATORS or node.key in self.blocked or not self.options.selects(node.label):
            return None
        if node in self.idioms and not self.idioms[node].is_bias:
            return None
        try:
            return affine_of(node)
        except Refused:
            return None

    def _rule(self, node: Node) -> OperatorRule:
        """The node's rule. An affine operator never passes another one, and absorbs one only as the last resort."""
        rule = RULES.get(node.op, NO_RULE)
        if self.merge or node.op not in OPERATORS:
            return rule if self._companion(node) is None else rule.never_passing()
        return replace(rule, absorb_backward=None, absorb_forward=None)

    def _require_changeable(self, node: Node) -> None:
        require(not self.options.keeps(node.label), "kept-by-option", "an option keeps it", node.label)


def _barrier(node: Node) -> Refused:
    if quantized.COMPUTES_WITH_INTEGERS.match(node.op):
        reason = f"{node.op} computes with integers that were rounded for the values as they are"
        return Refused("quantized", reason, node.label)
    return Refused("barrier", f"{node.op} neither absorbs nor passes a scale and shift", node.label)


def _decisive(absorbs: Refused, passes: Refused) -> Refused:
    """The refusal to report: why an operator does not absorb, or, if it never absorbs, why nothing passes it."""
    return passes if absorbs.code in BARRIERS else absorbs


def _located(refusal: Refused, node: Node) -> Refused:
    return Refused(refusal.code, refusal.reason, refusal.at or node.label)
