"""Operators of which an attribute or its default changed, or an attribute became a constant of the input's type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from folding.conversion.adapters.node import NoFormError, attribute, connect, drop, given, label, leave, put, take, text
from folding.conversion.here import dtype_of
from folding.graph.node import bodies

if TYPE_CHECKING:
    from folding.conversion.adapters.node import Adapter, Table
    from folding.conversion.here import Here

FLOAT_MAX = float(np.finfo(np.float32).max)
GRID_MODES = {"bilinear": "linear", "bicubic": "cubic"}  # of GridSample, before and from opset 20 on
# The defaults of Selu in opset 1, before they were written with more digits (onnx operator changelog)
OLD_SELU = {"alpha": 1.6732, "gamma": 1.0507}
NEW_SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}
CARRYING = 3  # inputs of a Loop with one carried value: the trip count, the condition, the value


def _setting(**values: Any) -> Adapter:
    """Write a default, which is another one from here on."""

    def adapt(node: onnx.NodeProto, here: Here) -> None:
        for name, value in values.items():
            if attribute(node, name) is None:
                put(node, name, value)

    return adapt


def _dropping(*names: str) -> Adapter:
    """Drop attributes that say nothing of the result."""

    def adapt(node: onnx.NodeProto, here: Here) -> None:
        drop(node, *names)

    return adapt


def _refusing(name: str, *values: str) -> Adapter:
    """Refuse values of an attribute that are new."""

    def adapt(node: onnx.NodeProto, here: Here) -> None:
        if (value := text(node, name)) in values:
            raise NoFormError(f"its {name} is {value}")

    return adapt


# --- Clip, Dropout -------------------------------------------------------------------------------------------


def _clip_up(node: onnx.NodeProto, here: Here) -> None:
    """Bounds beyond the finite numbers of the type bound nothing."""
    for index, (name, default) in enumerate((("min", -FLOAT_MAX), ("max", FLOAT_MAX)), 1):
        value = take(node, name, default)
        dtype = dtype_of(here.code(given(node, 0)))
        if value == default:
            continue
        if dtype is None:
            raise NoFormError("the type of its input is unknown")
        with np.errstate(over="ignore"):
            bound = np.asarray(value).astype(dtype)
        if np.isfinite(bound):
            connect(node, index, here.constant(bound, f"{label(node)}.{name}"))


def _clip_down(node: onnx.NodeProto, here: Here) -> list[onnx.NodeProto] | None:
    """Constant bounds become attributes, others Max and Min; crossed ones too, which ONNX Runtime refuses there."""
    names = [given(node, 1), given(node, 2)]
    bounds = [here.array(name) if name else None for name in names]
    exact = [b is not None and b.size == 1 and np.asarray(b, np.float32) == np.asarray(b, np.float64) for b in bounds]
    crossed = all(exact) and np.asarray(bounds[0]).item() > np.asarray(bounds[1]).item()
    if not crossed and all(known or not name for known, name in zip(exact, names, strict=True)):
        leave(node, 1)
        for name, bound in zip(("min", "max"), bounds, strict=True):
            if bound is not None:
                put(node, name, float(bound.reshape(-1)[0]))
        return None
    made = []
    source = given(node, 0)
    leave(node, 1)
    if names[0] and names[1]:
        made = [here.new("Max", [source, names[0]], f"{label(node)}.min", here.shape(source))]
        source = made[0].output[0]
    node.op_type = "Min" if names[1] else "Max"
    connect(node, 0, source)
    connect(node, 1, names[1] or names[0])
    return [*made, node]


def _no_mask(node: onnx.NodeProto, here: Here) -> None:
    """Before opset 12 the mask is unspecified where nothing is dropped; before 10 it has the data's type."""
    if len(node.output) > 1 and node.output[1] and here.is_read(node.output[1]):
        raise NoFormError("its mask is read, which meant something else")


def _dropout_up(node: onnx.NodeProto, here: Here) -> None:
    _no_mask(node, here)
    ratio = take(node, "ratio")
    if ratio is not None:
        connect(node, 1, here.constant(np.asarray(ratio, np.float32), f"{label(node)}.ratio"))


def _dropout_down(node: onnx.NodeProto, here: Here) -> None:
    """What is left of it is a copy of its input; in training mode it is random, which has no older form."""
    _no_mask(node, here)
    training = here.array(given(node, 2)) if given(node, 2) else np.zeros(1)
    if training is None or training.any():
        raise NoFormError("it is in training mode, or that is computed")
    ratio = here.array(given(node, 1)) if given(node, 1) else None
    leave(node, 1)
    drop(node, "seed")
    if ratio is not None:
        put(node, "ratio", float(ratio.reshape(-1)[0]))


def _untyped_mask(node: onnx.NodeProto, here: Here) -> None:
    _no_mask(node, here)
    del node.output[1:]


def _is_test(node: onnx.NodeProto, here: Here) -> None:
    if not take(node, "is_test", 0):
        raise NoFormError("it is in training mode (is_test is 0)")


# --- Constant, Shape, Cast, ... ------------------------------------------------------------------------------


def _constant_down(node: onnx.NodeProto, here: Here) -> None:
    """Before opset 12 every value is a tensor."""
    one = node.attribute[0] if len(node.attribute) == 1 else None
    if one is None or one.name in ("value", "sparse_value"):
        return
    if one.name in ("value_string", "value_strings"):
        values: Any = np.array(helper.get_attribute_value(one), np.object_)
    else:
        values = here.array(node.output[0])
    if values is None or one.ref_attr_name:
        raise NoFormError(f"its {one.name} is unknown")
    drop(node, one.name)
    put(node, "value", numpy_helper.from_array(np.asarray(values)))


def _shape_down(node: onnx.NodeProto, here: Here) -> list[onnx.NodeProto]:
    """Before opset 15 a Slice takes part of a shape."""
    start, end = take(node, "start", 0), take(node, "end")
    if not start and end is None:
        return [node]
    final = here.behind(node, "whole")
    here.note(node.output[0], TensorProto.INT64, (here.rank(given(node, 0)),))
    bounds = [np.asarray([n], np.int64) for n in (start, np.iinfo(np.int64).max if end is None else end, 0)]
    inputs = [
        here.constant(n, f"{label(node)}.{name}") for n, name in zip(bounds, ("start", "end", "axis"), strict=True)
    ]
    part = here.new("Slice", [node.output[0], *inputs], f"{final}.part", code=TensorProto.INT64)
    part.output[0] = final
    return [node, part]


def _cast_up(node: onnx.NodeProto, here: Here) -> None:
    put(node, "to", TensorProto.DataType.Value(str(take(node, "to").decode()).upper()))


def _cast_down(node: onnx.NodeProto, here: Here) -> None:
    put(node, "to", TensorProto.DataType.Name(take(node, "to")))


def _grid_up(node: onnx.NodeProto, here: Here) -> None:
    mode = text(node, "mode", "bilinear")
    if attribute(node, "mode") is not None:
        put(node, "mode", GRID_MODES.get(mode, mode))


def _grid_down(node: onnx.NodeProto, here: Here) -> None:
    if here.rank(given(node, 0)) != 4:
        raise NoFormError("its input has not 4 axes, or an unknown number of them")
    mode, old = text(node, "mode", "linear"), {new: old for old, new in GRID_MODES.items()}
    if attribute(node, "mode") is not None:
        put(node, "mode", old.get(mode, mode))


def _roi_up(node: onnx.NodeProto, here: Here) -> None:
    put(node, "coordinate_transformation_mode", "output_half_pixel")


def _roi_down(node: onnx.NodeProto, here: Here) -> None:
    if text(node, "coordinate_transformation_mode", "half_pixel") != "output_half_pixel":
        raise NoFormError("its coordinate_transformation_mode is half_pixel")
    drop(node, "coordinate_transformation_mode")


def _integer_norm(node: onnx.NodeProto, here: Here) -> None:
    norm = take(node, "p")
    if norm is not None and norm != int(norm):
        raise NoFormError(f"its p is {norm}, no integer")
    if norm is not None:
        put(node, "p", int(norm))


def _float_norm(node: onnx.NodeProto, here: Here) -> None:
    norm = take(node, "p")
    if norm is not None:
        put(node, "p", float(norm))


def _scatter_up(node: onnx.NodeProto, here: Here) -> None:
    node.op_type = "ScatterElements"


def _scatter_down(node: onnx.NodeProto, here: Here) -> None:
    node.op_type = "Scatter"


def _sequence_down(node: onnx.NodeProto, here: Here) -> None:
    """Before opset 7 the whole sequence is an output only if it says so; opset 1 does not leave the others out."""
    if node.output and node.output[0]:
        put(node, "output_sequence", 1)


def _no_results(kind: str, words: str) -> Adapter:
    """Refuse bodies whose results are no tensors, which came later."""

    def adapt(node: onnx.NodeProto, here: Here) -> None:
        if any(value.type.WhichOneof("value") == kind for body in bodies(node) for value in body.output):
            raise NoFormError(f"its results are {words}")

    return adapt


def _loop_down(node: onnx.NodeProto, here: Here) -> None:
    """Before operator set 11 a Loop carried at least one value."""
    if len(node.input) < CARRYING:
        raise NoFormError("it carries no value from one turn to the next")


UP: Table = {
    ("Clip", 11): _clip_up,
    ("Clip", 6): _dropping("consumed_inputs"),
    ("Dropout", 12): _dropout_up,
    ("Dropout", 10): _untyped_mask,
    ("Dropout", 7): _is_test,
    ("Concat", 4): _setting(axis=1),
    ("Cast", 6): _cast_up,
    ("GridSample", 20): _grid_up,
    ("RoiAlign", 16): _roi_up,
    ("LpPool", 2): _integer_norm,
    ("GlobalLpPool", 2): _integer_norm,
    ("Selu", 6): _setting(**OLD_SELU),
    ("Scatter", 11): _scatter_up,
    **{(op, 7): _dropping("output_sequence") for op in ("GRU", "LSTM", "RNN")},
    ("GRU", 3): _setting(direction="forward"),
}
DOWN: Table = {
    ("Clip", 11): _clip_down,
    ("Dropout", 12): _dropout_down,
    ("Dropout", 10): _untyped_mask,
    ("Dropout", 7): _setting(is_test=1),
    ("Constant", 12): _constant_down,
    ("Shape", 15): _shape_down,
    ("Cast", 6): _cast_down,
    ("GridSample", 20): _grid_down,
    ("RoiAlign", 16): _roi_down,
    ("LpPool", 2): _float_norm,
    ("GlobalLpPool", 2): _float_norm,
    ("Selu", 6): _setting(**NEW_SELU),
    ("ScatterElements", 11): _scatter_down,
    ("ScatterElements", 18): _refusing("reduction", "max", "min"),
    ("ScatterND", 18): _refusing("reduction", "max", "min"),
    **{(op, 7): _sequence_down for op in ("GRU", "LSTM", "RNN")},
    ("GRU", 3): _setting(direction="forward"),
    ("Loop", 11): _loop_down,
    **{(op, 13): _no_results("sequence_type", "sequences") for op in ("If", "Loop")},
    **{(op, 16): _no_results("optional_type", "optional") for op in ("If", "Loop")},
}
