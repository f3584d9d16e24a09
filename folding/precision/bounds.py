"""Bounds of values that need no samples: of what is squashed, clipped or made of booleans, and of sums of such."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from folding.analysis import constants
from folding.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from folding.graph.index import Scope
    from folding.graph.node import Node
    from folding.precision.groups import Groups

Key = tuple[int, str]
MANY = 1 << 16  # elements of a constant that is looked at here


class Bound(NamedTuple):
    """The lowest and the highest value that is possible, either may be infinite."""

    low: float
    high: float

    @property
    def size(self) -> float:
        """The largest possible magnitude."""
        return max(abs(self.low), abs(self.high))

    def join(self, other: Bound) -> Bound:
        """What holds for either."""
        return Bound(min(self.low, other.low), max(self.high, other.high))


ANY = Bound(-math.inf, math.inf)
WITHIN_ONE, SIGNED = Bound(0.0, 1.0), Bound(-1.0, 1.0)
SQUASHED = {
    **dict.fromkeys(("HardSigmoid", "Sigmoid", "Softmax"), WITHIN_ONE),
    **dict.fromkeys(("Cos", "Erf", "Sin", "Softsign", "Tanh"), SIGNED),
}
BY_TYPE = {"bool": WITHIN_ONE, "int8": Bound(-128.0, 127.0), "uint8": Bound(0.0, 255.0)}
# Operators whose results lie between the values of their first input.
BETWEEN = frozenset(
    "AveragePool DepthToSpace Dropout Expand Flatten Gather GlobalAveragePool GlobalMaxPool Identity MaxPool "  # noqa: SIM905
    "ReduceMax ReduceMean ReduceMin Reshape Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze".split()
)
JOINED = {
    "Concat": 0,
    "Max": 0,
    "Mean": 0,
    "Min": 0,
    "Where": 1,
}  # results lie between those of all inputs from here on


def bounds(groups: Groups) -> dict[Key, Bound]:
    """The finite bounds of all values that are no constants; operators come before those that read them."""
    found: dict[Key, Bound] = {}
    for scope in groups.graph.scopes:
        for node in () if scope.prefix else scope.nodes:
            if node.removed or node.op == "Constant" or not node.output:
                continue
            try:
                bound = _result(node, found)
            except Refused:
                continue
            if math.isfinite(bound.size):
                for name in node.outputs if node.op in BETWEEN else node.outputs[:1]:
                    found[scope.index, name] = bound
    return found


def _result(node: Node, found: Mapping[Key, Bound]) -> Bound:
    if node.op in SQUASHED:
        return SQUASHED[node.op]
    if node.op == "Cast":
        source = node.dtype(0)
        known = BY_TYPE.get("" if source is None else source.name)
        return known or _of(node.scope, node.inputs[0], found)
    if node.op in BETWEEN:
        return _of(node.scope, node.inputs[0], found)
    if node.op not in JOINED and node.op not in OPERATORS:
        return ANY
    inputs = _inputs(node, found)
    if node.op in JOINED and inputs:
        first, *others = inputs
        for other in others:
            first = first.join(other)
        return first
    return OPERATORS[node.op](node, inputs) if inputs else ANY


def _inputs(node: Node, found: Mapping[Key, Bound]) -> list[Bound]:
    """The bounds of what a bound is made of; none where an input has none, without which there is no bound."""
    inputs = []
    for name in node.inputs[JOINED.get(node.op, 0) :]:
        inputs.append(_of(node.scope, name, found) if name else ANY)
        if node.op not in ON_THEIR_OWN and not math.isfinite(inputs[-1].size):
            return []
    return inputs


def _of(scope: Scope, name: str, found: Mapping[Key, Bound]) -> Bound:
    owner = scope.owner(name)
    if owner is None:
        return ANY
    if (known := found.get((owner.index, name))) is not None:
        return known
    shape = constants.shape_of(owner, name) if owner.values.is_constant(owner, name) else None
    if not shape and shape != ():
        return ANY
    if math.prod(shape) > MANY or not math.prod(shape):
        return ANY
    values = constants.recipe(owner, name).values()
    return Bound(float(values.min()), float(values.max()))


def _clip(node: Node, inputs: list[Bound]) -> Bound:
    data = inputs[0]
    if node.version < CLIP_BY_INPUTS:
        low, high = (node.attribute(name) for name in ("min", "max"))
    else:
        low, high = (inputs[i][i - 1] if node.has(i) and node.is_constant(i) else None for i in (1, 2))
    low, high = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    found = Bound(min(max(data.low, low), high), max(min(data.high, high), low))
    return found if found.size <= FLOAT16_MAX or math.isfinite(data.size) else ANY


def _sum(node: Node, inputs: list[Bound]) -> Bound:
    """So many times the bounds of one element."""
    shapes = [node.scope.values.shape(node.scope, name) for name in (node.inputs[0], node.output)]
    sizes = [math.prod(n for n in shape if isinstance(n, int)) for shape in shapes if shape is not None]
    is_known = all(shape is not None and all(isinstance(n, int) for n in shape[1:]) for shape in shapes)
    if not is_known or not sizes[1]:
        return ANY
    count = sizes[0] / sizes[1]
    return Bound(count * inputs[0].low, count * inputs[0].high)


def _product(_: Node, inputs: list[Bound]) -> Bound:
    if not all(math.isfinite(one.size) for one in inputs):
        return ANY
    ends = [a * b for a in inputs[0] for b in inputs[1]]
    return Bound(min(ends), max(ends))


ON_THEIR_OWN = frozenset({"Clip", "ReduceSum"})  # bounded although an input is not: its limits, or axes
FLOAT16_MAX = 65504.0  # a Clip farther out does not say that values come there
CLIP_BY_INPUTS = 11  # operator Clip, opset 11
OPERATORS: dict[str, Callable[[Node, list[Bound]], Bound]] = {
    "Abs": lambda _, x: Bound(0.0, x[0].size),
    "Add": lambda _, x: Bound(x[0].low + x[1].low, x[0].high + x[1].high),
    "Clip": _clip,
    "Mul": _product,
    "Neg": lambda _, x: Bound(-x[0].high, -x[0].low),
    "ReduceSum": _sum,
    "Relu": lambda _, x: Bound(max(x[0].low, 0.0), max(x[0].high, 0.0)),
    "Sub": lambda _, x: Bound(x[0].low - x[1].high, x[0].high - x[1].low),
}
