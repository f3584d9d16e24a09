"""Two operators of a kind in a row that are one, or none.

1. Reshape, Flatten, Squeeze, Unsqueeze, and Transpose of axes of length 1: the last one alone, as a Reshape if need be;
   none if the shape is as before.
2. Transpose of Transpose: ``y[i] = x[first[second[i]]]``, or none.
3. Cast of Cast: the last one alone if the first loses nothing; none if the type is as before.
4. Clip and Relu within each other's bounds: the narrower one alone. Not of Not, Neg of Neg: none.
5. Pad of Pad with the same constant: the sums of the pads, if none is negative.
6. Concat of a Concat along the same axis: one.
7. Unsqueeze of an Expand of a constant: the Expand of the constant with these axes.

The first operator stays if others read it, so that nothing is gained; then nothing is done, except where none is left.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from folding.analysis import constants
from folding.analysis.evaluation import dtype_of_cast
from folding.cleaning.arithmetic import COMPUTED_SINCE, COPY, keeps_zeros, set_target, target_of
from folding.cleaning.work import moves_nothing, permutation, same_shape, settled, shape_of
from folding.editing import surgery
from folding.graph.dtypes import holds
from folding.graph.weights import Weight

if TYPE_CHECKING:
    from folding.algebra.shape import Shape
    from folding.cleaning.work import Work
    from folding.graph.node import Node

RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
BOUNDS_AS_INPUTS = 11  # of Clip, and pads of Pad
AXES_AS_INPUT = 13  # of Unsqueeze
SPREAD = 1 << 10  # elements of a constant that is given axes
INVOLUTIONS = frozenset({"Neg", "Not"})


def _before(node: Node, work: Work) -> Node | None:
    """The operator that makes the first input here, if it is free to go with it."""
    maker = node.scope.producers.get(node.inputs[0]) if node.has(0) else None
    if maker is None or maker is node or node in work.idioms or work.stays(maker) or not maker.has(0):
        return None
    return maker


def _skip(node: Node, maker: Node, work: Work) -> bool:
    """Let an operator read what the one before it reads, if nothing else reads that one's result."""
    scope = node.scope
    if maker in work.idioms or not work.only_reads(scope, node.inputs[0]):
        return False
    surgery.connect(node, 0, maker.inputs[0])
    work.look_around(node)
    work.look_at([maker])
    return True


# --- 1 -------------------------------------------------------------------------------------------------------------


def reshapes(node: Node, work: Work) -> bool:
    """Case 1."""
    maker, scope = _before(node, work), node.scope
    if maker is None or not _is_reshaping(maker) or not _is_reshaping(node):
        return False
    origin = maker.inputs[0]
    if same_shape(scope, origin, node.output):
        return work.bypass(node, origin)
    if maker.version < COMPUTED_SINCE and maker.op == "Reshape":
        return False
    source, middle = (shape_of(scope, name) for name in (origin, node.inputs[0]))
    target = _target(node, source or (), middle)
    if target is None or not _skip(node, maker, work):
        return False
    if node.op != "Reshape":
        surgery.retype(node, "Reshape")
        surgery.drop_inputs(node, 1)
    if node.integers(1) != target:
        set_target(node, target)
    return True


def _is_reshaping(node: Node) -> bool:
    """Whether an operator changes the shape alone, and leaves the elements in their order."""
    return node.op in RESHAPING or (node.op == "Transpose" and moves_nothing(node))


def _target(node: Node, source: Shape, middle: Shape | None) -> list[int] | None:
    """The target of the last Reshape when it reads another value; None if it cannot be a constant."""
    if node.op != "Reshape":
        shape = shape_of(node.scope, node.output)
        usable = shape is not None and 0 not in shape and node.scope.graph.opset >= COMPUTED_SINCE
        return target_of(np.array(shape, object), source) if usable else None
    given = node.integers(1) if node.version >= COMPUTED_SINCE else None
    if given is None or COPY not in given:
        return given
    if keeps_zeros(node):
        return None
    lengths = [*(middle or ()), *(None,) * len(given)]
    sizes = [lengths[i] if size == COPY else size for i, size in enumerate(given)]
    return None if 0 in sizes else target_of(np.array(sizes, object), source)


# --- 2 -------------------------------------------------------------------------------------------------------------


def transposes(node: Node, work: Work) -> bool:
    """Case 2."""
    maker = _before(node, work)
    if maker is None or maker.op != "Transpose":
        return False
    first, second = permutation(maker), permutation(node)
    if first is None or second is None or len(first) != len(second):
        return False
    perm = [first[axis] for axis in second]
    if perm == sorted(perm):
        return work.bypass(node, maker.inputs[0])
    if not _skip(node, maker, work):
        return False
    surgery.set_attributes(node, {"perm": perm})
    return True


# --- 3 -------------------------------------------------------------------------------------------------------------


def casts(node: Node, work: Work) -> bool:
    """Case 3."""
    scope = node.scope
    maker = scope.producers.get(node.inputs[0])
    if maker is None or maker.op != "Cast" or work.stays(maker):
        return False
    narrow, wide, last = maker.dtype(0), dtype_of_cast(maker), dtype_of_cast(node)
    if narrow is None or wide is None or last is None or not holds(wide, narrow):
        return False
    if last == narrow:
        return work.bypass(node, maker.inputs[0])
    is_plain = narrow.kind in {wide.kind, "b"} or last.kind not in "iu"
    if not is_plain or last.kind == "b" or not work.only_reads(scope, node.inputs[0]):
        return False
    surgery.connect(node, 0, maker.inputs[0])
    work.look_around(node)
    work.look_at([maker])
    return True


# --- 4 -------------------------------------------------------------------------------------------------------------


def _bounds(node: Node) -> tuple[float, float] | None:
    """The bounds of a Relu or a Clip with constant bounds, of which the lower is the smaller one."""
    if node.op == "Relu":
        return 0.0, np.inf
    if node.op != "Clip":
        return None
    if node.version < BOUNDS_AS_INPUTS:
        found = tuple(node.attribute(name) for name in ("min", "max"))
        low, high = (
            float(bound) if bound is not None else open_ for bound, open_ in zip(found, (-np.inf, np.inf), strict=True)
        )
    else:
        if any(node.has(index) and not node.is_constant(index) for index in (1, 2)):
            return None
        low, high = (
            float(node.array(index).reshape(-1)[0]) if node.has(index) else open_
            for index, open_ in ((1, -np.inf), (2, np.inf))
        )
    return (low, high) if low <= high else None


def clamps(node: Node, work: Work) -> bool:
    """Case 4, clamps."""
    maker = _before(node, work)
    inner, outer = (None, None) if maker is None else (_bounds(maker), _bounds(node))
    if maker is None or inner is None or outer is None or maker in work.idioms:
        return False
    if outer[0] <= inner[0] and inner[1] <= outer[1]:
        return work.bypass(node, node.inputs[0])
    return inner[0] <= outer[0] and outer[1] <= inner[1] and _skip(node, maker, work)


def involutions(node: Node, work: Work) -> bool:
    """Case 4, Not and Neg."""
    maker = _before(node, work)
    return maker is not None and maker.op == node.op and work.bypass(node, maker.inputs[0])


# --- 5 and 6 -------------------------------------------------------------------------------------------------------


def pads(node: Node, work: Work) -> bool:
    """Case 5."""
    maker = _before(node, work)
    if maker is None or maker.op != "Pad" or node.version < BOUNDS_AS_INPUTS:
        return False
    if any(one.attribute("mode") != b"constant" or one.has(3) for one in (maker, node)):
        return False
    first, second = (one.integers(1) for one in (maker, node))
    values = [_pad_value(one) for one in (maker, node)]
    if first is None or second is None or len(first) != len(second) or None in values or values[0] != values[1]:
        return False
    if min(*first, *second) < 0 or not _skip(node, maker, work):
        return False
    together = [a + b for a, b in zip(first, second, strict=True)]
    surgery.set_constant(node, 1, Weight.exactly(np.array(together, np.int64)), "")
    return True


def _pad_value(node: Node) -> bytes | None:
    """The bits of the value that a Pad writes; None if they are unknown."""
    if not node.has(2):
        dtype = node.dtype(0)
        return None if dtype is None else bytes(dtype.itemsize)
    return node.array(2).tobytes() if node.is_constant(2) else None


def concats(node: Node, work: Work) -> bool:
    """Case 6."""
    scope, axis = node.scope, node.attribute("axis")
    if node in work.idioms:
        return False
    shape = shape_of(scope, node.output)
    for index, name in enumerate(node.inputs):
        maker = scope.producers.get(name)
        if maker is None or maker.op != "Concat" or work.stays(maker) or not work.only_reads(scope, name):
            continue
        inner = maker.attribute("axis")
        if inner == axis or (shape is not None and inner is not None and inner % len(shape) == axis % len(shape)):
            surgery.set_inputs(node, [*node.inputs[:index], *maker.inputs, *node.inputs[index + 1 :]])
            work.look_around(node)
            work.look_at([maker])
            return True
    return False


def expands(node: Node, work: Work) -> bool:
    """Case 7."""
    maker, scope = _before(node, work), node.scope
    if maker is None or maker.op != "Expand" or not work.only_reads(scope, maker.output):
        return False
    if not all(constants.is_stored(scope, name) for name in maker.inputs):
        return False
    before, after = settled(shape_of(scope, maker.output)), settled(shape_of(scope, node.output))
    axes = node.attribute("axes") if node.version < AXES_AS_INPUT else node.integers(1)
    given = settled(shape_of(scope, maker.inputs[0]))
    if before is None or after is None or axes is None or given is None or math.prod(given) > SPREAD:
        return False
    places, lengths = {axis % len(after) for axis in axes}, iter((1,) * (len(before) - len(given)) + given)
    inner = [1 if axis in places else next(lengths) for axis in range(len(after))]
    values = maker.array(0).reshape(inner)
    surgery.retype(node, "Expand")
    surgery.set_constant(node, 1, Weight.exactly(np.array(after, np.int64)), "")
    surgery.set_constant(node, 0, Weight.exactly(values), "")
    work.look_at([maker])
    return True
