"""Algebra: affine maps and related values, with their laws. Nothing here knows an operator or a file.

affine (scale and shift), whole (questions about all elements), clamp (bounds that move with it), shape and regroup (how
axes correspond across a reshape), factors (a broadcast product, block by block), quantization (the grid of a quantized
tensor).

May import: NumPy, ml_dtypes, `folding.refusal`.
"""
