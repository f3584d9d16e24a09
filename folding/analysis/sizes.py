"""The sizes that a Reshape gets from computations on other shapes: lengths, and names of unknown lengths."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from folding.analysis import constants
from folding.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from folding.algebra.shape import Dimension, Shape
    from folding.graph.index import Scope
    from folding.graph.node import Node

DEPTH = 32  # operators in a row between a Shape and a Reshape; exporters write at most ten
LARGEST = 2**63 - 1  # sizes are int64
LONGEST = 64  # sizes in a list: no value has so many axes

Sizes = NDArray[np.object_]  # objects: integers, names and None


def reshaped(node: Node) -> Shape | None:
    """The output shape of a Reshape, as far as its inputs determine it; None if its rank is unknown."""
    target = _of(node.scope, node.inputs[1], DEPTH, {}) if node.has(1) else None
    if target is None or target.ndim != 1 or any(isinstance(size, int) and size < -1 for size in target):
        return None
    source = _shape(node) or ()
    allow_zero = node.attribute_proto("allowzero")
    keep_zero = allow_zero is not None and allow_zero.i
    copied = [*source, *(None,) * len(target)]
    sizes = [copied[i] if size == 0 and not keep_zero else size for i, size in enumerate(target)]
    return tuple(_rest(source, sizes) if size == -1 else size for size in sizes)


def normalized(node: Node) -> Shape | None:
    """The output shape of a BatchNormalization, whose channels its parameters count; None if its rank is unknown."""
    source = _shape(node)
    parameter = constants.shape_of(node.scope, node.inputs[1]) if node.has(1) else None
    if source is None or parameter is None or len(source) < 2 or len(parameter) != 1:
        return None
    return (source[0], parameter[0], *source[2:])


SETTLED = {"BatchNormalization": normalized, "Reshape": reshaped}  # what onnx's inference leaves open


def _rest(source: Shape, sizes: list[Dimension]) -> int | None:
    """The length that -1 stands for; None unless all names cancel and only numbers are left."""
    others = [size for size in sizes if size != -1]
    if not source or None in (*source, *others) or _names(source) != _names(others):
        return None
    whole, part = _product(source), _product(others)
    return whole // part if part and whole % part == 0 else None


def _names(sizes: Shape | list[Dimension]) -> Counter[str]:
    return Counter(size for size in sizes if isinstance(size, str))


def _product(sizes: Shape | list[Dimension]) -> int:
    return math.prod(size for size in sizes if isinstance(size, int))


def _shape(node: Node) -> Shape | None:
    """The shape of the first input, as inference found it."""
    owner = node.scope.owner(node.inputs[0])
    return None if owner is None else owner.shapes.get(node.inputs[0])


def of(scope: Scope, name: str, known: dict[tuple[int, str], Sizes | None]) -> Sizes | None:
    """The sizes that an integer tensor holds: numbers, names of open lengths, None for what is unknown.

    None if they do not come from shapes. `known` caches results for as long as no more shapes become known.
    """
    return _of(scope, name, DEPTH, known)


def _of(scope: Scope, name: str, depth: int, known: dict[tuple[int, str], Sizes | None]) -> Sizes | None:
    """The sizes that an integer tensor holds, None if they do not come from shapes; `known` caches results."""
    owner = scope.owner(name)
    if owner is None or depth == 0:
        return None
    if (key := (owner.index, name)) not in known:
        try:
            found = _made(owner, name, lambda source: _of(owner, source, depth - 1, known))
        except (
            Refused,
            ValueError,
            IndexError,
            TypeError,
            OverflowError,
        ):  # malformed: its result is undefined
            found = None
        known[key] = found if found is not None and found.size <= LONGEST else None
    return known[key]


def _made(scope: Scope, name: str, sizes_of: Callable[[str], Sizes | None]) -> Sizes | None:
    if constants.is_constant(scope, name):
        found = constants.array(scope, name)
        return found.astype(object) if found.dtype.kind == "i" and found.size <= LONGEST else None
    node = scope.producers.get(name)
    if node is None or name != node.output:
        return None
    if node.op == "Shape":
        shape = _shape(node)
        return None if shape is None else np.array(shape, object)[slice(node.attribute("start"), node.attribute("end"))]
    given = [sizes_of(source) for source in node.inputs] if node.op in OPERATORS else []
    known = [sizes for sizes in given if sizes is not None]
    return np.asarray(OPERATORS[node.op](node, *known), object) if known and len(known) == len(given) else None


def _gather(_: Node, sizes: Sizes, places: Sizes) -> Any:
    return np.take(sizes, places.astype(np.int64), axis=0)


def _slice(node: Node, sizes: Sizes, *bounds: Sizes) -> Sizes:
    starts, ends = bounds[:2] if bounds else (node.attribute("starts"), node.attribute("ends"))
    if len(bounds) > 3 and bounds[3][0] != 1:
        raise ValueError("no exporter takes every other size")
    return sizes[int(starts[0]) : int(ends[0])]


def _cast(node: Node, sizes: Sizes) -> Sizes:
    if node.attribute("to") not in {onnx.TensorProto.INT32, onnx.TensorProto.INT64}:
        raise ValueError("what is computed of fractions is no size")
    return sizes


def _each(function: Callable[[int, int], int | None], neutral: int) -> Callable[[Node, Sizes, Sizes], Any]:
    """Arithmetic on numbers; a name or an unknown size is unchanged if the other operand is neutral."""

    def apply(one: Dimension, other: Dimension) -> Dimension:
        if isinstance(one, int) and isinstance(other, int):
            result = function(one, other)
            return result if result is not None and abs(result) <= LARGEST else None
        return one if other == neutral else None

    elementwise = np.frompyfunc(apply, 2, 1)
    return lambda _, one, other: elementwise(one, other)


def _product_of(node: Node, sizes: Sizes, *_axes: Sizes) -> Any:
    """The product of a list: known if all of it is."""
    found = math.prod(sizes.tolist()) if all(isinstance(size, int) for size in sizes.reshape(-1)) else None
    return np.array([found] if node.attribute("keepdims") else found, object)


OPERATORS: dict[str, Callable[..., Any]] = {
    "ReduceProd": _product_of,
    "Identity": lambda _, sizes: sizes,
    "Cast": _cast,
    "Squeeze": lambda _, sizes, *_axes: sizes.reshape(()),
    "Unsqueeze": lambda _, size, *_axes: size[None],
    "Concat": lambda _, *parts: np.concatenate(parts),
    "Gather": _gather,
    "Slice": _slice,
    "Add": _each(lambda a, b: a + b, 0),
    "Sub": _each(lambda a, b: a - b, 0),
    "Mul": _each(lambda a, b: a * b, 1),
    "Div": _each(lambda a, b: a // b if a >= 0 and b > 0 else None, 1),
}
