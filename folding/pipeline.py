"""Fold one indexed model: which sites, in which order, until nothing changes; and what became of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from folding import leftover
from folding.commit import commit, write_back
from folding.graph import Graph
from folding.plan import Plan, Refused
from folding.planner import Planner
from folding.report import SCALES_SHOWN, Outcome, Refusal
from folding.sites import NORMALIZATION, OPERATORS, affine_of, is_candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import onnx

    from folding.affine import Affine
    from folding.graph import Node
    from folding.onnxfile import OnnxFile
    from folding.options import Options


@dataclass
class Folded:
    """A model after folding: `graph` is written back into `graph.model` when `changed`."""

    graph: Graph
    outcomes: tuple[Outcome, ...]
    changed: bool
    bn_before: int
    nodes_before: int
    notes: list[str] = field(default_factory=list)
    frozen: int = 0  # normalizations whose training mode was turned off

    @property
    def bn_after(self) -> int:
        """BatchNormalizations left, in all graphs and functions."""
        return count_normalizations(self.graph.model)

    @property
    def nodes_after(self) -> int:
        """Operators left."""
        return count_nodes(self.graph.model)


def fold_graph(
    file: OnnxFile,
    options: Options,
    blocked: Mapping[str, Refused],
    progress: Callable[[int, int], None] | None = None,
) -> Folded:
    """Fold everything that folds in a model, except the sites whose keys are `blocked`.

    Raises:
        OptionError: a pattern of `options.keep` or `options.only` matches no operator.
    """
    before = count_normalizations(file.model), count_nodes(file.model)
    graph = Graph(file, freeze_initializers=options.freeze_initializers)
    options.require_matches(node.label for node in graph.nodes())
    run = _Run(graph, options, blocked)
    if any(node.op in OPERATORS for node in graph.nodes()):
        run.everything(progress)
    if run.changed:
        write_back(graph)
    outcomes = (*run.ended.values(), *_out_of_reach(graph))
    return Folded(graph, outcomes, run.changed, *before, run.notes, run.frozen)


def freeze_only(file: OnnxFile, options: Options) -> None:
    """Turn training mode off as `fold_graph` does with these options, and fold nothing."""
    graph = Graph(file)
    leftover.freeze_training(node for node in graph.nodes() if options.selects(node.label))


class _Run:
    """One pass over one graph: the sites still open, and what became of the others."""

    def __init__(self, graph: Graph, options: Options, blocked: Mapping[str, Refused]) -> None:
        self.graph, self.options, self.blocked = graph, options, blocked
        self.ended: dict[str, Outcome] = {}
        self.notes: list[str] = []
        self.changed = False
        self.frozen = 0

    def everything(self, progress: Callable[[int, int], None] | None) -> None:
        """Fold until nothing folds any more, then tell why the rest stays and write it as the options say."""
        self.graph.infer_shapes()
        chosen = [node for node in self.graph.nodes() if self.options.selects(node.label)]
        if self.options.freeze_training and (frozen := leftover.freeze_training(chosen)):
            self.changed, self.frozen = True, frozen
            self.notes.append(f"training mode was turned off in {frozen} BatchNormalization, then the model was folded")
        self.sites = [node for node in self.graph.nodes() if is_candidate(node)]
        # Normalizations go first: one may take the neighbouring Mul and Add along, which alone would have to stay.
        self.sites.sort(key=lambda node: node.op != NORMALIZATION)
        self.ended = dict.fromkeys((node.key for node in self.sites), _UNKNOWN)
        self._until_nothing_folds(progress)
        planner = Planner(self.options, merge=True, blocked=self.blocked)
        left = [node for node in self.sites if not node.is_made]
        self.ended.update({node.key: self._kept(node, planner) for node in left})
        if self.options.leftover != "keep" and self._rewrite([node for node in left if node.op == NORMALIZATION]):
            self._until_nothing_folds(progress)

    def _rewrite(self, left: list[Node]) -> bool:
        """Write the normalizations that stay in the form asked for; whether there were any."""
        chosen = [n for n in left if self.options.selects(n.label) and n.key not in self.blocked]
        rewritten = [node for node in chosen if leftover.rewrite(node, self.options.leftover)]
        self.sites += [node for node in self.graph.nodes() if node.is_made and node not in self.sites]
        if rewritten:
            self.changed = True
            form = {"affine": "Mul + Add", "conv": "a depthwise Conv"}[self.options.leftover]
            self.notes.append(f"{len(rewritten)} BatchNormalization that stay were written as {form}")
        return bool(rewritten)

    def _until_nothing_folds(self, progress: Callable[[int, int], None] | None) -> None:
        """Moves first, merges where nothing moves; then again with the constants of the merges as they are stored."""
        moving, merging = (Planner(self.options, merge=merge, blocked=self.blocked) for merge in (False, True))
        while self._round(moving, progress) or self._round(merging, progress) or self._settle():
            self.changed = True

    def _round(self, planner: Planner, progress: Callable[[int, int], None] | None) -> bool:
        """Try every open site once; whether any folded."""
        folded = False
        for number, node in enumerate(self.sites):
            if progress is not None:
                progress(number, len(self.sites))
            if not node.removed and self.options.selects(node.label):
                folded |= self._try(node, planner)
                self.graph.release()
        left = [node for node in self.sites if not node.removed]
        made = [node for node in self.graph.nodes() if node.is_made] if folded else []
        self.sites = [*left, *(node for node in made if node not in left)]
        return folded

    def _settle(self) -> bool:
        """Round the constants of affine operators to their types, as a later run would read them; whether any moved."""
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

    def _try(self, node: Node, planner: Planner) -> bool:
        try:
            plan = planner.plan(affine_of(node))
        except Refused:
            return False
        if not isinstance(plan, Plan):
            return False
        affines = {removed.key: affine_of(removed).affine for removed in plan.move.removed}
        for removed in plan.move.removed:
            if not removed.is_made:
                self.ended[removed.key] = _moved(removed, affines[removed.key], plan)
        commit(plan)
        return True

    def _kept(self, node: Node, planner: Planner) -> Outcome:
        """Why a site stays, asked once more of the final graph."""
        if not self.options.selects(node.label):
            both = Refused("kept-by-option", "an option leaves it alone")
            return _outcome(node, None, backward=_refusal(both), forward=_refusal(both))
        try:
            site = affine_of(node)
        except Refused as refusal:
            return _outcome(node, None, backward=_refusal(refusal), forward=_refusal(refusal))
        answer = planner.plan(site)
        assert not isinstance(answer, Plan), "rounds end when nothing folds"  # noqa: S101
        return _outcome(node, site.affine, backward=_refusal(answer[0]), forward=_refusal(answer[1]))


def unrepresentable(folded: Folded) -> dict[str, Refused]:
    """Evaluate every constant that folds made; the sites that were the last straw for one, and why."""
    found = {}
    for scope in folded.graph.scopes:
        for weight in scope.weights.values():
            straw = weight.last_straw()
            if straw is not None:
                found[straw[0]] = straw[1].refusal()
    return found


def _moved(node: Node, a: Affine, plan: Plan) -> Outcome:
    move = plan.move
    merged = all(edit.node.op in OPERATORS for edit in move.edits)
    split = any(edit.leftover is not None for edit in move.edits)
    status = "removed" if not move.edits else "split" if split else "merged" if merged else "folded"
    return _outcome(
        node,
        a,
        status=status,
        direction=plan.direction if move.edits else "",
        path=tuple(passed.label for passed in move.path),
        absorbed_by=tuple(dict.fromkeys(edit.node.label for edit in move.edits)),
    )


def _outcome(node: Node, a: Affine | None, **facts: object) -> Outcome:
    figures: dict[str, object] = {}
    if a is not None:
        scales = np.sort(np.abs(a.scale).reshape(-1))
        shown = scales[np.linspace(0, scales.size - 1, min(scales.size, SCALES_SHOWN)).astype(int)]
        figures = {
            "channels": int(scales.size),
            "scales": tuple(float(s) for s in shown),
            "scale_min": float(scales[0]),
            "scale_max": float(scales[-1]),
            "shift_max": float(np.abs(a.shift).max()),
        }
    return Outcome(**{"node": node.label, "operator": node.op, "status": "kept", **figures, **facts})  # type: ignore[arg-type]


_UNKNOWN = Outcome("", "", "kept")


def _refusal(refused: Refused) -> Refusal:
    return Refusal(refused.code, refused.reason, refused.at, refused.hint)


def _graphs(model: onnx.ModelProto) -> Iterable[Iterable[onnx.NodeProto]]:
    waiting: list[Iterable[onnx.NodeProto]] = [model.graph.node, *(function.node for function in model.functions)]
    while waiting:
        nodes = waiting.pop()
        yield nodes
        for node in nodes:
            for attribute in node.attribute:
                waiting += [body.node for body in (attribute.g, *attribute.graphs) if body.node]


def count_nodes(model: onnx.ModelProto) -> int:
    """Operators in all graphs and functions."""
    return sum(1 for nodes in _graphs(model) for _ in nodes)


def count_normalizations(model: onnx.ModelProto) -> int:
    """Standard BatchNormalizations in all graphs and functions."""
    return sum(_is_normalization(node) for nodes in _graphs(model) for node in nodes)


def _is_normalization(node: onnx.NodeProto) -> bool:
    return node.op_type == NORMALIZATION and node.domain in {"", "ai.onnx"}


def _out_of_reach(graph: Graph) -> Iterable[Outcome]:
    """The normalizations that are no sites: those in functions, and operators of that name that are not ONNX's."""
    both = _refusal(Refused("in-function", "model-local functions are not folded"))
    for function in graph.model.functions:
        for proto in function.node:
            if _is_normalization(proto):
                label = proto.name or next(iter(proto.output), proto.op_type)
                yield Outcome(f"{function.name}/{label}", NORMALIZATION, "kept", backward=both, forward=both)
    for node in graph.nodes():
        if node.proto.op_type == NORMALIZATION and node.op != NORMALIZATION:
            custom = _refusal(Refused("custom-domain", f"{node.op} is not the standard operator"))
            yield Outcome(node.label, node.op, "kept", backward=custom, forward=custom)
