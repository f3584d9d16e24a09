"""Rules: for every operator, how it absorbs or passes an affine map that follows or precedes it. One file per family.

rule (the interface of a rule, and helpers for several families), edit (the result of an absorbing rule), axes (axes and
lengths of an operator); then the families, which `RULES` joins. A rule never checks uses, outputs or sharing: the
planner does.

May import: `folding.analysis` and all below it.
"""

from folding.rules import (
    activations,
    clamps,
    constant,
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
from folding.rules.edit import Edit
from folding.rules.rule import OperatorRule, Passage, Ways, along, asked, fits_input

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

__all__ = [
    "RULES",
    "Edit",
    "OperatorRule",
    "Passage",
    "Ways",
    "along",
    "asked",
    "constant",
    "fits_input",
    "normalization",
    "quantized",
]
