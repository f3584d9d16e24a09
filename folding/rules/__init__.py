"""RULES: for every operator, what it does with an affine that comes from behind or from before."""

from folding.rules import (
    activations,
    clamps,
    convolution,
    elementwise,
    gemm,
    joining,
    layout,
    normalization,
    padding,
    pooling,
    products,
    quantized,
    recurrent,
    resampling,
    selection,
)
from folding.rules.rule import OperatorRule

RULES: dict[str, OperatorRule] = {
    **activations.RULES,
    **clamps.RULES,
    **convolution.RULES,
    **elementwise.RULES,
    **gemm.RULES,
    **joining.RULES,
    **layout.RULES,
    **normalization.RULES,
    **padding.RULES,
    **pooling.RULES,
    **products.RULES,
    **quantized.RULES,
    **recurrent.RULES,
    **resampling.RULES,
    **selection.RULES,
}

__all__ = ["RULES", "OperatorRule"]
