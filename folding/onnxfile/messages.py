"""Models in memory: convert a ModelProto to bytes and back."""

from __future__ import annotations

import onnx

from folding.errors import OptionError


def serialized(model: onnx.ModelProto) -> bytes:
    """The bytes of a model in memory.

    Raises:
        OptionError: it is no ModelProto; the message states which function takes files.
    """
    if not isinstance(model, onnx.ModelProto):
        raise OptionError(f"fold_model takes an onnx.ModelProto, not {type(model).__name__}; fold takes files")
    data: bytes = model.SerializeToString()
    return data


def parsed(data: bytes) -> onnx.ModelProto:
    """The model that these bytes encode."""
    model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    return model
