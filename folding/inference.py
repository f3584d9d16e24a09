"""onnx's inference of shapes; for models nobody vouches for in processes of their own: some make it crash, or hang.

It follows null pointers where an operator's required input is "" (EyeLike), indexes by attributes it did not check
(LayerNormalization's `axis`, GatherND's `batch_dims`), and notes each of 2 ** 40 sizes of a list (onnx 1.23).
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import onnx
from onnx import shape_inference

from folding.bounds import die_with

if sys.platform != "win32":
    import resource

    from folding.bounds import lower

STATM = Path("/proc/self/statm")  # in pages
BASE_BYTES = 1 << 29  # of address space, besides what the process has
MODEL_COPIES = 32  # what inference may take of it: types, shapes and their names for every value
DONE = 0
_seconds: int | None = None  # of processor time; None: in this process


class InferenceError(Exception):
    """onnx cannot infer the shapes of this model; the text is its first line."""


def keep_apart(seconds: float) -> None:
    """From now on infer in processes of their own, each for so long at most. It forks: call it without threads."""
    global _seconds  # noqa: PLW0603  it is a property of the process
    _seconds = max(1, int(seconds))


def inferred(model: onnx.ModelProto, *, strict: bool = False) -> onnx.ModelProto:
    """The model with the shapes of its values.

    Raises:
        InferenceError: its operators contradict each other; or the process died, of whatever it was.
    """
    try:
        if _seconds is None:
            return shape_inference.infer_shapes(model, strict_mode=strict, data_prop=not strict)
        return _apart(model, strict=strict)
    except (shape_inference.InferenceError, ValueError, RuntimeError, OSError) as error:
        raise InferenceError((str(error).splitlines() or ["it failed"])[0]) from None


def _apart(model: onnx.ModelProto, *, strict: bool) -> onnx.ModelProto:
    reading, writing = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        _infer_and_leave(model, writing, parent, strict=strict)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    if os.waitpid(child, 0)[1] != DONE:
        raise RuntimeError(told.decode() or "the process that inferred shapes died")
    with_shapes: onnx.ModelProto = onnx.ModelProto.FromString(told)
    return with_shapes


def _infer_and_leave(model: onnx.ModelProto, writing: int, parent: int, *, strict: bool) -> NoReturn:
    """Write the model with its shapes, or what is wrong with it, and end without another line of this program."""
    status = DONE + 1
    with suppress(BaseException), os.fdopen(writing, "wb") as pipe:
        die_with(parent)
        _bound(model.ByteSize())
        try:
            told = shape_inference.infer_shapes(model, strict_mode=strict, data_prop=not strict).SerializeToString()
            status = DONE
        except Exception as error:  # noqa: BLE001  the parent raises it
            told = str(error).encode()
        pipe.write(told)
    os._exit(status)


def _bound(nbytes: int) -> None:
    if sys.platform != "win32":
        lower(resource.RLIMIT_CPU, _seconds or 1)
        if held := _held():
            lower(resource.RLIMIT_AS, held + BASE_BYTES + MODEL_COPIES * nbytes)


def _held() -> int:
    """Bytes of address space that this process has; 0 where nobody tells."""
    with suppress(OSError), STATM.open() as file:
        return int(file.read().split()[0]) * resource.getpagesize()
    return 0
