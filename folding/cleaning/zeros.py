"""x + 0 in floating point, where nothing distinguishes -0 from 0.

``x + 0 = x`` but for x = -0, of which it makes 0. The two are equal numbers; an operator distinguishes them
only by dividing by them, or by what comes to the same (`SIGN_READERS`). So the addition may go if no way from its
result leads into one. A way ends where the sign of a zero is lost: where a constant without zeros is added (the
epsilon of a normalization), in a comparison, in an exponential. What other domains and nested graphs do is unknown. A
graph output that was 0 may be -0 afterwards, which is the same number.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from folding.cleaning.noops import is_all_of, keeps_shape
from folding.cleaning.work import is_standard, settled, shape_of
from folding.graph.dtypes import FLOAT_TYPES
from folding.graph.node import SHAPE_READERS, bodies
from folding.refusal import Refused

if TYPE_CHECKING:
    from folding.analysis.evaluation import Array
    from folding.cleaning.work import Work
    from folding.graph.idioms import Occurrence
    from folding.graph.index import Scope
    from folding.graph.node import Node

# By operator, the inputs through which it distinguishes -0 from 0; None: through any.
SIGN_READERS: dict[str, frozenset[int] | None] = {
    "Div": frozenset({1}),
    "Pow": frozenset({0}),  # with a negative exponent
    **dict.fromkeys(("BitCast", "LpNormalization", "MeanVarianceNormalization", "Reciprocal", "TopK", "Unique"), None),
}
# Whose result is the same for both.
LOSES_SIGN = SHAPE_READERS | {
    *("Abs", "Cos", "Cosh", "Equal", "Exp", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual"),
    *("LogSoftmax", "QuantizeLinear", "Sigmoid", "Softmax", "Softplus"),
}
ATTENTION = "attention"
BROADCASTS = 7  # opset since which Add broadcasts as NumPy does
COMPARED = 1 << 16  # elements of a constant that are looked at


def drop(work: Work) -> list[str]:
    """Remove additions of zero; return the labels of those that are gone."""
    found: list[str] = []
    for scope in [one for one in work.graph.scopes if one.parent is None and not one.is_function]:
        zeros = [(node, data) for node in scope.nodes if (data := _data(node)) is not None and not work.stays(node)]
        sensitive = _sign_sensitive(scope) if zeros else set()
        for node, data in zeros:
            if (
                _is_free(work.idioms.get(node))
                and node.output not in sensitive
                and work.bypass(node, node.inputs[data])
            ):
                found.append(node.label)
    return found


def _is_free(occurrence: Occurrence | None) -> bool:
    """Whether the form stays one without the addition: what a normalization adds is in all of its forms."""
    return occurrence is None or occurrence.is_bias or occurrence.idiom.name == ATTENTION  # it may have no mask


def _data(node: Node) -> int | None:
    """The input to which a floating-point zero is added; None if there is none."""
    if node.removed or node.op != "Add" or node.scope.graph.opset < BROADCASTS or len(node.inputs) != 2:
        return None
    for constant in (1, 0):
        if node.dtype(constant) in FLOAT_TYPES and _is_zero(node, constant) and keeps_shape(node, 1 - constant):
            return 1 - constant
    return None


def _is_zero(node: Node, index: int) -> bool:
    try:
        return is_all_of(node, index, 0.0)
    except Refused:  # a constant that cannot be computed
        return False


def _sign_sensitive(scope: Scope) -> set[str]:
    """The values whose sign of zero matters to a reader, found from the results backward."""
    sensitive: set[str] = set(scope.captured | scope.pinned)
    waiting: list[str] = list(sensitive)
    for node in scope.nodes:
        if not node.removed:
            waiting += _sign_read_by(node)
    sensitive.update(waiting)
    while waiting:
        maker = scope.producers.get(waiting.pop())
        if maker is not None and not _loses_sign(maker):
            before = [name for name in maker.inputs if name and name not in sensitive]
            sensitive.update(before)
            waiting += before
    return sensitive


def _sign_read_by(node: Node) -> list[str]:
    if not is_standard(node) or bodies(node.proto):
        return [name for name in node.inputs if name]
    if node.op not in SIGN_READERS or (node.op == "Pow" and _is_positive(node, 1)):
        return []
    places = SIGN_READERS[node.op]
    return [name for index, name in enumerate(node.inputs) if name and (places is None or index in places)]


def _loses_sign(node: Node) -> bool:
    """Whether the sign of a zero in its inputs makes no difference to its result."""
    if node.op in LOSES_SIGN:
        return True
    if node.op not in {"Add", "Sub"} or len(node.inputs) != 2:
        return False
    return any((values := _constant(node, index)) is not None and bool((values != 0).all()) for index in (0, 1))


def _is_positive(node: Node, index: int) -> bool:
    values = _constant(node, index)
    return values is not None and bool((values > 0).all())


def _constant(node: Node, index: int) -> Array | None:
    """The values of a constant of a moderate size."""
    shape = settled(shape_of(node.scope, node.inputs[index])) if node.is_constant(index) else None
    if shape is None or node.dtype(index) not in FLOAT_TYPES or not 0 < math.prod(shape) <= COMPARED:
        return None
    try:
        return node.array(index)
    except Refused:  # a constant that cannot be computed
        return None
