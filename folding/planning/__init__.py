"""Planning: decide what moves where, all or nothing, then commit. Only this room checks uses, outputs and sharing.

plan (what will be done, as data), planner (moves), halves (half a move), makers (what options keep), soundness (what
every move must keep), noise (digits that a shift would lose), copies (bytes that a move would add), branches
(parallel branches as one convolution), norms (gamma and beta of a normalization, moved), commit (applies a plan),
constant_maps (normalizations of constants), calibration (statistics of samples), leftover (normalizations that stay,
in the requested form), run (one pass over all sites), outcomes (what the report says of each operator), remains (what
is left of maps that fold in part).

Import its modules one by one. May import: `folding.rules` and all below it, and `folding.report` for the outcomes.
"""
