"""Planning: decide what moves where, all or nothing, then commit. Only this room checks uses, outputs and sharing.

plan (what will be done, as data), planner (moves), halves (half a move), makers (what options keep), soundness (what
every move must keep), noise (digits that a shift would lose), copies (bytes that a move would add), branches
(parallel branches as one convolution), commit (applies a plan), constant_maps (normalizations of constants),
calibration (statistics of samples), leftover (normalizations that stay, in the requested form), ready (what options
and target ask for besides), outcomes (what the report says of each operator), remains (what is left of maps that fold
in part), pipeline (one model, until nothing changes), offers (what more folds with other options), attempts (at one
fold, until its result is right), takeback (which folds to leave out where it is wrong).

May import: `folding.rules` and all below it, and `folding.report` for the outcomes.
"""

from folding.planning.attempts import Attempts
from folding.planning.offers import with_offers
from folding.planning.pipeline import Folded, freeze_only
from folding.planning.ready import as_it_is
from folding.planning.takeback import before

__all__ = ["Attempts", "Folded", "as_it_is", "before", "freeze_only", "with_offers"]
