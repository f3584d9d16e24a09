"""Algebra: values with laws, the affine maps and what they are made of. Nothing here knows an operator or a file.

affine (scale and shift), clamp (bounds that move along), shape and regroup (how axes correspond across a reshape),
factors (a broadcast product, block by block), quantization (the grid of a quantized tensor).

May import: NumPy, ml_dtypes, `folding.refusal`.
"""
