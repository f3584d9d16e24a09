"""BatchNormalization, whose mode was given by its outputs, and GroupNormalization, whose scale was one per group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.conversion.adapters.node import NoFormError, attribute, connect, drop, given, label, put, take

if TYPE_CHECKING:
    import onnx

    from folding.conversion.adapters.node import Table
    from folding.conversion.here import Here


def _by_outputs(node: onnx.NodeProto, here: Here) -> None:
    """Before opset 14 it is in training mode if it has more than one output, and from then on if it says so."""
    if any(node.output[1:]):
        raise NoFormError("it is in training mode; call eval() before the export, or freeze training")


def _mode_down(node: onnx.NodeProto, here: Here) -> None:
    if take(node, "training_mode", 0):
        raise NoFormError("it is in training mode; call eval() before the export, or freeze training")


def _spatial(node: onnx.NodeProto, here: Here) -> None:
    if not take(node, "spatial", 1):
        raise NoFormError("it is not spatial: it has a mean for every position")


def _is_test_up(node: onnx.NodeProto, here: Here) -> None:
    if not take(node, "is_test", 0):
        raise NoFormError("it is in training mode (is_test is 0)")
    _by_outputs(node, here)


def _is_test_down(node: onnx.NodeProto, here: Here) -> None:
    _by_outputs(node, here)
    put(node, "is_test", 1)


def _consumed_down(node: onnx.NodeProto, here: Here) -> None:
    """Opset 1 asks which inputs it may overwrite: the statistics."""
    put(node, "consumed_inputs", [0, 0, 0, 1, 1])


def _consumed_up(node: onnx.NodeProto, here: Here) -> None:
    drop(node, "consumed_inputs")


def _group_up(node: onnx.NodeProto, here: Here) -> list[onnx.NodeProto]:
    """One scale per group becomes one per channel: ``reshape(expand(reshape(scale, (G, 1)), (G, C / G)), (C,))``."""
    groups, channels = attribute(node, "num_groups"), here.length(given(node, 0), 1)
    if channels is None:
        raise NoFormError("the number of its channels is unknown")
    made: list[onnx.NodeProto] = []
    for index, name in ((1, "scale"), (2, "bias")):
        values = here.array(given(node, index))
        if channels == groups:
            continue
        if values is not None:
            repeated = np.repeat(values, channels // groups)
            connect(node, index, here.constant(repeated, f"{label(node)}.{name}"))
            continue
        wish = f"{label(node)}.{name}"
        sizes = ((groups, 1), (groups, channels // groups), (channels,))
        source = given(node, index)
        for op, size in zip(("Reshape", "Expand", "Reshape"), sizes, strict=True):
            shape = here.constant(np.asarray(size, np.int64), f"{wish}.sizes")
            made.append(here.new(op, [source, shape], wish, size))
            source = made[-1].output[0]
        connect(node, index, source)
    return [*made, node]


UP: Table = {
    ("BatchNormalization", 6): _consumed_up,
    ("BatchNormalization", 7): _is_test_up,
    ("BatchNormalization", 9): _spatial,
    ("BatchNormalization", 14): _by_outputs,
    ("GroupNormalization", 21): _group_up,
}
DOWN: Table = {
    ("BatchNormalization", 6): _consumed_down,
    ("BatchNormalization", 7): _is_test_down,
    ("BatchNormalization", 14): _mode_down,
}
