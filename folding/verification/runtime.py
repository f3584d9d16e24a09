"""ONNX Runtime on the CPU, as far as a comparison needs it: load, run, return every output as plain arrays."""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from folding.verification.samples import NAMED_FLOATS, Feeds, Spec, UnverifiableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from folding.verification.judge import Array

THREADS = 8  # more gain little on one sample, and each reserves address space
SILENT = 4  # log severity: fatal only; errors arrive as exceptions
QUOTED = 300  # characters of the runtime's message in a reason
BFLOAT16 = 16  # TensorProto.DataType
# The prefix of a message: codes, and a path that may lie in a temporary folder.
PREAMBLE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:)?")
# How ONNX Runtime and the C++ library report that memory ran out.
OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "failed to allocate", "cannot allocate", "out of memory")


class RuntimeRefusalError(Exception):
    """ONNX Runtime does not load or run the model; the text is its message, shortened."""


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn exceptions of the runtime into RuntimeRefusalError, except a lack of memory, which proves nothing."""
    try:
        yield
    except MemoryError:
        raise UnverifiableError("memory ran out") from None
    except Exception as error:  # noqa: BLE001  # the runtime's exceptions have no common base class
        text = PREAMBLE.sub("", " ".join(str(error).split()))
        if any(sign in text.lower() for sign in OUT_OF_MEMORY):
            raise UnverifiableError(f"memory ran out: {text[:QUOTED]}") from None
        raise RuntimeRefusalError(text[:QUOTED]) from None


class Runner:
    """One loaded model.

    Raises:
        RuntimeRefusalError: the runtime cannot load it, or (`run`) does not run it on these feeds.
        UnverifiableError: memory ran out.
    """

    def __init__(self, path: Path, *, optimised: bool = False) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = SILENT
        options.intra_op_num_threads = min(THREADS, _cores())
        options.enable_cpu_mem_arena = False  # it reserves up to twice what is needed, which counts against the limit
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
        with _refusals():
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [(i.name, i.type, tuple(i.shape)) for i in self._session.get_inputs()]
        self.outputs = [(o.name, o.type) for o in self._session.get_outputs()]
        kinds = [kind for _, kind, _ in self.inputs] + [kind for _, kind in self.outputs]
        self._numpy_suffices = not any(f"tensor({name})" in kind for name in NAMED_FLOATS for kind in kinds)

    @property
    def specs(self) -> list[Spec]:
        """What the inputs require; raises UnverifiableError if no array can satisfy it."""
        return [Spec.of(*described) for described in self.inputs]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Every output by name; members of sequences and maps as "name[0]"."""
        with _refusals():
            if self._numpy_suffices:
                values = self._session.run(None, feeds)
            else:
                fed = {name: _to_runtime(value) for name, value in feeds.items()}
                values = [_to_numpy(value) for value in self._session.run_with_ort_values(None, fed)]
        leaves: dict[str, Array] = {}
        for (name, _), value in zip(self.outputs, values, strict=True):
            leaves.update(_leaves(name, value))
        return leaves


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Array]]:
    """The arrays in a tensor, a sequence, a map (its keys are one array) or an absent optional (an empty array)."""
    if isinstance(value, dict):
        yield f"{name}.keys", np.asarray(list(value))
        value = list(value.values())
    if isinstance(value, list):
        yield f"{name}.length", np.asarray(len(value))
        if value and all(np.isscalar(item) for item in value):
            value = np.asarray(value, np.float32 if isinstance(value[0], float) else None)
        else:
            for index, item in enumerate(value):
                yield from _leaves(f"{name}[{index}]", item)
            return
    yield name, np.empty(0) if value is None else np.asarray(value)


def _to_runtime(value: Array) -> Any:
    if value.dtype.name not in NAMED_FLOATS:
        return ort.OrtValue.ortvalue_from_numpy(value)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(value).view(np.uint16), BFLOAT16)


def _to_numpy(value: Any) -> Array:
    """A tensor as an array. The runtime cannot convert bfloat16: its memory is copied while `value` keeps it alive."""
    name = value.data_type().removeprefix("tensor(").removesuffix(")")
    if name not in NAMED_FLOATS:
        return np.asarray(value.numpy())
    size = value.tensor_size_in_bytes()
    held = (ctypes.c_uint8 * size).from_address(value.data_ptr()) if size else b""
    return np.frombuffer(held, NAMED_FLOATS[name]).reshape(value.shape()).copy()
