"""What else was done to a model than folding: removed, written as one operator, converted, lowered. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Stage = Literal["cleaned", "fused", "converted", "equalized", "lowered"]
EXAMPLES = 10  # labels of operators that a change names; `count` has all


@dataclass(frozen=True)
class Change:
    """What one kind of change did to a model.

    Attributes:
        stage: cleaned (removed, or computed ahead), fused (an idiom became one operator), converted (opset, IR
            version, shapes, types), equalized (channels scaled before 8 bits) or lowered (to a 16-bit type).
        kind: what was done, in the words of a report: "Identity removed", "GELU written as Gelu".
        count: how often.
        examples: the labels of the first operators that it was done to.
        key: what `blocked` calls it, where it can be left out; "" where it cannot.
        nbytes: by how many bytes of constants it made the model larger; negative where it made it smaller.
    """

    stage: Stage
    kind: str
    count: int = 1
    examples: tuple[str, ...] = ()
    key: str = ""
    nbytes: int = 0
