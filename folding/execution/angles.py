"""Values that are angles of positions, times and coordinates: what a model makes of its inputs for a sine.

``sin(x * (1 + e))`` is off by up to ``|x * e|``: rounding position 3000 to float16 moves its sine by one radian. So no
correct conversion rounds them, and an execution with rounded numbers leaves them as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.execution.halves import STANDARD

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

PERIODIC = frozenset({"Cos", "Sin", "Tan"})
# Operators that make positions into angles.
PASSING = frozenset(
    "Add Cast CastLike Concat Constant ConstantOfShape Div Einsum Expand Flatten Gather Gemm Identity MatMul Mul Neg"  # noqa: SIM905
    " Range Reshape Slice Split Squeeze Sub Tile Transpose Unsqueeze Where".split()
)
# Inputs of these that hold what becomes the angle; the others are lengths, places and conditions.
DATA: dict[str, slice] = {
    **dict.fromkeys(("CastLike", "Expand", "Gather", "Reshape", "Slice", "Split", "Squeeze", "Tile"), slice(1)),
    "ConstantOfShape": slice(0),
    "Unsqueeze": slice(1),
    "Where": slice(1, 3),
}
WHOLE = frozenset({"ArgMax", "ArgMin", "NonZero", "Shape", "Size"})  # operators whose results are whole numbers
STEPS = 64  # operators that make an angle


def angles(graph: GraphProto) -> set[str]:
    """The names of the values on the way to an angle that a graph computes of inputs, whole numbers and constants."""
    producers = {name: node for node in graph.node for name in node.output if name}
    found: set[str] = set()
    for node in graph.node:
        if node.op_type in PERIODIC and node.domain in STANDARD:
            found |= _way(node.input[0], producers)
    return found


def _way(angle: str, producers: dict[str, NodeProto]) -> set[str]:
    """The values that are computed for an angle; none if other operators take part."""
    found: set[str] = set()
    waiting = [angle]
    while waiting:
        name = waiting.pop()
        maker = producers.get(name)
        if name in found or maker is None or maker.op_type in WHOLE:
            continue
        if maker.op_type not in PASSING or maker.domain not in STANDARD or len(found) == STEPS:
            return set()
        found.add(name)
        waiting += maker.input[DATA.get(maker.op_type, slice(None))]
    return found
