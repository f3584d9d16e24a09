"""The other way: operators that a target lacks, written out in the form that runtimes recognize and fuse by themselves.

Each form is the operator's definition in the standard, spelled as PyTorch's exporter spells it in older operator sets.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from folding.editing.composing import Made, become, cast
from folding.editing.surgery import drop_outputs
from folding.fusing.operator import ONNX_NAMES
from folding.graph.dtypes import FLOAT_TYPES
from folding.graph.idioms import NARROW, WIDE
from folding.graph.node import STANDARD_DOMAINS
from folding.graph.sites import read_outputs
from folding.graph.weights import Weight
from folding.refusal import Refused, require
from folding.report.changes import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from folding.fusing.operator import Target
    from folding.graph.index import Graph
    from folding.graph.node import Node

    Value = str | Made
    Form = Callable[["_Writer"], Made]

KEY = "form:"  # before the key of the operator, as `blocked` calls it
AXES_AS_INPUT = 18  # of ReduceMean
STAGE_IN_FLOAT32 = 1  # of `stash_type`; what has no such attribute computes in its own type
ROOT_OF_TWO, ROOT_OF_TWO_OVER_PI, CUBIC = math.sqrt(2), math.sqrt(2 / math.pi), 0.044715  # operator Gelu


def write_out(
    graph: Graph,
    target: Target,
    blocked: Collection[str] = (),
    keeps: Callable[[str], bool] = lambda _: False,
    *,
    opset: int | None = None,
) -> list[Change]:
    """Write out the operators that a target does not take in an operator set, by default the model's.

    Only where it takes each operator of the form. Shapes and types must have been inferred.
    """
    made = []
    for node in list(graph.nodes()):
        key = KEY + node.key
        if node.op in FORMS and node.proto.domain in STANDARD_DOMAINS and key not in blocked and not keeps(node.label):
            op = node.op
            if _written(node, target, opset or graph.opset, key):
                made.append(Change("converted", f"{op} written out", 1, (node.label,), key))
    return made


def _written(node: Node, target: Target, opset: int, key: str) -> bool:
    """Write one operator out; return whether it was."""
    try:
        writer = _Writer(node)
        known = ONNX_NAMES.get(writer.dtype.name, writer.dtype.name)
        if target.takes(node.op, opset, known):
            return False
        require(not read_outputs(node), "extra-outputs", "its statistics are read", node.label)
        forms = [form(writer) for form in FORMS[node.op]]
    except Refused:
        return False
    taken = (made for made in forms if all(target.takes(op, opset, known) for op in _operators(made)))
    form = next(taken, None)
    if form is not None:
        drop_outputs(node, 1)
        become(node, form, (), key)
    return form is not None


def _operators(made: Made) -> Iterator[str]:
    """The operators of a form that compute in its type; a Cast and a Shape are everywhere."""
    if made.op not in {"Cast", "Shape"}:
        yield made.op
    for given in made.inputs:
        if isinstance(given, Made):
            yield from _operators(given)


class _Writer:
    """Writes the form of one operator, in its type and in the model's operator set."""

    def __init__(self, node: Node) -> None:
        self.node, self.x, self.opset = node, node.inputs[0], node.scope.graph.opset
        _ = node.schema  # raises for a malformed operator
        dtype = node.dtype(0)
        require(dtype in FLOAT_TYPES, "unknown-type", f"it computes in {dtype}", node.label)
        assert dtype is not None  # noqa: S101  narrowed for the type checker
        self.dtype = dtype
        self.stage = WIDE if dtype in NARROW and node.attribute("stash_type") == STAGE_IN_FLOAT32 else dtype
        alike = all(
            node.dtype(index) is not None and node.dtype(index) == dtype
            for index in range(1, len(node.inputs))
            if node.has(index)
        )
        require(alike, "narrower-type", "its parameters have another type", node.label)

    def number(self, value: float) -> Weight:
        """A scalar constant in the type of the first stage."""
        return Weight.of(np.array(value, np.float64), self.stage)

    def widened(self) -> Value:
        """The data in the type of the first stage."""
        return self.x if self.stage == self.dtype else cast(self.x, self.stage)

    def narrowed(self, value: Made) -> Made:
        """The result of the first stage in the type of the data."""
        return value if self.stage == self.dtype else cast(value, self.dtype)

    def mean(self, value: Value) -> Made:
        """The mean over the axes from the attribute `axis` on."""
        axis = int(self.node.attribute("axis"))
        axes = list(range(axis if axis < 0 else axis - self.node.rank(0), 0))
        if self.opset < AXES_AS_INPUT:
            return Made("ReduceMean", (value,), {"axes": axes, "keepdims": 1})
        return Made("ReduceMean", (value, integers(axes)), {"keepdims": 1})

    def deviation(self, value: Value) -> Made:
        """``sqrt(mean(value^2) + epsilon)``."""
        squared = Made("Pow", (value, self.number(2)))
        epsilon = self.number(float(self.node.attribute("epsilon")))
        return Made("Sqrt", (Made("Add", (self.mean(squared), epsilon)),))

    def scaled(self, value: Made) -> Made:
        """``scale * value + bias`` with the operator's own parameters, which broadcast against the data."""
        made = Made("Mul", (value, self.node.inputs[1]))
        return Made("Add", (made, self.node.inputs[2])) if self.node.has(2) else made


def integers(values: list[int]) -> Weight:
    """A constant of whole numbers."""
    return Weight(np.dtype(np.int64), (len(values),), np.array(values, np.int64))


def _gelu(w: _Writer) -> Made:
    if w.node.attribute("approximate") == b"tanh":
        cubic = Made("Mul", (Made("Pow", (w.x, w.number(3))), w.number(CUBIC)))
        inner = Made("Mul", (Made("Add", (w.x, cubic)), w.number(ROOT_OF_TWO_OVER_PI)))
        half = Made("Mul", (w.x, w.number(0.5)))
        return Made("Mul", (half, Made("Add", (Made("Tanh", (inner,)), w.number(1)))))
    raised = Made("Add", (Made("Erf", (Made("Div", (w.x, w.number(ROOT_OF_TWO))),)), w.number(1)))
    return Made("Mul", (Made("Mul", (w.x, raised)), w.number(0.5)))


def _hard_swish(w: _Writer) -> Made:
    return Made("Mul", (w.x, Made("HardSigmoid", (w.x,), {"alpha": 1 / 6, "beta": 0.5})))


def _hard_swish_clipped(w: _Writer) -> Made:
    clipped = Made("Clip", (Made("Add", (w.x, w.number(3))), w.number(0), w.number(6)))
    return Made("Div", (Made("Mul", (w.x, clipped)), w.number(6)))


def _mish(w: _Writer) -> Made:
    return Made("Mul", (w.x, Made("Tanh", (Made("Softplus", (w.x,)),))))


def _swish(w: _Writer) -> Made:
    alpha = float(w.node.attribute("alpha"))
    inner: Value = w.x if alpha == 1 else Made("Mul", (w.x, w.number(alpha)))
    return Made("Mul", (w.x, Made("Sigmoid", (inner,))))


def _layer_normalization(w: _Writer) -> Made:
    x = w.widened()
    centered = Made("Sub", (x, w.mean(x)))
    return w.scaled(w.narrowed(Made("Div", (centered, w.deviation(centered)))))


def _rms_normalization(w: _Writer) -> Made:
    x = w.widened()
    return w.scaled(w.narrowed(Made("Div", (x, w.deviation(x)))))


def _group_normalization(w: _Writer) -> Made:
    """The groups as the channels of InstanceNormalization, which have a scale of 1 and a bias of 0."""
    node, groups, shape = w.node, int(w.node.attribute("num_groups")), w.node.shape(0)
    grouped = Made("Reshape", (w.widened(), integers([0, groups, -1])))
    plain = (Weight.of(np.full(groups, value, np.float64), w.stage) for value in (1.0, 0.0))
    normal = Made("InstanceNormalization", (grouped, *plain), {"epsilon": float(node.attribute("epsilon"))})
    known = [length for length in shape if isinstance(length, int)]
    wish = integers(known) if len(known) == len(shape) else Made("Shape", (w.x,))
    scale, bias = (_column(node.weight(index), len(shape)) for index in (1, 2))
    return Made("Add", (Made("Mul", (w.narrowed(Made("Reshape", (normal, wish))), scale)), bias))


def _column(weight: Weight, rank: int) -> Weight:
    """A vector as one that broadcasts along the channels."""
    return Weight.of(weight.values().reshape(-1, *(1,) * (rank - 2)), weight.dtype)


FORMS: dict[str, tuple[Form, ...]] = {
    "Gelu": (_gelu,),
    "HardSwish": (_hard_swish, _hard_swish_clipped),
    "Mish": (_mish,),
    "Swish": (_swish,),
    "LayerNormalization": (_layer_normalization,),
    "RMSNormalization": (_rms_normalization,),
    "GroupNormalization": (_group_normalization,),
}
