"""One pass over an indexed graph: try all sites in order until nothing changes, and record the outcome of each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from folding.analysis import shapes
from folding.graph import idioms
from folding.graph.sites import NORMALIZATION, OPERATORS, affine_of, is_candidate
from folding.planning import constant_maps, copies, leftover
from folding.planning.branches import Branches
from folding.planning.commit import commit, merge
from folding.planning.outcomes import UNKNOWN, Reasons, evaluated, merged_away, moved
from folding.planning.plan import Plan
from folding.planning.planner import Planner
from folding.planning.remains import Remains
from folding.refusal import Refused
from folding.report.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from folding.graph.index import Graph
    from folding.graph.node import Node
    from folding.graph.sites import Site
    from folding.options import Options

    _Planning = Callable[[Site], Plan | object]


class Run:
    """One pass over one graph: the open sites, and the outcomes of the others."""

    def __init__(self, graph: Graph, options: Options, blocked: Mapping[str, Refused]) -> None:
        self.graph, self.options, self.blocked = graph, options, blocked
        self.ended: dict[str, Outcome] = {}
        self.notes: list[str] = []
        self.changed = False
        self.frozen = 0
        self.copied: dict[str, str] = {}  # the constants that new ones replaced for one reader, by the new name
        self.idioms: dict[Node, idioms.Occurrence] = {}  # by each of their operators
        self.normalized: set[Node] = set()  # operators that absorbed a normalization
        self.absorbers: dict[str, tuple[str, ...]] = {}  # by label of a removed operator
        self.clamped: set[str] = set()  # labels of clamps that got a bound per channel
        self.clamping: set[str] = set()  # keys of the operators that needed them
        self.others: dict[str, str] = {}  # keys and labels of sums that were merged and of normalizations rewritten
        self.labels: dict[str, str] = {}
        self.remains = Remains()
        self.branches = 0  # sums that became one convolution

    def everything(self, progress: Callable[[int, int], None] | None) -> None:
        """Fold until nothing changes, then record why the rest stays and write it in the form that the options set."""
        shapes.infer(self.graph)
        chosen = [node for node in self.graph.nodes() if self.options.selects(node.label)]
        if self.options.freezes and (frozen := leftover.freeze_training(chosen, self.options)):
            self.changed, self.frozen = True, frozen
            whose = "of the samples" if self.options.freeze_training == "samples" else "that it stores"
            how = f"with the statistics {whose}, then the model was folded"
            self.notes.append(f"training mode was turned off in {frozen} BatchNormalization, {how}")
        self.idioms.update(idioms.find(self.graph))
        self.sites = [node for node in self.graph.nodes() if node not in self.idioms and is_candidate(node)]
        # Normalizations come first: one may absorb the Mul and Add beside it, which could not fold alone.
        self.sites.sort(key=lambda node: node.op != NORMALIZATION)
        self.ended = dict.fromkeys((node.key for node in self.sites), UNKNOWN)
        listed = list(self.sites)
        self._evaluate([node for node in chosen if node.key not in self.blocked])
        self._until_nothing_folds(progress)
        # What made a constant that another operator absorbed is gone with it.
        gone = [node for node in listed if node.removed and self.ended.get(node.key) is UNKNOWN]
        self.ended.update({node.key: evaluated(node) for node in gone})
        planner = self._planner(merge=True)
        left = [node for node in self.sites if not node.is_made]
        reasons = Reasons(self.graph, planner, self.options)
        self.ended.update({node.key: reasons.kept(node) for node in left})
        if self.options.leftover != "keep" and self._rewrite([node for node in left if node.op == NORMALIZATION]):
            self._until_nothing_folds(progress)
        # An operator without a name is identified by its output, which a fold may have renamed.
        self.labels = {n.label: n.scope.prefix + n.output for n in self.graph.nodes() if not n.proto.name and n.output}
        reasons = Reasons(self.graph, planner, self.options)
        self.ended.update(self.remains.settled(self.ended, reasons.kept, self.labels))
        operators = {self.labels.get(node.label, node.label): node.op for node in self.graph.nodes()}
        for key, end in self.ended.items():
            present = tuple(self._present(end.absorbed_by))
            absorbing = tuple(operators.get(label, "") for label in present)
            # `replace` asks for every field by its name, which takes three times as long
            self.ended[key] = Outcome(**vars(end) | {"absorbed_by": present, "operators": end.operators + absorbing})
        self._add_notes()

    def join(self, later: Run) -> None:
        """Take over what a later run on the same graph changed."""
        self.changed |= later.changed
        folded = {key: end for key, end in later.ended.items() if end.status != "kept"}
        known = {key for key, end in self.ended.items() if end.status != "kept"}
        self.ended.update({key: end for key, end in folded.items() if key in self.ended.keys() - known})
        self.others.update({key: end.node for key, end in folded.items() if key not in self.ended} | later.others)
        self.clamping |= later.clamping
        self.notes += [note for note in later.notes if note not in self.notes]

    def _evaluate(self, nodes: list[Node]) -> None:
        """Replace normalizations of constants by what they compute."""
        gone = constant_maps.evaluate((node for node in nodes if node.key not in self.blocked), self.options)
        self.ended.update({node.key: evaluated(node) for node in gone})
        self.sites = [node for node in self.sites if not node.removed]
        self.changed |= bool(gone)

    def _present(self, labels: Iterable[str]) -> dict[str, None]:
        """The operators of the current graph that hold what these absorbed, in order."""
        found: dict[str, None] = {}
        seen: set[str] = set()
        waiting = list(labels)[::-1]
        while waiting:
            label = waiting.pop()
            if label in self.absorbers and label not in seen:  # two operators may have the same name
                seen.add(label)
                waiting += self.absorbers[label][::-1]
            else:
                found[self.labels.get(label, label)] = None
        return found

    def _add_notes(self) -> None:
        """Add the notes of this run for the user."""
        if why := copies.explained(self.graph, self.copied):
            self.notes.insert(0, why)
        found = {*self.idioms.values()}
        whole = Counter(o.idiom.name for o in found if not o.is_bias and any(map(is_candidate, o.nodes)))
        if whole and not self.options.fuse:
            counted = ", ".join(f"{count} {name}" for name, count in sorted(whole.items()))
            self.notes.append(f"left as they are, because runtimes compute each as one operator: {counted}")
        if self.clamped:
            self.notes.append(f"{len(self.clamped)} Relu or Clip became Max or Min, with a bound for every channel")
        if self.branches:
            plural = "sums of parallel branches became one convolution each"
            phrase = plural if self.branches > 1 else "sum of parallel branches became one convolution"
            self.notes.append(f"{self.branches} {phrase}")

    def _rewrite(self, left: list[Node]) -> bool:
        """Write the normalizations that stay in the requested form; return whether there were any."""
        chosen = [n for n in left if self.options.selects(n.label) and n.key not in self.blocked]
        rewritten = [node for node in chosen if leftover.rewrite(node, self.options)]
        known = set(self.sites)
        self.sites += [node for node in self.graph.nodes() if node.is_made and node not in known]
        if rewritten:
            self.changed = True
            self.others.update({node.key: node.label for node in rewritten})
            form = {"affine": "Mul + Add", "conv": "a depthwise Conv"}[self.options.leftover]
            self.notes.append(f"{len(rewritten)} BatchNormalization that stay were written as {form}")
        return bool(rewritten)

    def _until_nothing_folds(self, progress: Callable[[int, int], None] | None) -> None:
        """Repeat: moves first, merges if nothing moves, split moves if nothing merges.

        Then start again with the constants of the merges as they are stored.
        """
        moving, merging = (self._planner(merge=merge) for merge in (False, True))
        while (
            self._round(moving.plan, progress)
            or self._merge_branches()
            or self._round(merging.plan, progress)
            or self._round(moving.plan_split, progress)
            or self._settle()
        ):
            self.changed = True

    def _planner(self, *, merge: bool) -> Planner:
        return Planner(self.options, merge=merge, blocked=self.blocked, idioms=self.idioms)

    def _round(self, plan: _Planning, progress: Callable[[int, int], None] | None) -> bool:
        """Try every open site once; return whether any folded."""
        folded = False
        for number, node in enumerate(self.sites):
            if progress is not None:
                progress(number, len(self.sites))
            if not node.removed and self.options.selects(node.label):
                folded |= self._try(node, plan)
                self.graph.release()
        left = [node for node in self.sites if not node.removed]
        made = [node for node in self.graph.nodes() if node.is_made] if folded else []
        self.sites = list(dict.fromkeys([*left, *made]))
        if folded:
            self._leave_idioms()
        return folded

    def _leave_idioms(self) -> None:
        """Find the idioms again, of which a fold may have made more; what is part of one is no site any more."""
        self.idioms.clear()
        self.idioms.update(idioms.find(self.graph))
        for node in self.sites:
            if node in self.idioms and self.ended.get(node.key) is UNKNOWN:
                del self.ended[node.key]
        self.sites = [node for node in self.sites if node not in self.idioms]

    def _merge_branches(self) -> bool:
        """Merge parallel branches into one convolution, the largest sums first; return whether there were any."""
        if not self.options.merge_branches:
            return False
        branches = Branches(self.options, self.blocked, self.normalized)
        merged = False
        for root in reversed(list(self.graph.nodes())):
            plan = None if root.removed else branches.plan(root)
            if plan is not None:
                self.ended.update({site.key: merged_away(site, plan) for site in plan.sites if not site.is_made})
                self.normalized.add(plan.edit.node)
                self.absorbers.update(dict.fromkeys((n.label for n in plan.others), (plan.edit.node.label,)))
                self.branches += 1
                merge(plan)
                merged = True
        self.sites = [node for node in self.sites if not node.removed]
        if merged:
            self._leave_idioms()
        return merged

    def _settle(self) -> bool:
        """Round constants of affine operators to their dtypes, as a later run reads them; return whether any moved."""
        settled = False
        for scope in self.graph.scopes:
            for name, weight in list(scope.weights.items()):
                readers = [edge.node for edge in scope.uses[name]]
                stored = weight.settled() if all(node.op in OPERATORS for node in readers) else None
                if stored is not None:
                    scope.weights[name], settled = stored, True
                    for node in readers:
                        node.changed()
        return settled

    def _try(self, node: Node, planning: _Planning) -> bool:
        try:
            plan = planning(affine_of(node))
        except Refused:
            return False
        if not isinstance(plan, Plan):
            return False
        all_gone = plan.gone
        for gone in all_gone:
            if not gone.is_made and gone.key in self.ended:
                self.ended[gone.key] = moved(gone, affine_of(gone).affine, plan, self.idioms)
        if any(gone.op == NORMALIZATION for gone in all_gone):
            self.normalized.update(edit.node for edit in plan.move.edits)
        absorbers = tuple(dict.fromkeys(edit.node.label for edit in plan.move.edits))
        self.absorbers.update(dict.fromkeys((n.label for n in plan.move.removed), absorbers))
        clamped = {e.node.label for e in plan.move.edits if e.clamp is not None and not e.clamp.is_uniform}
        self.clamped |= clamped
        self.clamping |= {gone.key for gone in all_gone if clamped}
        edited = [
            (edit.node, i, edit.node.inputs[i]) for edit in plan.move.edits for i in edit.constants if edit.node.has(i)
        ]
        account = self.remains.account(plan)
        self.remains.note(account, plan, commit(plan))
        self.copied |= {node.inputs[i]: old for node, i, old in edited if node.inputs[i] != old}
        return True
