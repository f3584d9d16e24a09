"""Pipeline: what is done to one model, in which order, until nothing changes and the result is right.

fold (one model, as often as there is more to fold), ready (what options and target ask for besides), attempts (at one
fold, until its result is right), takeback (which folds to leave out where it is wrong), offers (what more folds with
other options).

May import: `folding.scaling`, `folding.planning` and all below them.
"""

from folding.pipeline.attempts import Attempts
from folding.pipeline.fold import Folded, freeze_only
from folding.pipeline.offers import with_offers
from folding.pipeline.ready import as_it_is
from folding.pipeline.takeback import before

__all__ = ["Attempts", "Folded", "as_it_is", "before", "freeze_only", "with_offers"]
