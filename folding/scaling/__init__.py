"""Scaling: powers of two on a value between weights, which absorb them, so that no digit changes.

region (how far a scale spreads, and which weights absorb it), balance (values back into the range of float16), equalize
(channels alike, for 8 bits).

Import its modules one by one. May import: `folding.planning`, `folding.precision` and all below them.
"""
