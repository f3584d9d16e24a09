"""Operators whose result equals one of their inputs bit for bit, shape and type included.

`SAME` says for each operator which input that is, None where it is none:

1. By what they are: Identity, Dropout in inference mode (its mask unread), Cast and CastLike to the type that a value
   has, Concat, Sum, Max, Min and Mean of one value, Split into one.
2. By their attributes: Transpose that keeps the order, Pad by nothing, Slice of everything, reductions over no axis or
   over axes of length 1 that stay, pooling with a window of 1, Resize by 1.
3. By shapes: Reshape, Flatten, Squeeze, Unsqueeze, Expand, Tile to the shape that a value has. Lengths count as equal
   if they are equal numbers or one and the same open length of an input.
4. By constants: x * 1, x / 1, x - 0, x + -0, x ** 1, x & true, x | false, and x + 0 for integers, where the constant
   does not make the result larger. x + 0 changes -0 in floating point, see `zeros`.
5. Where with a condition that is true, or false, everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.analysis.evaluation import dtype_of_cast
from folding.analysis.selecting import slices
from folding.cleaning.work import moves_nothing, permutation, same_shape, settled, shape_of
from folding.graph.dtypes import FLOAT_TYPES
from folding.graph.sites import in_training_mode

if TYPE_CHECKING:
    from collections.abc import Callable

    from folding.cleaning.work import Work
    from folding.graph.node import Node

AXES_AS_INPUT = {"ReduceSum": 13, "Squeeze": 13, "Unsqueeze": 13}  # other reductions: 18
BROADCASTS = 7  # opset since which arithmetic broadcasts as NumPy does
COMPARED = 1 << 18  # elements of a constant that are looked at; a mask of attention over 196 tokens has 154,000


def remove(node: Node, work: Work) -> bool:
    """Let the readers of an operator read the input that its result equals."""
    if node in work.idioms and node.op not in ALWAYS:
        return False
    index = SAME[node.op](node)
    return index is not None and node.has(index) and work.bypass(node, node.inputs[index])


def _first(_: Node) -> int | None:
    return 0


def _of_one(node: Node) -> int | None:
    return 0 if len(node.inputs) == 1 else None


def _dropout(node: Node) -> int | None:
    if node.version >= 12 and node.has(2):
        return 0 if node.is_constant(2) and not node.array(2).any() else None
    return None if node.version < 7 and in_training_mode(node) else 0


def _cast(node: Node) -> int | None:
    target, dtype = dtype_of_cast(node), node.dtype(0)
    return 0 if dtype is not None and target is not None and target == dtype else None  # NumPy takes None for float64


def _split(node: Node) -> int | None:
    return 0 if len(node.outputs) == 1 and same_shape(node.scope, node.inputs[0], node.output) else None


def _transpose(node: Node) -> int | None:
    """It keeps the order, also where it moves axes of length 1 and the shape is as before."""
    perm = permutation(node)
    if perm is not None and perm == sorted(perm):
        return 0
    return 0 if moves_nothing(node) and same_shape(node.scope, node.inputs[0], node.output) else None


def _pad(node: Node) -> int | None:
    pads = node.attribute("pads" if node.version >= 2 else "paddings") if node.version < 11 else node.integers(1)
    return 0 if pads is not None and not any(pads) else None


def _slice(node: Node) -> int | None:
    shape = shape_of(node.scope, node.inputs[0])
    given = [None if not node.has(index) else node.integers(index) for index in range(1, len(node.inputs))]
    if shape is None or any(node.has(index) and given[index - 1] is None for index in range(1, len(node.inputs))):
        return None
    bounds = [None, *(None if part is None else np.array(part, np.int64) for part in given)]
    return (
        0 if all(_is_all(shape[a], *part) for a, *part in zip(*slices(node, len(shape), bounds), strict=True)) else None
    )


def _is_all(length: int | str | None, start: int, end: int, step: int) -> bool:
    """Whether a slice takes all of an axis; an end from 2**31 - 1 on means the last element (operator Slice)."""
    whole = length if isinstance(length, int) else np.iinfo(np.int32).max
    is_start = start == 0 or (isinstance(length, int) and start <= -length)
    return step == 1 and is_start and end >= whole


def _same_shape(node: Node) -> int | None:
    return 0 if same_shape(node.scope, node.inputs[0], node.output) else None


def _ones(node: Node) -> int | None:
    """Tile that repeats everything once."""
    repeats = node.integers(1) if node.version >= 6 else None
    return 0 if repeats is not None and all(n == 1 for n in repeats) else None


def _reduction(node: Node) -> int | None:
    """Sum, mean, product, largest and smallest of one element are that element."""
    as_input = node.version >= AXES_AS_INPUT.get(node.op, 18)
    axes = node.integers(1) if as_input else node.attribute("axes")
    if as_input and node.has(1) and axes is None:
        return None
    if not axes and as_input and node.attribute("noop_with_empty_axes"):
        return 0
    shape = shape_of(node.scope, node.inputs[0])
    if shape is None or (not node.attribute("keepdims") and len(shape)):
        return None
    reduced = axes or range(len(shape))
    return 0 if all(shape[axis] == 1 for axis in reduced) else None


def _pool(node: Node) -> int | None:
    """A window of 1 without padding and strides; not of MaxPool, which makes a number of NaN in ONNX Runtime."""
    plain = all(n == 1 for n in node.attribute("kernel_shape")) and not any(node.attribute("pads") or ())
    keeps = all(n == 1 for n in node.attribute("strides") or ()) and len(node.outputs) == 1
    return 0 if plain and keeps and node.attribute("auto_pad") in (b"NOTSET", b"VALID") else None


def _global_pool(node: Node) -> int | None:
    shape = settled((shape_of(node.scope, node.inputs[0]) or (None,))[2:])
    return 0 if shape and all(n == 1 for n in shape) else None


def _resize(node: Node) -> int | None:
    """Every coordinate maps to itself; regions of interest are something else."""
    if (
        node.op == "Resize"
        and node.version >= 11
        and node.attribute("coordinate_transformation_mode") == b"tf_crop_and_resize"
    ):
        return None
    if node.op == "Resize" and node.version == 10:
        scales = node.array(1) if node.is_constant(1) else None
    elif node.op == "Resize":
        scales = node.array(2) if node.has(2) and node.is_constant(2) else None
    else:
        found = node.attribute("scales") if node.version < 9 else node.array(1) if node.is_constant(1) else None
        scales = None if found is None else np.asarray(found)
    if scales is not None and scales.size:
        return 0 if (scales == 1).all() else None
    shapes = [settled(shape_of(node.scope, name)) for name in (node.inputs[0], node.output)]
    by_sizes = node.op == "Resize" and node.version >= 11 and node.has(3)
    return 0 if by_sizes and shapes[0] is not None and shapes[0] == shapes[1] else None


def _neutral(right: float, *, commutes: bool, is_negative: bool = False) -> Callable[[Node], int | None]:
    """Arithmetic with a constant that changes nothing; `is_negative` asks for -0 in floating point."""

    def same(node: Node) -> int | None:
        if node.version < BROADCASTS or len(node.inputs) != 2:
            return None
        for constant in (1, 0) if commutes else (1,):
            data = 1 - constant
            if is_all_of(node, constant, right, is_negative=is_negative) and keeps_shape(node, data):
                return data
        return None

    return same


def is_all_of(node: Node, index: int, value: float, *, is_negative: bool = False) -> bool:
    """Whether one of two operands, and it alone, is a constant of this value everywhere; `is_negative`: no 0 but -0."""
    if not node.is_constant(index) or node.is_constant(1 - index):
        return False
    shape = settled(shape_of(node.scope, node.inputs[index]))
    if shape is None or not 0 < int(np.prod(shape)) <= COMPARED:
        return False
    values = node.array(index)
    if is_negative and values.dtype in FLOAT_TYPES and not np.signbit(values).all():
        return False
    return bool((values == value).all())


def keeps_shape(node: Node, data: int) -> bool:
    """Whether the other operand, a constant, does not make the result larger than this one."""
    constant = 1 - data
    if same_shape(node.scope, node.inputs[data], node.output):
        return True
    shape, given = shape_of(node.scope, node.inputs[constant]), shape_of(node.scope, node.inputs[data])
    if shape is None or any(n != 1 for n in shape):
        return False
    return not shape or (given is not None and len(shape) <= len(given))


def _power(node: Node) -> int | None:
    is_typed = node.has(1) and node.dtype(0) is not None
    return _neutral(1, commutes=False)(node) if is_typed else None


def _where(node: Node) -> int | None:
    if not node.is_constant(0):
        return None
    shape = settled(shape_of(node.scope, node.inputs[0]))
    if shape is None or not 0 < int(np.prod(shape)) <= COMPARED:
        return None
    condition = node.array(0)
    if condition.all() or not condition.any():
        chosen = 1 if condition.all() else 2
        return chosen if same_shape(node.scope, node.inputs[chosen], node.output) else None
    return None


# Operators that may go even where they are part of an idiom, which steps over them.
ALWAYS = frozenset({"Cast", "CastLike", "Identity"})
_REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")

SAME: dict[str, Callable[[Node], int | None]] = {
    "Identity": _first,
    "Dropout": _dropout,
    "Cast": _cast,
    "CastLike": _cast,
    **dict.fromkeys(("Concat", "Max", "Mean", "Min", "Sum"), _of_one),
    "Split": _split,
    "Transpose": _transpose,
    "Pad": _pad,
    "Slice": _slice,
    **dict.fromkeys(("Expand", "Flatten", "Reshape", "Squeeze", "Unsqueeze"), _same_shape),
    "Tile": _ones,
    **dict.fromkeys(_REDUCTIONS, _reduction),
    "AveragePool": _pool,
    "GlobalAveragePool": _global_pool,
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "Mul": _neutral(1, commutes=True),
    "Div": _neutral(1, commutes=False),
    "Sub": _neutral(0, commutes=False),
    "Add": _neutral(0, commutes=True, is_negative=True),
    "Pow": _power,
    "And": _neutral(1, commutes=True),
    "Or": _neutral(0, commutes=True),
    "Where": _where,
}
