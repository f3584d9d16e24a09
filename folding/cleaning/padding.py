"""Pad in front of a convolution or a pooling, which pads by itself.

1. Conv: zeros around the spatial axes, on top of its own pads.
2. AveragePool: zeros that count, so ``count_include_pad = 1``. Its own pads, if any, must count already.
3. MaxPool: -inf, which is what it pads with.

The Pad has the mode "constant", adds to the spatial axes alone, and takes nothing away. Windows of a pooling that
rounds up, or that picks its pads itself (auto_pad), are placed otherwise, and runtimes want pads smaller than a window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.cleaning.work import shape_of
from folding.editing import surgery

if TYPE_CHECKING:
    from folding.cleaning.work import Work
    from folding.graph.node import Node

READERS = frozenset({"AveragePool", "Conv", "MaxPool"})
PADS_AS_INPUT = 11  # opset
COUNTS_PADS = 7  # opset since which AveragePool has count_include_pad
FIRST_SPATIAL = 2  # axis


def absorb(node: Node, work: Work) -> bool:
    """Let a convolution or pooling read what a Pad before it reads, and pad by itself."""
    pad = node.scope.producers.get(node.inputs[0])
    if pad is None or pad.op != "Pad" or work.stays(pad) or not _all_absorb(pad, work):
        return False
    rank = len(shape_of(node.scope, node.inputs[0]) or shape_of(node.scope, pad.inputs[0]) or ())
    given = _pads(pad, rank)
    if given is None or _value(pad) != (-np.inf if node.op == "MaxPool" else 0.0):
        return False
    own = list(node.attribute("pads") or [0] * len(given))
    auto = node.attribute("auto_pad") or b"NOTSET"
    if auto not in {b"NOTSET", b"VALID"} or len(own) != len(given):
        return False
    own = [0] * len(given) if auto == b"VALID" else own
    together = [a + b for a, b in zip(own, given, strict=True)]
    if node.op != "Conv" and not _pools_alike(node, own, together):
        return False
    surgery.connect(node, 0, pad.inputs[0])
    surgery.drop_attributes(node, {"auto_pad"})
    surgery.set_attributes(node, {"pads": together})
    if node.op == "AveragePool":
        surgery.set_attributes(node, {"count_include_pad": 1})
    work.look_around(node)
    return True


def _all_absorb(pad: Node, work: Work) -> bool:
    """Whether the Pad goes as soon as all such operators have absorbed it."""
    readers = pad.scope.uses.get(pad.output, {})
    return work.is_inner(pad.scope, pad.output) and all(e.node.op in READERS and e.index == 0 for e in readers)


def _pads(pad: Node, rank: int) -> list[int] | None:
    """What a Pad adds before and behind the spatial axes; None if it does anything else."""
    if rank <= FIRST_SPATIAL or pad.attribute("mode") != b"constant" or pad.has(3):
        return None
    found = pad.integers(1) if pad.version >= PADS_AS_INPUT else pad.attribute("pads")
    if found is None or len(found) != 2 * rank or min(found) < 0:
        return None
    others = (*found[:FIRST_SPATIAL], *found[rank : rank + FIRST_SPATIAL])
    return None if any(others) else [*found[FIRST_SPATIAL:rank], *found[rank + FIRST_SPATIAL :]]


def _value(pad: Node) -> float | None:
    """The number that a Pad writes; None if it is unknown."""
    if pad.version < PADS_AS_INPUT:
        return float(pad.attribute("value"))
    if not pad.has(2):
        return 0.0
    return float(pad.array(2).reshape(-1)[0]) if pad.is_constant(2) else None


def _pools_alike(node: Node, own: list[int], together: list[int]) -> bool:
    if node.attribute("ceil_mode") or len([name for name in node.outputs if name]) > 1:
        return False
    kernel, half = node.attribute("kernel_shape"), len(together) // 2
    if any(pad >= kernel[i % half] for i, pad in enumerate(together)):
        return False
    counts = node.version >= COUNTS_PADS and (not any(own) or node.attribute("count_include_pad"))
    return bool(counts) or node.op == "MaxPool"
