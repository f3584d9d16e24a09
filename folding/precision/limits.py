"""What ranges and bounds say: values beyond the 16-bit type, or below it, stay in float32 with what reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.graph.node import Edge
from folding.precision.bounds import bounds
from folding.precision.classes import ISLAND, START, STRONG, cast_cost
from folding.precision.groups import CONSTANT, FREE, HIGH, LOW
from folding.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from folding.graph.node import Node
    from folding.precision.groups import Groups, Value
    from folding.verification.ranges import Range

MARGIN = 4  # samples show a part of what occurs
WORTHLESS = 2.0**-3  # of the smallest normal number: a subnormal below has seven digits or less
SUMS = frozenset({"Add", "Mean", "ReduceMean", "ReduceSum", "Sub", "Sum"})
CANCELLED = 2.0**-20  # of the largest term: some units in the last place of float32
INVERTED = {"Div": 1, "Log": 0, "Pow": 0, "Reciprocal": 0, "Sqrt": 0}  # operators that make small numbers matter


def apply(
    groups: Groups, ranges: Mapping[str, Range], masked: Collection[tuple[int, str]], *, everything: bool
) -> None:
    """Fix the groups that make or read values that do not fit, and weigh those of values that hardly do.

    Samples show the values of the main graph; a bound that holds without them needs no margin. Where there are no
    samples, a bound beyond the range counts.
    """
    proven = bounds(groups)
    for key, value in list(groups.values.items()):
        if value.maker == CONSTANT:
            continue
        found = ranges.get(value.name) if key[0] == groups.graph.main.index else None
        if found is not None and _is_noise(value, found, ranges):
            continue
        limit, kind = proven.get(key), groups.kind
        if found is not None:
            margin = 1 if limit is not None and limit.size <= kind.largest else MARGIN
            _apply(groups, value, found, margin, is_mask=key in masked, everything=everything)
        elif limit is not None and limit.size > kind.largest and key not in masked:
            _fix(groups, value, f"{value.name!r} may reach {limit.size:.3g}, too much for {kind.name}")


def _is_noise(value: Value, found: Range, ranges: Mapping[str, Range]) -> bool:
    """Whether a sum is what the rounding of its terms leaves of zero, as the mean of values whose mean was taken off.

    Whatever it is rounded to, its terms say no more; and in a file whose terms are in 16 bits it is another number.
    """
    producer = value.scope.producers.get(value.name)
    if producer is None or producer.op not in SUMS:
        return False
    terms = [ranges[name].largest for name in producer.inputs if name in ranges]
    return found.largest <= CANCELLED * max(terms, default=0.0)


def _apply(groups: Groups, value: Value, found: Range, margin: int, *, is_mask: bool, everything: bool) -> None:
    kind, name = groups.kind, value.name
    largest = max(found.highest, 0.0) if is_mask else found.largest
    if largest > kind.largest / margin:
        _fix(groups, value, f"{name!r} reaches {largest:.3g} on the samples, too much for {kind.name}")
    elif 0 < found.largest < kind.normal * WORTHLESS:
        _fix(groups, value, f"{name!r} stays below {found.largest:.3g} on the samples, too little for {kind.name}")
    elif 0 < found.largest < kind.normal:
        _weigh(groups, value, STRONG)
    elif found.smallest and _is_inverted(value):
        if found.smallest < kind.normal * WORTHLESS**2:
            _fix(groups, value, f"{name!r} goes down to {found.smallest:.3g} on the samples, and is inverted")
        elif found.smallest < kind.normal and not everything:
            _weigh(groups, value, ISLAND)


def _fix(groups: Groups, value: Value, reason: str) -> None:
    """Fix all that touches a value; an input or output of the model that was to be in 16 bits stays in float32."""
    value.maker = HIGH if value.maker == LOW else value.maker
    value.readers = [(HIGH if number == LOW else number, reader) for number, reader in value.readers]
    for number in (value.maker, *(number for number, _ in value.readers)):
        if number > LOW:
            groups.all[number].fix(reason)


def _weigh(groups: Groups, value: Value, share: float) -> None:
    for number in dict.fromkeys((value.maker, *(number for number, _ in value.readers))):
        group = groups.all[number]
        if number > LOW and group.fixed == FREE:
            group.high += int(share * max(cast_cost(value), START))
            group.reason = group.reason or f"{value.name!r} is small on the samples"


def _is_inverted(value: Value) -> bool:
    return any(
        isinstance(r, Edge) and INVERTED.get(r.node.op) == r.index and not _is_power(r.node) for _, r in value.readers
    )


def _is_power(node: Node) -> bool:
    """Whether an operator is a square or another power of at least 1, which makes small numbers smaller."""
    if node.op != "Pow" or not node.is_constant(1):
        return False
    try:
        return bool((node.weight(1).values() >= 1).all())
    except Refused:
        return False
