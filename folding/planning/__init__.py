"""Planning: what moves where, all or nothing; then the commit. The only room that asks about uses, outputs and sharing.

plan (what will be done, as data), planner (moves), branches (parallel branches as one convolution), commit (carries a
plan out), leftover (what stays, in the form asked for), pipeline (one model, until nothing changes).

May import: `folding.rules` and all below it, and `folding.report` for the outcomes.
"""

from folding.planning.pipeline import Folded, fold_graph, freeze_only, unrepresentable

__all__ = ["Folded", "fold_graph", "freeze_only", "unrepresentable"]
