"""A normalization's own gamma and beta, moved forward into the products that read it: `--fold-norms`.

``W @ (gamma * n(x) + beta) + b = (W * gamma) @ n(x) + (W @ beta + b)``: what is left is the normalization alone, with a
scale of 1. Folding leaves gamma and beta where they are, because runtimes compute them together with the normalization.
It pays where weights are quantized afterwards (the gamma of RMSNormalization goes into q, k and v), and for runtimes
that compute a normalization without parameters faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from folding.algebra.affine import Affine
from folding.editing.surgery import drop_inputs, set_constant
from folding.graph import idioms
from folding.graph.sites import Site, affine_of
from folding.graph.weights import Weight
from folding.planning.commit import bypass, carry_out
from folding.planning.plan import Move
from folding.planning.planner import Planner
from folding.planning.soundness import require_sound
from folding.refusal import Refused, require
from folding.report.changes import Change

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from folding.graph.idioms import Occurrence
    from folding.graph.index import Graph
    from folding.graph.node import Node
    from folding.options import Options

KEY = "norm:"  # before the key of the normalization's last operator, as `blocked` calls it
NORMALIZATIONS = frozenset({"LayerNormalization", "RMSNormalization"})
SCALE, BIAS = 1, 2  # inputs of the operators


class _Norm(NamedTuple):
    """A normalization with its map: an operator, or the Mul and Add at the end of one that is written out."""

    kind: str
    site: Site
    parameters: tuple[Node, ...] = ()

    @property
    def key(self) -> str:
        return KEY + self.site.node.key


def fold_norms(graph: Graph, options: Options, blocked: Collection[str] = ()) -> list[Change]:
    """Move gamma and beta into what reads them, where all of it absorbs them; return a change for each normalization.

    Nothing is added for it, and a normalization without gamma and beta stays as it is. Shapes must have been inferred.
    """
    found = idioms.find(graph)
    planner = Planner(options, idioms=found)
    return [change for norm in list(_norms(graph, found)) if (change := _moved(norm, planner, found, blocked))]


def _norms(graph: Graph, found: dict[Node, Occurrence]) -> Iterator[_Norm]:
    """The normalizations that have a gamma which is no 1, or a beta which is no 0."""
    for occurrence in dict.fromkeys(found.values()):
        gamma, beta = occurrence.gamma, occurrence.beta
        if gamma is not None and occurrence.idiom.operator in NORMALIZATIONS:
            try:
                yield _Norm(occurrence.idiom.operator, affine_of(gamma), (gamma, *([beta] if beta else [])))
            except Refused:
                continue
    for node in graph.nodes():
        if node.op in NORMALIZATIONS:
            try:
                site = _site(node)
            except Refused:
                continue
            if not site.affine.is_identity:
                yield _Norm(node.op, site)


def _site(node: Node) -> Site:
    """The map that the operator applies to what it normalized."""
    rank = len(node.output_shape)
    scale, bias = node.weight(SCALE), node.weight(BIAS) if node.has(BIAS) else None
    known = all(isinstance(length, int) for length in node.output_shape[rank - len(scale.shape) :])
    require(known, "unknown-shape", "the lengths of the normalized axes are unknown", node.label)
    gamma = scale.values()
    affine = Affine.of(gamma, np.zeros_like(gamma) if bias is None else bias.values()).with_rank(rank)
    require(affine.is_finite, "non-finite", "its scale or bias is not finite", node.label)
    return Site(node, 0, affine)


def _moved(norm: _Norm, planner: Planner, found: dict[Node, Occurrence], blocked: Collection[str]) -> Change | None:
    """Move the map of one normalization; None if anything that reads it does not absorb it."""
    kept = {node: found.pop(node) for node in norm.parameters}  # as long as they may move, they are no part of an idiom
    try:
        move = _planned(norm, planner, blocked)
    except Refused:
        found.update(kept)
        return None
    node = norm.site.node
    carry_out(move.edits, ", ".join(one.label for one in norm.parameters or (node,)), norm.key)
    for parameter in norm.parameters:
        bypass(parameter, keep_output=False)
    if not norm.parameters:
        _reset(node, norm.key)
    what = "gamma and beta" if len(norm.parameters) > 1 or not norm.site.affine.is_linear else "gamma"
    return Change("fused", f"{what} of {norm.kind} moved into the next products", 1, (node.label,), norm.key)


def _planned(norm: _Norm, planner: Planner, blocked: Collection[str]) -> Move:
    """The move of a map that removes gamma and beta and nothing else, and adds nothing."""
    site = norm.site
    chosen = all(planner.options.selects(node.label) for node in norm.parameters or (site.node,))
    require(chosen and norm.key not in blocked, "kept-by-option", "it is left alone", site.node.label)
    own = norm.parameters or (site.node,)
    move = Move(removed=own[:1]) + planner.move(site, "forward")
    require_sound(planner.options, site, move)
    whole = set(move.removed) == set(own) and not move.added and bool(move.edits)
    require(whole, "no-gain", "what reads it does not absorb all of it", site.node.label)
    return move


def _reset(node: Node, key: str) -> None:
    """Let the operator scale by 1 and add nothing."""
    scale = node.weight(SCALE)
    drop_inputs(node, BIAS)
    set_constant(node, SCALE, Weight.of(np.ones(scale.shape), scale.dtype), key)
