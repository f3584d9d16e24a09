"""RULES: for every operator, what it does with an affine that comes from behind or from before."""

from folding.rules import activations, convolution, elementwise, gemm, joining, layout, normalization, products
from folding.rules.rule import OperatorRule

RULES: dict[str, OperatorRule] = {
    **convolution.RULES,
    **gemm.RULES,
    **products.RULES,
    **elementwise.RULES,
    **activations.RULES,
    **layout.RULES,
    **joining.RULES,
    **normalization.RULES,
}

__all__ = ["RULES", "OperatorRule"]
