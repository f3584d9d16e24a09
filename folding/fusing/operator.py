"""An operator that an idiom becomes, as data, and the conditions that hold for each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import ml_dtypes
import numpy as np

from folding.editing.composing import Made
from folding.graph.dtypes import FLOAT_TYPES
from folding.graph.matching import INVERSE, scalar
from folding.refusal import require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from folding.graph.idioms import Occurrence
    from folding.graph.index import Scope
    from folding.graph.node import Node
    from folding.graph.weights import Weight

    DType = np.dtype[Any]

# Units in the last place. A constant written with six digits is at most 5 from the true one in float32 (0.797885).
ULPS = 8
DATA = frozenset({"k", "q", "x"})  # letters of forms that stand for what they compute something of
ONNX_NAMES = {"float32": "float", "float64": "double"}  # other types have one name in both


class Target(Protocol):
    """What fusing asks of a runtime target, see `folding.targets`."""

    @property
    def idioms(self) -> Mapping[str, str]:
        """By the name of an idiom: "operator", "form" or "none"."""
        ...

    def takes(self, op: str, opset: int, dtype: str | None = None) -> bool:
        """Whether the runtime takes an operator of this opset, for this type of its main data."""
        ...


@dataclass(frozen=True)
class Operator:
    """What takes the place of `nodes`, in their order; it gets the name and the result of `last`."""

    made: Made
    nodes: tuple[Node, ...]
    last: Node


def like(occurrence: Occurrence, *inputs: str | Weight, **attributes: float | str) -> Operator:
    """The operator in the place of a whole occurrence."""
    tail = occurrence.nodes[len(occurrence.match.nodes) :]
    made = Made(occurrence.idiom.operator, inputs, attributes)
    return Operator(made, (*occurrence.match.nodes[::-1], *tail), occurrence.last)


def letter(occurrence: Occurrence, letter: str) -> str:
    """The value that a letter of the form stands for."""
    name = occurrence.match.value(letter)
    assert name is not None, occurrence.idiom.name  # noqa: S101  the tables are ours
    return name


def data(occurrence: Occurrence) -> str:
    """The value that an idiom computes something of: the letter x of its form."""
    return letter(occurrence, "x")


def numbers(occurrence: Occurrence, letter: str) -> list[float]:
    """The scalar constants that a letter of the form stands for; for an inverse, the factor that it means."""
    scope, found = occurrence.last.scope, []
    for known, name in occurrence.match.scalars:
        value = scalar(scope, name)
        if value is not None and known == letter:
            found.append(value)
        elif value and known == INVERSE.get(letter):
            found.append(1 / value)
    return found


def number(occurrence: Occurrence, letter: str) -> float:
    """The only scalar constant that a letter stands for."""
    (value,) = numbers(occurrence, letter)
    return value


def attribute(value: float, dtype: DType) -> float:
    """A number as an attribute, which is a float32, for a computation in `dtype`.

    Raises:
        Refused: "narrower-type" if the computation is in float64, and the attribute is another number.
    """
    exact = dtype.itemsize < np.dtype(np.float64).itemsize or float(np.float32(value)) == value
    require(exact and np.isfinite(value), "narrower-type", f"an attribute cannot hold {value}")
    return float(value)


def dtype_of(occurrence: Occurrence) -> DType:
    """The type in which an idiom computes.

    Raises:
        Refused: "unknown-type", or "narrower-type" if a Cast inside changes it.
    """
    nodes, last = occurrence.nodes, occurrence.last
    casts = [node for node in occurrence.match.nodes if node.op == "Cast"]
    require(not casts, "narrower-type", "it computes in two types", casts[0].label if casts else "")
    found = last.scope.dtype(last.output) or nodes[0].scope.dtype(nodes[0].output)
    require(found in FLOAT_TYPES, "unknown-type", f"it computes in {found}", last.label)
    assert found is not None  # noqa: S101  narrowed for the type checker
    return found


def require_exact(occurrence: Occurrence) -> None:
    """Require that each fixed constant is the one of the standard's definition, up to rounding.

    Recognition is more generous: what a runtime would take for GELU stays whole, and is written as Gelu only if it is.
    """
    scope = occurrence.last.scope
    for term, name in occurrence.match.scalars:
        if isinstance(term, float):
            value, dtype = scalar(scope, name), scope.dtype(name)
            unit = float(ml_dtypes.finfo(dtype).eps) if dtype in FLOAT_TYPES else 0.0  # type: ignore[no-untyped-call]
            exact = value is not None and abs(value - term) <= ULPS * unit * abs(term)
            require(exact, "parameters", f"its constant is {value}, not {term}", occurrence.last.label)


def require_same_rank(occurrence: Occurrence) -> None:
    """Require that no scalar constant has more axes than the data: ``[[2]] * x`` has two, also where x has one."""
    scope = occurrence.last.scope
    ranks = [_rank(scope, name) for known, name in occurrence.match.values if known in DATA]
    for _, name in occurrence.match.scalars:
        axes = _rank(scope, name)
        alike = axes == 0 or (axes is not None and all(rank is not None and axes <= rank for rank in ranks))
        require(alike, "unknown-shape", f"its constant {name!r} may add axes to the result", occurrence.last.label)


def _rank(scope: Scope, name: str) -> int | None:
    shape = scope.values.shape(scope, name)
    return None if shape is None else len(shape)
