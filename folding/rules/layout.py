"""Operators that only rearrange, rename or cast elements pass an affine map in both directions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.regroup import regroup
from folding.graph.dtypes import contains
from folding.graph.sites import MODE_AS_ATTRIBUTE
from folding.refusal import Refused, require
from folding.rules.axes import axes_of
from folding.rules.rule import OperatorRule, data_only

if TYPE_CHECKING:
    from folding.algebra.affine import Affine
    from folding.algebra.shape import Dimension, Shape
    from folding.graph.node import Node
    from folding.rules.rule import Ways

AXES_AS_INPUT = 13  # Squeeze and Unsqueeze
SHAPE_AS_INPUT = 5  # Reshape
ALLOW_ZERO = 14  # Reshape
DROPOUT_MODE_AS_INPUT = 12
TRAINING_MODE_INPUT = 2  # of Dropout-12
PRIVATE = "\0"  # prefix of the names that this module gives to unknown dimensions; no exporter uses it


def identity_pass_backward(node: Node, a: Affine) -> Ways:  # noqa: ARG001  all rules have this signature
    """``a(x) = a(x)``."""
    return [{0: a}]


def identity_pass_forward(node: Node, index: int, a: Affine) -> Affine:  # noqa: ARG001
    """``a(x) = a(x)``."""
    data_only(index)
    return a


def _require_inference(node: Node) -> None:
    if node.version < MODE_AS_ATTRIBUTE:
        training = not node.attribute("is_test")
    else:
        given = node.version >= DROPOUT_MODE_AS_INPUT and node.has(TRAINING_MODE_INPUT)
        training = given and not (node.is_constant(TRAINING_MODE_INPUT) and not node.array(TRAINING_MODE_INPUT).any())
    require(not training, "barrier", "Dropout may be in training mode")


def dropout_pass_backward(node: Node, a: Affine) -> Ways:
    """``dropout(x) = x`` in inference mode; the mask does not depend on the values."""
    _require_inference(node)
    return [{0: a}]


def dropout_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """As in the backward direction."""
    data_only(index)
    _require_inference(node)
    return a


def cast_pass_backward(node: Node, a: Affine) -> Ways:
    """``a(cast(x)) = cast(a(x))`` up to one rounding, if the type of x holds every value of the output's type.

    If x is constant, a constant absorbs `a`; the writer checks whether its type can hold the result.
    """
    if node.is_constant(0):
        return [{0: a}]
    _require_wider(node, narrow=node.scope.dtype(node.output), wide=node.dtype(0))
    return [{0: a}]


def cast_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """``cast(a(x)) = a(cast(x))``, if the output's type holds every value of the type of x."""
    data_only(index)
    _require_wider(node, narrow=node.dtype(0), wide=node.scope.dtype(node.output))
    return a


def _require_wider(node: Node, *, narrow: np.dtype[np.generic] | None, wide: np.dtype[np.generic] | None) -> None:
    known = narrow is not None and wide is not None
    require(known, "unknown-shape", f"a type of {node.label!r} is unknown")
    assert narrow is not None and wide is not None  # noqa: S101, PT018  narrowed for the type checker
    require(contains(wide, narrow), "narrower-type", f"{wide} does not hold every value of {narrow}")


def _permutation(node: Node, rank: int) -> list[int]:
    perm = list(node.attribute("perm") or reversed(range(rank)))
    require(sorted(perm) == list(range(rank)), "parameters", f"{perm} is no permutation of {rank} axes")
    return perm


def transpose_pass_backward(node: Node, a: Affine) -> Ways:
    """Axis i of the output is axis perm[i] of the input."""
    return [{0: a.transpose(np.argsort(_permutation(node, a.rank)).tolist())}]


def transpose_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """Axis i of the output is axis perm[i] of the input."""
    data_only(index)
    return a.transpose(_permutation(node, a.rank))


def reshape_pass_backward(node: Node, a: Affine) -> Ways:
    """Groups of axes that correspond by prefix products carry the map over (see `folding.algebra.regroup`)."""
    source, target = _reshape_shapes(node)
    return [{0: regroup(a, target, source)}]


def reshape_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """The same in the forward direction."""
    data_only(index)
    return regroup(a, *_reshape_shapes(node))


def _reshape_shapes(node: Node) -> tuple[Shape, Shape]:
    """The shapes of input and output; an unknown dimension that is copied has the same name in both."""
    source = _named(node.shape(0))
    if node.op == "Flatten":
        axis = int(node.attribute("axis"))
        axis += len(source) if axis < 0 else 0
        require(0 <= axis <= len(source), "parameters", f"there is no axis {axis} in a value of rank {len(source)}")
        return source, (_product(source[:axis]), _product(source[axis:]))
    wanted = list(node.attribute("shape")) if node.version < SHAPE_AS_INPUT else node.integers(1)
    if wanted is None:
        return source, node.output_shape
    copies = node.version < ALLOW_ZERO or not node.attribute("allowzero")
    require(
        all(size != 0 or (copies and i < len(source)) for i, size in enumerate(wanted)), "unknown-shape", "a zero size"
    )
    sizes: list[Dimension] = [source[i] if size == 0 else size for i, size in enumerate(wanted)]
    if -1 in wanted:
        sizes[wanted.index(-1)] = _remaining(source, [size for size in sizes if size != -1])
    return source, tuple(sizes)


def _named(shape: Shape) -> Shape:
    return tuple(f"{PRIVATE}{axis}" if size is None else size for axis, size in enumerate(shape))


def _product(sizes: Shape) -> Dimension:
    if len(sizes) == 1:
        return sizes[0]
    return math.prod(n for n in sizes if isinstance(n, int)) if all(isinstance(n, int) for n in sizes) else None


def _remaining(source: Shape, others: list[Dimension]) -> Dimension:
    """The length that -1 stands for: the source's size divided by the other sizes, if unknown dimensions cancel."""
    rest = list(source)
    for size in [size for size in others if isinstance(size, str)]:
        if size not in rest:
            return None
        rest.remove(size)
    numbers = math.prod(size for size in others if isinstance(size, int))
    unknown = [size for size in rest if not isinstance(size, int)]
    known = math.prod(size for size in rest if isinstance(size, int))
    if numbers and known % numbers == 0 and not unknown:
        return known // numbers
    return unknown[0] if len(unknown) == 1 and known == numbers else None


def _axes(node: Node, rank: int) -> list[int] | None:
    """The axes of Squeeze or Unsqueeze in a value of `rank` with them; None if Squeeze drops all of length 1."""
    if node.version >= AXES_AS_INPUT and node.has(1):
        axes = node.integers(1)
        require(axes is not None, "unknown-shape", "its axes are computed at run time")
    else:
        axes = None if node.version >= AXES_AS_INPUT else node.attribute("axes")
    return None if axes is None else sorted(axes_of(axes, rank))


def _squeezed(node: Node) -> tuple[int, ...]:
    """The axes that Squeeze drops."""
    shape = node.shape(0)
    axes = _axes(node, len(shape))
    if axes is None:
        require(all(isinstance(n, int) for n in shape), "unknown-shape", "it drops axes of unknown length")
        return tuple(axis for axis, length in enumerate(shape) if length == 1)
    return tuple(axes)


def _without(a: Affine, axes: tuple[int, ...]) -> Affine:
    if any(axis in axes for axis in a.axes):
        raise Refused("axis", "the map varies along an axis that has length 1")
    return a.reshape([n for axis, n in enumerate(a.shape) if axis not in axes])


def _with(a: Affine, axes: tuple[int, ...]) -> Affine:
    lengths = iter(a.shape)
    return a.reshape([1 if axis in axes else next(lengths) for axis in range(a.rank + len(axes))])


def squeeze_pass_backward(node: Node, a: Affine) -> Ways:
    """The dropped axes have length 1, so the map does not vary along them."""
    return [{0: _with(a, _squeezed(node))}]


def squeeze_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """The same in the forward direction."""
    data_only(index)
    return _without(a, _squeezed(node))


def _unsqueezed(node: Node) -> tuple[int, ...]:
    """The axes that Unsqueeze inserts."""
    rank = len(node.output_shape)
    axes = _axes(node, rank)
    require(axes is not None and len(axes) + node.rank(0) == rank, "parameters", "its axes do not fit the ranks")
    return tuple(axes or ())


def unsqueeze_pass_backward(node: Node, a: Affine) -> Ways:
    """The inserted axes have length 1, so the map does not vary along them."""
    return [{0: _without(a, _unsqueezed(node))}]


def unsqueeze_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """The same in the forward direction."""
    data_only(index)
    return _with(a, _unsqueezed(node))


RESHAPE = OperatorRule(pass_backward=reshape_pass_backward, pass_forward=reshape_pass_forward)

RULES = {
    "Identity": OperatorRule(pass_backward=identity_pass_backward, pass_forward=identity_pass_forward),
    "Dropout": OperatorRule(pass_backward=dropout_pass_backward, pass_forward=dropout_pass_forward),
    "Cast": OperatorRule(pass_backward=cast_pass_backward, pass_forward=cast_pass_forward),
    "Transpose": OperatorRule(pass_backward=transpose_pass_backward, pass_forward=transpose_pass_forward),
    "Reshape": RESHAPE,
    "Flatten": RESHAPE,
    "Squeeze": OperatorRule(pass_backward=squeeze_pass_backward, pass_forward=squeeze_pass_forward),
    "Unsqueeze": OperatorRule(pass_backward=unsqueeze_pass_backward, pass_forward=unsqueeze_pass_forward),
}
