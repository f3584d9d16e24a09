"""Resampling of images: interpolation passes a map along axes that it does not resize, blocks move the channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.refusal import require
from folding.rules.axes import axes_of, length_of, require_small, require_uniform
from folding.rules.rule import OperatorRule, commuting, data_only

if TYPE_CHECKING:
    from folding.algebra.affine import Affine
    from folding.graph.node import Node
    from folding.rules.rule import Ways

SIZES_INPUT = 3  # of Resize since 11
SCALES_AFTER_ROI = 11  # Resize: before it, the scales are input 1, as in Upsample
SPACE = (2, 3)  # the axes of blocks in (N, C, H, W)
IMAGE_RANK = 4


# --- interpolation ---------------------------------------------------------------------------------------


def resize_keeps(node: Node, a: Affine) -> None:
    """``a(resize(x)) = resize(a(x))``: every output is a weighted mean of elements along the resized axes.

    The weights of nearest, linear and cubic interpolation sum to 1: at the border the last element is repeated,
    or (exclude_outside, antialias) the weights are normalized. Only tf_crop_and_resize adds other values.
    """
    coordinates = node.attribute("coordinate_transformation_mode")
    require(coordinates != b"tf_crop_and_resize", "zero-padding", "values outside the input are a constant")
    axes = axes_of(node.attribute("axes") or range(a.rank), a.rank)
    still = coordinates != b"tf_half_pixel_for_nn"  # it shifts by half an element even where the scale is 1
    moved = (axis for axis in set(a.axes) & set(axes) if not (still and _is_kept(node, axis, axes.index(axis))))
    require_uniform(a, moved)


def _is_kept(node: Node, axis: int, place: int) -> bool:
    """Whether the scale along an axis, at index `place` of the axes, is 1; equal sizes alone prove nothing."""
    if not node.has(SIZES_INPUT):
        scales = _scales(node)
        return place < len(scales) and scales[place] == 1
    if node.attribute("keep_aspect_ratio_policy") not in (None, b"stretch"):
        return False
    return length_of(node.shape(0), axis) == length_of(node.output_shape, axis)


def _scales(node: Node) -> list[float]:
    if "height_scale" in node.schema.attributes:
        return [1, 1, node.attribute("height_scale"), node.attribute("width_scale")]
    if "scales" in node.schema.attributes:
        return list(node.attribute("scales"))
    index = 2 if node.op == "Resize" and node.version >= SCALES_AFTER_ROI else 1
    require(node.is_constant(index), "unknown-shape", "its scales are computed at run time")
    return [float(scale) for scale in node.array(index).reshape(-1)]


def grid_sample_keeps(node: Node, a: Affine) -> None:
    """``a(sample(x, grid)) = sample(a(x), grid)``: every output is a weighted mean of elements of one channel.

    The weights of all modes sum to 1. Outside the image lie elements of its border or its reflection, or zeros, which
    let a scale pass alone.
    """
    zeros = node.attribute("padding_mode") == b"zeros"
    require(a.is_linear or not zeros, "zero-padding", "a shift does not pass zeros outside the image")
    require_uniform(a, range(SPACE[0], a.rank))


# --- blocks ----------------------------------------------------------------------------------------------


def _spread(node: Node, a: Affine) -> Affine:
    """The map on C * positions channels, which hold the C channels of `a` in blocks."""
    positions = _positions(node, a)
    batch, channels = a.shape[:2]
    require_small((batch, channels, positions))
    one = a.reshape(_grouped(node, batch, channels, 1))
    return one.expand(_grouped(node, batch, channels, positions)).reshape((batch, channels * positions, 1, 1))


def _gathered(node: Node, a: Affine) -> Affine:
    """The map on C channels, if those of the C * positions channels that become one have the same map."""
    positions = _positions(node, a)
    batch, channels = a.shape[:2]
    if channels == 1:
        return a
    require(channels % positions == 0, "parameters", f"{channels} channels are not blocks of {positions}")
    grouped = a.reshape(_grouped(node, batch, channels // positions, positions))
    require_uniform(grouped, [1 + (node.attribute("mode") == b"CRD")])
    return grouped.reshape((batch, grouped.scale.size // batch, 1, 1))


def _positions(node: Node, a: Affine) -> int:
    """The number of positions in a block. They become channels, so the map must not vary along the image."""
    size = int(node.attribute("blocksize"))
    require(a.rank == IMAGE_RANK and size > 0, "parameters", f"a value of rank {a.rank} has no blocks of {size}")
    require_uniform(a, SPACE)
    return size * size


def _grouped(node: Node, batch: int, channels: int, positions: int) -> tuple[int, int, int]:
    """The channel axis split in two: the position is the outer part in mode DCR, the inner part in mode CRD."""
    if node.attribute("mode") == b"CRD":
        return batch, channels, positions
    return batch, positions, channels


def depth_to_space_pass_backward(node: Node, a: Affine) -> Ways:
    """Every output channel comes from block * block input channels, which get its map."""
    return [{0: _spread(node, a)}]


def depth_to_space_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """The input channels that become one output channel must have the same map."""
    data_only(index)
    return _gathered(node, a)


def space_to_depth_pass_backward(node: Node, a: Affine) -> Ways:
    """The output channels that come from one input channel must have the same map."""
    return [{0: _gathered(node, a)}]


def space_to_depth_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """Every input channel becomes block * block output channels, which get its map."""
    data_only(index)
    return _spread(node, a)


RULES = {
    "Resize": commuting(resize_keeps),
    "Upsample": commuting(resize_keeps),
    "GridSample": commuting(grid_sample_keeps),
    "DepthToSpace": OperatorRule(pass_backward=depth_to_space_pass_backward, pass_forward=depth_to_space_pass_forward),
    "SpaceToDepth": OperatorRule(pass_backward=space_to_depth_pass_backward, pass_forward=space_to_depth_pass_forward),
}
