"""Upsample and Resize: five forms of the same operator.

Upsample and Resize of opset 10 compute a source position as ``x / scale`` ("asymmetric") and round it down; ONNX
Runtime rounds it up where it makes an axis shorter, which the standard leaves open: that is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.conversion.adapters.node import NoFormError, connect, drop, given, label, leave, put, take, text

if TYPE_CHECKING:
    import onnx

    from folding.conversion.adapters.node import Table
    from folding.conversion.here import Array, Here

FIRST_SPATIAL = 2  # opset 1 scales height and width of NCHW
COORDINATES, NEAREST = "coordinate_transformation_mode", "nearest_mode"


def _scales(node: onnx.NodeProto, here: Here, index: int) -> Array:
    found = here.array(given(node, index))
    if found is None:
        raise NoFormError("its scales are computed")
    return found.reshape(-1)


def _no_shrinking(node: onnx.NodeProto, here: Here, index: int) -> None:
    """Refuse nearest values of shorter axes, of which the standard does not say how positions are rounded."""
    if text(node, "mode", "nearest") == "nearest" and (_scales(node, here, index) < 1).any():
        raise NoFormError("it makes an axis shorter, and opset 10 leaves open how it rounds positions")


# --- Upsample ------------------------------------------------------------------------------------------------


def _upsample_7_up(node: onnx.NodeProto, here: Here) -> None:
    height, width = take(node, "height_scale"), take(node, "width_scale")
    if text(node, "mode") == "bilinear":
        put(node, "mode", "linear")
    put(node, "scales", [1.0, 1.0, height, width])


def _upsample_7_down(node: onnx.NodeProto, here: Here) -> None:
    scales = list(take(node, "scales"))
    if len(scales) != 4 or scales[:FIRST_SPATIAL] != [1.0, 1.0]:
        raise NoFormError("it scales more than height and width")
    if text(node, "mode") == "linear":
        put(node, "mode", "bilinear")
    put(node, "height_scale", scales[2])
    put(node, "width_scale", scales[3])


def _upsample_9_up(node: onnx.NodeProto, here: Here) -> None:
    connect(node, 1, here.constant(np.asarray(take(node, "scales"), np.float32), f"{label(node)}.scales"))


def _upsample_9_down(node: onnx.NodeProto, here: Here) -> None:
    put(node, "scales", [float(n) for n in _scales(node, here, 1)])
    leave(node, 1)


def _upsample_10_up(node: onnx.NodeProto, here: Here) -> None:
    node.op_type = "Resize"


def _resize_10_down(node: onnx.NodeProto, here: Here) -> None:
    if (_scales(node, here, 1) < 1).any():
        raise NoFormError("it makes an axis shorter, and Upsample makes them longer only")
    node.op_type = "Upsample"


# --- Resize --------------------------------------------------------------------------------------------------


def _resize_11_up(node: onnx.NodeProto, here: Here) -> None:
    _no_shrinking(node, here, 1)
    scales = given(node, 1)
    leave(node, 1)
    for index, name in enumerate((_no_roi(node, here), scales), 1):
        connect(node, index, name)
    put(node, COORDINATES, "asymmetric")
    if text(node, "mode", "nearest") == "nearest":
        put(node, NEAREST, "floor")


def _resize_11_down(node: onnx.NodeProto, here: Here) -> None:
    """Sizes give scales where the shape of the input is known, and all positions are those of opset 10."""
    mode = text(node, "mode", "nearest")
    if mode == "cubic":
        raise NoFormError("its mode is cubic")
    scales = _scales_of(node, here)
    coordinates, nearest = text(node, COORDINATES, "half_pixel"), text(node, NEAREST, "round_prefer_floor")
    same = coordinates == "asymmetric" and (mode == "linear" or nearest == "floor")
    if not same and not (scales == 1).all() and not (mode == "nearest" and _repeats(coordinates, nearest, scales)):
        raise NoFormError(f"opset 10 has no mode {mode} with {coordinates} and {nearest} positions")
    drop(node, COORDINATES, NEAREST, "cubic_coeff_a", "exclude_outside", "extrapolation_value")
    name = given(node, 2)
    known = here.array(name) if name else None
    leave(node, 1)
    if known is None or not known.size:
        name = here.constant(scales.astype(np.float32), f"{label(node)}.scales")
    connect(node, 1, name)
    _no_shrinking(node, here, 1)


def _repeats(coordinates: str, nearest: str, scales: Array) -> bool:
    """Whether each element is repeated: ``round((i + 1/2) / s - 1/2) = floor(i / s)`` for whole numbers s."""
    return coordinates == "half_pixel" and nearest.startswith("round") and bool((scales == np.rint(scales)).all())


def _scales_of(node: onnx.NodeProto, here: Here) -> Array:
    """The scales, also where there are sizes instead."""
    found = here.array(given(node, 2)) if given(node, 2) else np.zeros(0)
    if found is not None and found.size:
        return found.reshape(-1)
    sizes, shape = here.integers(given(node, 3)), here.shape(given(node, 0))
    if found is None or sizes is None:
        raise NoFormError("its scales or sizes are computed")
    lengths = [n for n in shape or () if isinstance(n, int)]
    if len(lengths) != len(sizes) or any(size % old for size, old in zip(sizes, lengths, strict=True)):
        raise NoFormError("its sizes are no multiples of the input's, or those are unknown")
    return np.asarray(sizes, np.float64) / np.asarray(lengths, np.float64)


def _no_roi(node: onnx.NodeProto, here: Here) -> str:
    return here.constant(np.zeros(0, np.float32), f"{label(node)}.roi")


def _resize_13_up(node: onnx.NodeProto, here: Here) -> None:
    """Inputs that are empty may be absent from opset 13 on, and both scales and sizes may not be given."""
    if text(node, COORDINATES) == "tf_half_pixel_for_nn":
        raise NoFormError(f"its {COORDINATES} is tf_half_pixel_for_nn, which opset 13 does not have")
    names = [given(node, index) for index in (1, 2, 3)]
    for index, name in enumerate(names, 1):
        values = here.array(name) if name else None
        if name and values is not None and not values.size:
            node.input[index] = ""
    if given(node, 2) and given(node, 3):
        if here.shape(names[1]) != (0,):
            raise NoFormError("it has scales and sizes")
        node.input[2] = ""
    connect(node, 0, given(node, 0))


def _resize_13_down(node: onnx.NodeProto, here: Here) -> None:
    for index in (1, 2):
        if not given(node, index) and (index == 1 or given(node, 3)):
            connect(node, index, _no_roi(node, here))


def _resize_18_down(node: onnx.NodeProto, here: Here) -> None:
    if take(node, "antialias", 0):
        raise NoFormError("it smooths what it makes smaller (antialias)")
    if text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NoFormError("it keeps the aspect ratio")
    drop(node, "keep_aspect_ratio_policy")
    axes = take(node, "axes")
    if axes is None:
        return
    shape = here.shape(given(node, 0))
    if shape is None or given(node, 1):
        raise NoFormError("the rank of its input is unknown, or it has a roi")
    for index, name in ((2, "scales"), (3, "sizes")):
        if not given(node, index):
            continue
        values = here.array(given(node, index))
        whole = [1.0] * len(shape) if name == "scales" else list(shape)
        if values is None or not all(isinstance(n, (int, float)) for n in whole):
            raise NoFormError(f"its {name} are computed, or the other lengths are unknown")
        for axis, value in zip(axes, values.reshape(-1), strict=True):
            whole[axis] = value.item()
        connect(node, index, here.constant(np.asarray(whole, values.dtype), f"{label(node)}.{name}"))


def _resize_19_down(node: onnx.NodeProto, here: Here) -> None:
    if text(node, COORDINATES) == "half_pixel_symmetric":
        raise NoFormError(f"its {COORDINATES} is half_pixel_symmetric")


UP: Table = {
    ("Upsample", 7): _upsample_7_up,
    ("Upsample", 9): _upsample_9_up,
    ("Upsample", 10): _upsample_10_up,
    ("Resize", 11): _resize_11_up,
    ("Resize", 13): _resize_13_up,
}
DOWN: Table = {
    ("Upsample", 7): _upsample_7_down,
    ("Upsample", 9): _upsample_9_down,
    ("Resize", 10): _resize_10_down,
    ("Resize", 11): _resize_11_down,
    ("Resize", 13): _resize_13_down,
    ("Resize", 18): _resize_18_down,
    ("Resize", 19): _resize_19_down,
}
