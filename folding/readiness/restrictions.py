"""What targets ask of an operator beyond its types: one small function for each, by the id that the data files use.

An id is a name, and for some an argument behind a colon: "constant:1,2", "attribute:mode=nearest|linear". A function
answers with a sentence if the operator breaks the restriction, and with None if it does not, or if that is unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.readiness.loops import fixed_loop, same_rank_branches
from folding.readiness.values import type_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from folding.graph.node import Node

    Restriction = Callable[[Node, str], str | None]

SPATIAL = (2, 3)  # dimensions that TensorRT pools over
LARGEST_K = 3840  # of TopK, from here on TensorRT refuses
TEXT_LIMIT = 40  # characters of a value in a sentence
ZERO_POINTS = 1 << 16  # that are looked at; there is one for each channel
CLIP_RATIO = 2  # halves of the activations of a bidirectional network
EQUATION = frozenset("abcdefghijklmnopqrstuvwxyz->., ")


def broken(node: Node, restriction: str) -> str | None:
    """The sentence of a restriction that the operator breaks; None if it keeps it.

    Raises:
        KeyError: there is no restriction of this name.
        Refused: the operator is malformed, or an attribute differs between the calls of a function.
    """
    name, _, argument = restriction.partition(":")
    return RESTRICTIONS[name](node, argument)


# --- inputs and outputs ---------------------------------------------------------------------------


def constant(node: Node, argument: str) -> str | None:
    """These inputs are constants of the model."""
    open_ones = [i for i in _numbers(argument) if node.has(i) and not node.is_constant(i)]
    return f"{_named(node, open_ones[0])} is computed at run time" if open_ones else None


def static(node: Node, argument: str) -> str | None:
    """These inputs have shapes of which every length is known."""
    for index in _numbers(argument):
        shape = node.scope.values.shape(node.scope, node.inputs[index]) if node.has(index) else ()
        if shape is None or not all(isinstance(length, int) for length in shape):
            return f"the shape of {_named(node, index)} is not fixed"
    return None


def rank(node: Node, argument: str) -> str | None:
    """These inputs have one of these ranks, as far as they are known: "0,1=3|4"."""
    indices, _, allowed = argument.partition("=")
    for index in _numbers(indices):
        shape = node.scope.values.shape(node.scope, node.inputs[index]) if node.has(index) else None
        if shape is not None and str(len(shape)) not in allowed.split("|"):
            return f"{_named(node, index)} has rank {len(shape)}, not {allowed.replace('|', ' or ')}"
    return None


def kind(node: Node, argument: str) -> str | None:
    """An input has one type: "3=int64"."""
    index, _, wanted = argument.partition("=")
    found = type_of(node.scope, node.inputs[int(index)]) if node.has(int(index)) else ""
    return f"{_named(node, int(index))} is {found}, not {wanted}" if found not in {"", wanted} else None


def without_input(node: Node, argument: str) -> str | None:
    """These optional inputs are absent."""
    given = [index for index in _numbers(argument) if node.has(index)]
    return f"{_named(node, given[0])} is given" if given else None


def one_output(node: Node, argument: str) -> str | None:  # noqa: ARG001  one signature for all
    """No output but the first one is asked for."""
    others = [name for name in node.outputs[1:] if name]
    return f"output {others[0]!r} is not supported" if others else None


def zero(node: Node, argument: str) -> str | None:
    """An input is absent, or a constant that is zero everywhere."""
    index = int(argument)
    if not node.has(index):
        return None
    if not node.is_constant(index):
        return f"{_named(node, index)} is computed at run time"
    values = node.array(index)
    return f"{_named(node, index)} is not zero" if values.astype("float64").any() else None


def false(node: Node, argument: str) -> str | None:
    """An input is absent, or a constant that says no."""
    if node.has(int(argument)) and not node.is_constant(int(argument)):
        return f"{_named(node, int(argument))} is computed at run time"
    return f"{_named(node, int(argument))} is true" if any(node.integers(int(argument)) or ()) else None


# --- attributes -----------------------------------------------------------------------------------


def attribute(node: Node, argument: str) -> str | None:
    """An attribute has one of these values: "mode=nearest|linear"."""
    name, _, allowed = argument.partition("=")
    value = _text(node.attribute(name))
    known = value == "" or value in allowed.split("|")
    return None if known else f"{name} is {value}, not {allowed.replace('|', ' or ')}"


def without(node: Node, argument: str) -> str | None:
    """These attributes are absent."""
    given = [name for name in argument.split(",") if node.attribute_proto(name) is not None]
    return f"the attribute {given[0]} is not supported" if given else None


def no_dilations(node: Node, argument: str) -> str | None:  # noqa: ARG001
    """Every dilation is 1."""
    dilations = node.attribute("dilations") or []
    return f"dilations are {list(dilations)}" if any(one != 1 for one in dilations) else None


def symmetric_pads(node: Node, argument: str) -> str | None:  # noqa: ARG001
    """The padding at the beginning and at the end of each axis is the same."""
    pads = list(node.attribute("pads") or [])
    half = len(pads) // 2
    return f"pads are {pads}" if pads[:half] != pads[half:] else None


def pool_2d_3d(node: Node, argument: str) -> str | None:  # noqa: ARG001
    """It pools over two or three dimensions."""
    dimensions = len(node.attribute("kernel_shape") or ())
    return f"it pools over {dimensions} dimension{'s'[: dimensions != 1]}" if dimensions not in SPATIAL else None


def nearest_modes(node: Node, argument: str) -> str | None:  # noqa: ARG001
    """TensorRT rounds as ONNX says for four modes, and for tf_half_pixel_for_nn in one of them alone."""
    mode, transformation = (_text(node.attribute(n)) for n in ("nearest_mode", "coordinate_transformation_mode"))
    if transformation == "tf_half_pixel_for_nn" and mode != "round_prefer_floor":
        return f"nearest_mode is {mode}, which tf_half_pixel_for_nn has not"
    return attribute(node, "nearest_mode=floor|ceil|round_prefer_floor|round_prefer_ceil")


def iota_axes(node: Node, argument: str) -> str | None:  # noqa: ARG001
    """With scales, Resize names all axes in order, or none."""
    axes = list(node.attribute("axes") or [])
    in_order = axes == list(range(len(axes))) and (not axes or rank(node, f"0={len(axes)}") is None)
    return f"axes are {axes}" if node.has(2) and not in_order else None


def same_activations(node: Node, argument: str) -> str | None:  # noqa: ARG001
    """Both directions of a bidirectional network have the same activations."""
    if _text(node.attribute("direction")) != "bidirectional":
        return None
    for name in ("activations", "activation_alpha", "activation_beta"):
        listed = list(node.attribute(name) or [])
        half = len(listed) // CLIP_RATIO
        if listed[:half] != listed[half:]:
            return f"{name} differ between the two directions"
    return None


def lower_case_equation(node: Node, argument: str) -> str | None:  # noqa: ARG001
    """An Einsum uses small letters alone."""
    equation = _text(node.attribute("equation"))
    others = sorted(set(equation) - EQUATION)
    return f"the equation {equation!r} has {', '.join(map(repr, others))}" if others else None


# --- one operator each ----------------------------------------------------------------------------


def k_below_3840(node: Node, argument: str) -> str | None:  # noqa: ARG001
    """TopK asks for fewer elements than TensorRT's limit, as far as that is known."""
    known = node.integers(1) if node.has(1) else [node.attribute("k") or 0]
    return f"K is {known[0]}, not below {LARGEST_K}" if known and known[0] >= LARGEST_K else None


def static_axis(node: Node, argument: str) -> str | None:  # noqa: ARG001
    """The axis that Hardmax looks along has a known length."""
    shape = node.scope.values.shape(node.scope, node.inputs[0])
    axis = node.attribute("axis")
    known = shape is not None and -len(shape) <= axis < len(shape) and isinstance(shape[axis], int)
    return None if known else f"the length of axis {axis} is not fixed"


def real_signal(node: Node, argument: str) -> str | None:  # noqa: ARG001
    """The signal of STFT has no imaginary part."""
    shape = node.scope.values.shape(node.scope, node.inputs[0])
    return "the signal is complex" if shape is not None and len(shape) == 3 and shape[-1] == 2 else None


RESTRICTIONS: dict[str, Restriction] = {
    "attribute": attribute,
    "constant": constant,
    "false": false,
    "fixed-loop": lambda node, _: fixed_loop(node),
    "iota-axes": iota_axes,
    "k-below-3840": k_below_3840,
    "lower-case-equation": lower_case_equation,
    "nearest-modes": nearest_modes,
    "no-dilations": no_dilations,
    "one-output": one_output,
    "pool-2d-3d": pool_2d_3d,
    "rank": rank,
    "real-signal": real_signal,
    "same-activations": same_activations,
    "same-rank-branches": lambda node, _: same_rank_branches(node),
    "static": static,
    "static-axis": static_axis,
    "symmetric-pads": symmetric_pads,
    "type": kind,
    "without": without,
    "without-input": without_input,
    "zero": zero,
}


def _numbers(argument: str) -> list[int]:
    return [int(number) for number in argument.split(",")]


def _named(node: Node, index: int) -> str:
    """An input in the words of ONNX's schema, and its name in the model."""
    formal = node.scope.graph.schema(node.op).inputs
    return f"`{formal[min(index, len(formal) - 1)].name}` ({node.inputs[index]!r})"


def _text(value: object) -> str:
    """An attribute's value as the data files write it; "" if there is none."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)[:TEXT_LIMIT]
