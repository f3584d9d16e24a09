"""Steps that make branches of one value and join them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.support.strategies.graphs import Growing


def branches(g: Growing) -> None:
    """A sum of convolutions and affines of one value, as training with several branches leaves it."""
    x = g.pick(3, 4)
    if x is None:
        return
    channels, spatial = g.shape(x)[1], len(g.shape(x)) - 2
    group = g.one_of(*(n for n in (1, 2, channels) if channels % n == 0))
    parts = [g.m.bn(x, name=f"bn{len(g.m.nodes)}")]
    for kernel in g.draw(st.lists(st.sampled_from([1, 3]), min_size=1, max_size=2)):
        step = g.one_of(1, 1, 2)
        pads = [step * (kernel // 2)] * 2 * spatial
        parts.append(g.m.conv(x, channels, kernel, group=group, pads=pads, dilations=[step] * spatial))
    total, *rest = g.draw(st.permutations(parts))
    for part in rest:
        total = g.m.op(g.one_of("Add", "Sub", "Sum"), total, part)
        if g.one_of(True, False, False):
            total = g.m.per_channel(g.one_of("Mul", "Add"), total, name=f"scale{len(g.m.nodes)}")
    g.add(total)


STEPS = {"branches": branches}
