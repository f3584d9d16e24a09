"""onnx's shape inference; untrusted models run it in a separate process, because some make it crash or hang.

It follows null pointers where a required input of an operator is "" (EyeLike), uses unchecked attributes as indices
(LayerNormalization's `axis`, GatherND's `batch_dims`), and stores each of 2 ** 40 sizes of a list (onnx 1.23).
"""

from __future__ import annotations

import onnx
from onnx import shape_inference

from folding.process.forked import forked

BASE_BYTES = 1 << 29  # of address space, in addition to what the process has
MODEL_COPIES = 32  # memory for inference, in copies of the model: types, shapes and their names for every value
_seconds: int | None = None  # of processor time; None: in this process


class InferenceError(Exception):
    """onnx cannot infer the shapes of this model; the text is the first line of its message."""


def keep_apart(seconds: float) -> None:
    """Run every later inference in a fork, for at most `seconds` of processor time. Forks require a single thread."""
    global _seconds  # noqa: PLW0603  it is a property of the process
    _seconds = max(1, int(seconds))


def inferred(model: onnx.ModelProto, *, strict: bool = False) -> onnx.ModelProto:
    """Return the model with the shapes of its values.

    Raises:
        InferenceError: its operators contradict each other, or the process died for any reason.
    """

    def infer() -> onnx.ModelProto:
        return shape_inference.infer_shapes(model, strict_mode=strict, data_prop=not strict)

    try:
        if _seconds is None:
            return infer()
        memory = BASE_BYTES + MODEL_COPIES * model.ByteSize()
        with_shapes: onnx.ModelProto = onnx.ModelProto.FromString(
            forked(lambda: infer().SerializeToString(), "inferred shapes", _seconds, memory)
        )
    except (shape_inference.InferenceError, ValueError, RuntimeError, OSError) as error:
        raise InferenceError((str(error).splitlines() or ["it failed"])[0]) from None
    return with_shapes
