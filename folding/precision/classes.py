"""What each operator wants: to stay in float32, preferably so, or to be in 16 bits; with the costs in bytes moved."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from folding.graph.dtypes import FLOAT_TYPES as FLOATS
from folding.graph.node import Edge
from folding.graph.sites import NORMALIZATION, in_training_mode
from folding.precision.groups import CONSTANT, FREE, LOW, TIED
from folding.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from folding.graph.node import Node
    from folding.precision.groups import Group, Groups, Value

# What a Cast costs besides the bytes that it moves: the start of a kernel, in bytes that a GPU moves in that time.
START = 1 << 20
CAST_BYTES = 6  # per element: 4 on one side, 2 on the other
SAVED_BYTES = 2  # per element that is stored in 16 bits
TYPICAL = 64  # an unknown length; an unknown batch is 1
FEW = 16  # elements of what is a number rather than data
# Shares of the cost of a Cast: what a value in 16 bits costs in accuracy. A written-out normalization alone is not
# worth its two Casts: five of them in float32 changed the error of a text recognizer from 1.52 to 1.50 percent.
SLIGHT, ISLAND, STRONG = 1 / 8, 1 / 4, 8.0
TIE = 1 / 64  # of these shares count where everything is to be lowered: they settle where a Cast goes
LONG_SUM = 4096  # elements; 16-bit partial sums of more are off by more than their rounding

HEAVY = frozenset("Attention Conv ConvTranspose DeformConv Einsum GRU Gemm LSTM MatMul RNN".split())  # noqa: SIM905
# Operators whose own result loses digits, or that enlarge the error of what they read.
DELICATE: dict[str, float] = {
    **dict.fromkeys(
        ("Erf", "Exp", "HardSigmoid", "Log", "LogSoftmax", "Sigmoid", "Softmax", "Softplus", "Tanh"), SLIGHT
    ),
    **dict.fromkeys(("Div", "Pow", "Reciprocal", "Sqrt"), ISLAND),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare"), ISLAND),
    **dict.fromkeys(("InstanceNormalization", "LpNormalization", "MeanVarianceNormalization"), ISLAND),
    **dict.fromkeys(("CumSum", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd"), STRONG),
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"), ISLAND),
}
# Inputs whose exact value decides a position, an index or a comparison.
EXACT: dict[tuple[str, int], float] = {
    **{(op, 0): STRONG for op in ("Acos", "Asin", "Cos", "Sin", "Tan")},
    **{(op, 0): SLIGHT for op in ("ArgMax", "ArgMin", "Ceil", "Floor", "Mod", "NonZero", "Round", "Sign", "TopK")},
    **{(op, i): SLIGHT for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual") for i in (0, 1)},
    **{("NonMaxSuppression", index): STRONG for index in range(5)},
    ("AffineGrid", 0): STRONG,
    ("GridSample", 1): STRONG,
    ("Resize", 1): STRONG,
    ("Resize", 2): STRONG,
    ("RoiAlign", 1): STRONG,
    ("MaxRoiPool", 1): STRONG,
    ("Upsample", 1): STRONG,
}
COORDINATES = frozenset({("GridSample", "T2"), ("Resize", "T2")})  # the constraints of grid and roi
REDUCED = frozenset({"ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare"})
AVERAGED = frozenset({"GlobalAveragePool", "GlobalLpPool"})
EPSILON = "epsilon"
STASHED = "stash_type"  # FLOAT: the operator computes its statistics in float32 whatever it reads
VANISHES = 2.0**-6  # relative error of a rounded number that carries a meaning of its own, as an epsilon does
QUANTIZING = frozenset({"DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear"})


def elements(value: Value) -> int:
    """The number of elements, with typical lengths in place of unknown ones."""
    if value.elements < 0:
        shape = value.scope.shapes.get(value.name)
        lengths = (TYPICAL, TYPICAL) if shape is None else shape
        value.elements = math.prod(
            n if isinstance(n, int) else 1 if axis == 0 else TYPICAL for axis, n in enumerate(lengths)
        )
    return value.elements


def cast_cost(value: Value) -> int:
    """The cost of a Cast of a value."""
    return START + CAST_BYTES * elements(value)


class Classes:
    """Fixes the groups that have no choice, and gives the others their costs."""

    def __init__(
        self,
        groups: Groups,
        *,
        everything: bool,
        takes: Callable[[str], bool],
        keep: Callable[[str], bool],
        caution: float = 1.0,
    ) -> None:
        self._groups, self._kind = groups, groups.kind
        self._share = TIE if everything else caution
        self._everything, self._takes, self._keep = everything, takes, keep

    def assign(self) -> None:
        """Go through all operators."""
        for node, own in self._groups.of.items():
            every = [self._groups.all[number] for number in own.values()]
            if reason := self._why_fixed(node):
                for group in every:
                    group.fix(reason)
            if node.op in QUANTIZING:
                self._fix_around(every)
        for node, own in self._groups.of.items():
            for group in (self._groups.all[number] for number in own.values()):
                if group.fixed == FREE:
                    self._weigh(node, group)
        self._weigh_exact()

    def _why_fixed(self, node: Node) -> str:
        """Why an operator as a whole stays in float32; "" if nothing says so."""
        if self._keep(node.label):
            return "kept by an option"
        if not self._takes(node.op):
            return f"the target has no {node.op} in {self._kind.name}"
        if node.op in QUANTIZING:
            return "the scales of quantized values stay exact"
        try:
            if node.op == NORMALIZATION and in_training_mode(node):
                return "it computes statistics"
            return self._vanishing_epsilon(node)
        except Refused:
            return "the operator is malformed"

    def _vanishing_epsilon(self, node: Node) -> str:
        known = () if "::" in node.op else self._groups.graph.schema(node.op).attributes
        if EPSILON not in known or (STASHED in known and node.attribute(STASHED) == 1):
            return ""
        value = float(node.attribute(EPSILON) or 0)
        stored = self._kind.nearest(value)
        vanishes = value and abs(stored - value) > VANISHES * value
        return f"its epsilon {value:g} would be {stored:g} in {self._kind.name}" if vanishes else ""

    def _fix_around(self, groups: list[Group]) -> None:
        """What is next to a quantizer stays with it: a Cast between would hide the pattern from runtimes."""
        for group in groups:
            for value in group.made:
                for number, _ in value.readers:
                    if number > LOW:
                        self._groups.all[number].fix("next to quantized values")
            for value in group.read:
                if value.maker > LOW:
                    self._groups.all[value.maker].fix("next to quantized values")

    def _weigh(self, node: Node, group: Group) -> None:
        if (node.op, group.key) in COORDINATES:
            group.fix("coordinates and scales stay exact")
            return
        if node.op in HEAVY and node.op not in TIED:
            group.fixed = LOW
            return
        data = [value for value in (*group.read, *group.made) if value.maker != CONSTANT]
        touched = [elements(value) for value in data]
        if node.op == "Cast" and all(node.scope.dtype(n) in FLOATS for n in (node.inputs[0], node.output)):
            return  # it is where types change, whatever they are
        group.low += SAVED_BYTES * sum(n for n in touched if n > FEW)
        if self._everything and max(touched, default=0) > FEW:
            group.low += START // 4
        share = self._delicacy(node)
        if share and data:
            group.high += int(share * self._share * max(map(cast_cost, data)))
            group.reason = "more exact in float32"

    def _delicacy(self, node: Node) -> float:
        """The share of a Cast's cost that an operator in 16 bits costs in accuracy."""
        if node.op == "Div" and node.is_constant(1):
            return 0.0
        if node.op in REDUCED | AVERAGED and self._is_long(node):
            return STRONG
        return DELICATE.get(node.op, 0.0)

    def _is_long(self, node: Node) -> bool:
        before, after = (node.scope.values.shape(node.scope, name) for name in (node.inputs[0], node.output))
        sizes = [math.prod(n for n in shape if isinstance(n, int)) for shape in (before, after) if shape is not None]
        return len(sizes) == 2 and sizes[0] >= LONG_SUM * max(1, sizes[1])

    def _weigh_exact(self) -> None:
        """Let what decides positions, indices and comparisons be made in float32, if that does not cost too much."""
        for value in self._groups.values.values():
            if value.maker > LOW and (maker := self._groups.all[value.maker]).fixed == FREE:
                share = max((self._exactness(reader) for _, reader in value.readers), default=0.0)
                maker.high += int(share * self._share * cast_cost(value))
                if share:
                    maker.reason = maker.reason or "what reads it depends on exact values"

    def _exactness(self, reader: object) -> float:
        if not isinstance(reader, Edge):
            return 0.0
        if reader.node.op == "Cast":
            target = reader.node.scope.dtype(reader.node.output)
            return SLIGHT if target is not None and target.kind in "iu" else 0.0
        return EXACT.get((reader.node.op, reader.index), 0.0)
