"""Remains: which operators are left of the maps that fold in part, and what becomes of those operators later on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from folding.graph.sites import NORMALIZATION, data_input
from folding.report.model import Leftover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from folding.graph.node import Node
    from folding.planning.plan import Plan
    from folding.report.model import Outcome

SHIFTS = frozenset({"Add", "Sub"})


class Remains:
    """The operators that folds left, with the maps that they are left of, by their keys.

    Where as many other maps vanish as operators are left, nothing is left of the normalization: ``MatMul, Add,
    BatchNormalization`` becomes ``MatMul, Add``.
    """

    def __init__(self) -> None:
        self._owners: dict[Node, set[str]] = {}
        self._taken: dict[str, list[str]] = {}  # labels of the operators that took over, by key of the other map
        self._further: defaultdict[str, list[str]] = defaultdict(list)  # labels of what else holds a part, by key

    def account(self, plan: Plan) -> _Account:
        """What goes with a plan, to be noted before it is committed."""
        gone = plan.gone
        normalizations = {node.key for node in gone if node.op == NORMALIZATION}
        others = {node.key: node.op for node in gone if node.op != NORMALIZATION and not node.is_made}
        inherited: set[str] = set().union(*(self._owners.pop(node, ()) for node in gone))
        return _Account(normalizations, others, inherited)

    def note(self, account: _Account, plan: Plan, left: Sequence[Node]) -> None:
        """Note the operators that the plan's commit left."""
        labels = [node.label for node in left]
        if not left:
            for edit in plan.move.edits:
                finished = account.inherited | (self._owners.pop(edit.node, set()) if account.others else set())
                self._add(finished, [edit.node.label])
        elif (account.normalizations or account.inherited) and len(left) <= len(account.others):
            kinds = {node.op in SHIFTS for node in left}
            self._taken.update((key, labels) for key, op in account.others.items() if (op in SHIFTS) in kinds)
            self._add(account.normalizations | account.inherited, labels)
        else:
            owners = (account.normalizations or set(account.others)) | account.inherited
            self._owners.update((node, owners) for node in left)

    def _add(self, keys: Iterable[str], labels: list[str]) -> None:
        for key in keys:
            self._further[key] += labels

    def settled(
        self, ended: Mapping[str, Outcome], why: Callable[[Node], Outcome], labels: Mapping[str, str]
    ) -> dict[str, Outcome]:
        """The outcomes of the maps that folded in part: with what is left of them and why, or as what they became.

        `why` returns the refusals of an operator that stays, `labels` has the new names of those that changed theirs.
        """
        left: defaultdict[str, list[Leftover]] = defaultdict(list)
        for node, keys in self._owners.items():
            if not node.removed:
                entry = _leftover(node, why(node), labels)
                for key in keys:
                    left[key].append(entry)
        return {key: self._settled(key, end, left[key]) for key, end in ended.items() if end.status == "split"}

    def _settled(self, key: str, end: Outcome, left: list[Leftover]) -> Outcome:
        if left:
            return replace(end, left=tuple(left))
        if key in self._taken:
            return replace(end, status="merged", absorbed_by=tuple(self._taken[key]))
        return replace(end, status="folded", absorbed_by=tuple(dict.fromkeys((*end.absorbed_by, *self._further[key]))))


class _Account:
    """What goes with a plan: normalizations, other maps with their operators, maps of which something was left."""

    def __init__(self, normalizations: set[str], others: dict[str, str], inherited: set[str]) -> None:
        self.normalizations, self.others, self.inherited = normalizations, others, inherited


def _leftover(node: Node, why: Outcome, labels: Mapping[str, str]) -> Leftover:
    producer = node.scope.producers.get(node.inputs[data_input(node)])
    name, after = node.label, producer.label if producer else ""
    return Leftover(labels.get(name, name), node.op, labels.get(after, after), why.backward, why.forward)
