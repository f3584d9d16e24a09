"""RULES: for every operator, what it does with an affine that comes from behind or from before."""

from folding.rules import (
    convolution,
    elementwise,
    joining,
    layout,
    linear,
    normalization,
    padding,
    pooling,
    resampling,
    selection,
)
from folding.rules.rule import OperatorRule

RULES: dict[str, OperatorRule] = {
    **convolution.RULES,
    **linear.RULES,
    **elementwise.RULES,
    **layout.RULES,
    **joining.RULES,
    **normalization.RULES,
    **padding.RULES,
    **pooling.RULES,
    **resampling.RULES,
    **selection.RULES,
}

__all__ = ["RULES", "OperatorRule"]
