"""RULES: for every operator, what it does with an affine that comes from behind or from before."""

from folding.rules import convolution, elementwise, joining, layout, linear, normalization, quantized
from folding.rules.rule import OperatorRule

RULES: dict[str, OperatorRule] = {
    **convolution.RULES,
    **linear.RULES,
    **elementwise.RULES,
    **layout.RULES,
    **joining.RULES,
    **normalization.RULES,
    **quantized.RULES,
}

__all__ = ["RULES", "OperatorRule"]
