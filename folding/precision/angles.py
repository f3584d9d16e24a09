"""Angles: a sine needs its argument to a fraction of a turn, so the error of large numbers in 16 bits is no small one.

``sin(x * (1 + e))`` is off by up to ``|x * e|``. The rounding of position 3000 to float16 moves the sine of it by one
radian, that to bfloat16 by eight: nothing is left of a rotary embedding. Two things stay in float32:

1. What a model computes of its inputs, of whole numbers and of constants alone: positions, times, coordinates. Samples
   seldom reach the largest of them, and it is little to compute.
2. Other angles that are large on the samples, as they are made and read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.execution.angles import PASSING, PERIODIC, STEPS
from folding.precision.groups import CONSTANT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from folding.graph.node import Node
    from folding.precision.groups import Groups, Value
    from folding.verification.ranges import Range

BLURRED = 2.0**-4  # radians by which the rounding of an angle may move it


def fix_angles(groups: Groups, ranges: Mapping[str, Range]) -> None:
    """Leave in float32 what reads and makes an angle that 16 bits would blur."""
    for node in groups.of:
        if node.op not in PERIODIC or (angle := groups.value(node.scope, node.inputs[0])) is None:
            continue
        makers = _makers(groups, angle)
        if makers is None and not _is_blurred(groups, angle, ranges):
            continue
        known = angle.scope.producers.get(angle.name)
        for maker in (node, *(makers if makers is not None else [known] if known in groups.of else [])):
            for number in groups.of[maker].values():
                groups.all[number].fix(f"{angle.name!r} is an angle, which {groups.kind.name} would blur")


def _makers(groups: Groups, angle: Value) -> list[Node] | None:
    """The operators that compute an angle of inputs, whole numbers and constants; None if others do."""
    found: dict[Node, None] = {}
    waiting = [angle]
    while waiting:
        value = waiting.pop()
        maker = value.scope.producers.get(value.name)
        if value.maker == CONSTANT or maker in found:
            continue
        if maker is None and value.scope is groups.graph.main:
            continue
        if maker is None or maker not in groups.of or maker.op not in PASSING or len(found) == STEPS:
            return None
        found[maker] = None
        read = (groups.value(maker.scope, name) for name in maker.inputs if name)
        waiting += [one for one in read if one is not None]
    return list(found)


def _is_blurred(groups: Groups, angle: Value, ranges: Mapping[str, Range]) -> bool:
    """Whether rounding moves the largest angle on the samples, which show the values of the main graph, too far."""
    known = ranges.get(angle.name) if angle.scope is groups.graph.main else None
    return known is not None and known.largest * 2.0**-groups.kind.digits > BLURRED
