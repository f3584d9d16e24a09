"""Element types that attributes name: of Cast, of what makes values out of nothing, of what follows its input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.editing import retyping
from folding.precision.kinds import FLOAT32

if TYPE_CHECKING:
    from collections.abc import Mapping

    from folding.graph.node import Node
    from folding.precision.kinds import Kind

# The attribute that names the type of the result, and the constraint of the result.
NAMED = {
    "Cast": ("to", "T2"),
    "RandomNormal": ("dtype", "T"),
    "RandomUniform": ("dtype", "T"),
    "BlackmanWindow": ("output_datatype", "T2"),
    "HammingWindow": ("output_datatype", "T2"),
    "HannWindow": ("output_datatype", "T2"),
    "MelWeightMatrix": ("output_datatype", "T3"),
}
# The same, where the result has the type of the input T1 if the attribute is absent.
FOLLOWING = {
    "Bernoulli": ("dtype", "T2"),
    "EyeLike": ("dtype", "T2"),
    "RandomNormalLike": ("dtype", "T2"),
    "RandomUniformLike": ("dtype", "T2"),
}


def retype(node: Node, lowered: Mapping[str, bool], kind: Kind) -> None:
    """Let the attributes of an operator name the types of its constraints; `lowered` has those that are float32."""
    if node.op == "ConstantOfShape":
        number = retyping.filling(node)
        bound = kind.largest if number > 0 else -kind.largest
        stored = kind.nearest(number)
        infinite = number in {float("inf"), float("-inf")}
        retyping.set_filling(
            node, bound if stored != number and abs(stored) > kind.largest and not infinite else number, kind.dtype
        )
        return
    attribute, constraint = (NAMED | FOLLOWING).get(node.op, ("", ""))
    if constraint in lowered:
        retyping.set_type_attribute(node, attribute, kind.dtype if lowered[constraint] else FLOAT32)
