"""RULES: for every operator, what it does with an affine that comes from behind or from before."""

from folding.rules import (
    clamps,
    convolution,
    elementwise,
    joining,
    layout,
    linear,
    normalization,
    padding,
    pooling,
    recurrent,
    resampling,
    selection,
)
from folding.rules.rule import OperatorRule

RULES: dict[str, OperatorRule] = {
    **clamps.RULES,
    **convolution.RULES,
    **elementwise.RULES,
    **joining.RULES,
    **layout.RULES,
    **linear.RULES,
    **normalization.RULES,
    **padding.RULES,
    **pooling.RULES,
    **recurrent.RULES,
    **resampling.RULES,
    **selection.RULES,
}

__all__ = ["RULES", "OperatorRule"]
