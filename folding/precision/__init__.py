"""Precision: which values of a folded graph are stored in 16 bits, and the graph with them.

kinds (the 16-bit types), groups (what moves together, by schema), classes (what each operator wants), angles (what a
sine needs), constants and masks (how constants fit), cut (minimum cut), decide (the types of all values), lower (the
graph with these types), compensation (biases that make up for rounded weights), ranges (magnitudes on samples).

The types are decided after folding, on exact weights, which are rounded once, while they are written. May import:
`folding.editing`, `folding.verification` and below.
"""
