"""Products: a matrix product with its bias as Gemm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.editing.composing import Made
from folding.fusing.operator import Operator, dtype_of
from folding.graph.sites import MATRIX
from folding.refusal import require

if TYPE_CHECKING:
    from folding.graph.idioms import Occurrence


def gemm(found: Occurrence) -> Operator:
    """``Gemm(A, B, C) = A @ B + C`` for matrices A and B and a C that broadcasts against the product."""
    add = found.last
    product = next(
        node for node in map(add.scope.producers.get, add.inputs) if node is not None and node.op == "MatMul"
    )
    ranks = (product.rank(0), product.rank(1))
    require(ranks == (MATRIX, MATRIX), "parameters", f"it multiplies values of rank {ranks}", product.label)
    index = int(add.inputs[0] == product.output)
    bias, columns = add.shape(index), product.shape(1)[1]
    fits = len(bias) <= MATRIX and (not bias or bias[-1] in (1, columns))
    require(fits, "broadcast", f"its bias has the shape {bias}", add.label)
    dtype_of(found)
    return Operator(Made("Gemm", (*product.inputs, add.inputs[index])), (product, add), add)
