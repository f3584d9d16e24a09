"""Outcomes: what the report states for each affine operator: the plan that moved it, or the refusals that kept it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.whole import largest
from folding.analysis.ended import where_inference_ended
from folding.editing.functions import is_normalization
from folding.graph.sites import NORMALIZATION, OPERATORS, affine_of
from folding.planning.branches import SUMS
from folding.planning.plan import Plan
from folding.refusal import Refused
from folding.report.model import SCALES_SHOWN, Outcome, Refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from numpy.typing import NDArray

    from folding.algebra.affine import Affine
    from folding.graph.index import Graph
    from folding.graph.node import Node
    from folding.options import Options
    from folding.planning.plan import Merge
    from folding.planning.planner import Planner

UNKNOWN = Outcome("", "", "kept")


class Reasons:
    """The reasons why operators stay, which are determined again on the final graph."""

    def __init__(self, graph: Graph, planner: Planner, options: Options) -> None:
        self._graph, self._planner, self._options = graph, planner, options
        self._labelled: dict[str, Node] = {}

    def kept(self, node: Node) -> Outcome:
        """The outcome of an operator that stays, with the refusals of both directions."""
        if not self._options.selects(node.label):
            both = Refused("kept-by-option", "an option leaves it alone")
            return _outcome(node, None, backward=_refusal(both), forward=_refusal(both))
        try:
            site = affine_of(node)
        except Refused as refusal:
            both = self._completed(refusal, node)
            return _outcome(node, None, backward=_refusal(both), forward=_refusal(both))
        answer = self._planner.plan(site)
        assert not isinstance(answer, Plan), "rounds end when nothing folds"  # noqa: S101
        backward, forward = (_refusal(self._completed(refusal, node)) for refusal in answer)
        return _outcome(node, site.affine, backward=backward, forward=forward)

    def _completed(self, refusal: Refused, node: Node) -> Refused:
        """The refusal; one for an unknown shape also says where shape inference ended."""
        if refusal.code != "unknown-shape":
            return refusal
        if not self._labelled:
            self._labelled = {one.label: one for one in self._graph.nodes()}
        ended = where_inference_ended(self._labelled.get(refusal.at, node))
        return Refused(refusal.code, f"{refusal}; {ended}" if ended else str(refusal), refusal.at)


def moved(node: Node, a: Affine, plan: Plan, idioms: Collection[Node]) -> Outcome:
    """The outcome of an affine operator that a plan removes, entirely or one half of it.

    `idioms` are the operators of idioms: a map that goes into one is folded, and not merged with another map.
    """
    move = plan.move
    absorbing = [edit.node for edit in move.edits if edit.node is not plan.site]
    passed = [node for node in move.path if node not in absorbing]  # a clamp with new bounds lets the map pass, too
    merged = all(absorber.op in OPERATORS and absorber not in idioms for absorber in absorbing)
    split = plan.is_split or any(edit.leftover is not None for edit in move.edits)
    status = "removed" if not move.edits else "split" if split else "merged" if merged else "folded"
    return _outcome(
        node,
        a,
        status=status,
        direction=plan.direction if move.edits else "",
        path=tuple(other.label for other in passed),
        operators=tuple(other.op for other in passed),
        absorbed_by=tuple(dict.fromkeys(absorber.label for absorber in absorbing)),
    )


def evaluated(node: Node) -> Outcome:
    """The outcome of a normalization of a constant: only the constant is left of it."""
    return _outcome(node, None, status="removed")


def merged_away(node: Node, plan: Merge) -> Outcome:
    """The outcome of an affine operator that is part of a sum of parallel branches."""
    return _outcome(
        node,
        affine_of(node).affine,
        status="folded",
        direction="forward",
        path=tuple(other.label for other in plan.others if other.op in SUMS),
        operators=tuple(other.op for other in plan.others if other.op in SUMS),
        absorbed_by=(plan.edit.node.label,),
    )


def _outcome(node: Node, a: Affine | None, **facts: object) -> Outcome:
    figures: dict[str, object] = {}
    if a is not None:
        scales = np.abs(a.scale).reshape(-1)
        scales.sort()
        shown = scales if scales.size <= SCALES_SHOWN else scales[_places(scales.size)]
        figures = {
            "channels": int(scales.size),
            "scales": tuple(shown.tolist()),
            "scale_min": float(scales[0]),
            "scale_max": float(scales[-1]),
            "shift_max": largest(np.abs(a.shift)),
        }
    return Outcome(**{"node": node.label, "operator": node.op, "status": "kept", **figures, **facts})  # type: ignore[arg-type]


@cache
def _places(size: int) -> NDArray[np.int64]:
    """The places of the scales to show, spread evenly over `size` sorted ones."""
    return np.linspace(0, size - 1, SCALES_SHOWN).astype(int)


def _refusal(refused: Refused) -> Refusal:
    return Refusal(refused.code, refused.reason, refused.at, refused.hint)


def out_of_reach(graph: Graph) -> Iterable[Outcome]:
    """The normalizations that are not sites: in functions of another opset, and non-standard operators of that name."""
    both = _refusal(Refused("in-function", f"the function does not import opset {graph.opset}, as the model does"))
    for function in graph.model.functions:
        for proto in () if graph.reaches(function) else function.node:
            if is_normalization(proto):
                label = proto.name or next(iter(proto.output), proto.op_type)
                yield Outcome(f"{function.name}/{label}", NORMALIZATION, "kept", backward=both, forward=both)
    for node in graph.nodes():
        if node.proto.op_type == NORMALIZATION and node.op != NORMALIZATION:
            custom = _refusal(Refused("custom-domain", f"{node.op} is not the standard operator"))
            yield Outcome(node.label, node.op, "kept", backward=custom, forward=custom)
