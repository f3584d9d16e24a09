"""ONNX Runtime on the CPU, as far as a comparison needs it: load, run, return every output as plain arrays."""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]

from folding.verification import advice
from folding.verification.judge import is_float, wide
from folding.verification.samples import NAMED_FLOATS, Feeds, Spec, UnverifiableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from folding.verification.judge import Array

THREADS = 8  # more gain little on one sample, and each reserves address space
SILENT = 4  # log severity: fatal only; errors arrive as exceptions
QUOTED = 300  # characters of the runtime's message in a reason
UNOPTIMISED, OPTIMISED = "ORT_DISABLE_ALL", "ORT_ENABLE_ALL"
BETWEEN = ("ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED")
EXTERNAL_DATA = "session.model_external_initializers_file_folder_path"  # of a model that is loaded from memory
BFLOAT16 = 16  # TensorProto.DataType
FLOAT = "tensor(float)"  # how the runtime writes the type of float32
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
        raise UnverifiableError(f"memory ran out; {advice.MEMORY}") from None
    except Exception as error:  # noqa: BLE001  # the runtime's exceptions have no common base class
        text = PREAMBLE.sub("", " ".join(str(error).split()))
        if any(sign in text.lower() for sign in OUT_OF_MEMORY):
            raise UnverifiableError(f"memory ran out: {text[:QUOTED]}; {advice.MEMORY}") from None
        raise RuntimeRefusalError(text[:QUOTED]) from None


@dataclass(frozen=True)
class Taps:
    """Values inside a model that are outputs for a comparison: the bytes that make them so, and what to call them."""

    fragment: bytes
    labels: Mapping[str, str]


class Runner:
    """One loaded model. `constants` replace initializers of these names.

    Raises:
        RuntimeRefusalError: the runtime cannot load it, or (`run`) does not run it on these feeds.
        UnverifiableError: memory ran out.
    """

    def __init__(
        self,
        path: Path,
        level: str = UNOPTIMISED,
        taps: Taps | None = None,
        constants: Mapping[str, Array] | None = None,
    ) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = SILENT
        options.intra_op_num_threads = min(THREADS, _cores())
        options.enable_cpu_mem_arena = False  # it reserves up to twice what is needed, which counts against the limit
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        self._constants = {name: _to_runtime(value) for name, value in (constants or {}).items()}  # it keeps no copy
        for name, value in self._constants.items():
            options.add_initializer(name, value)
        model: Path | bytes = path
        if taps is not None:
            model = path.read_bytes() + taps.fragment
            options.add_session_config_entry(EXTERNAL_DATA, str(path.parent))
        with _refusals():
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        labels = {} if taps is None else taps.labels
        self.inputs = [(i.name, i.type, tuple(i.shape)) for i in self._session.get_inputs()]
        found = [(o.name, o.type) for o in self._session.get_outputs()]
        self.outputs = [(name, kind) for name, kind in found if name not in labels]
        self._all = [(labels.get(name, name), kind) for name, kind in found]
        self._wide = {name for name, kind, _ in self.inputs if kind == FLOAT}
        kinds = [kind for _, kind, _ in self.inputs] + [kind for _, kind in self._all]
        self._numpy_suffices = not any(f"tensor({name})" in kind for name in NAMED_FLOATS for kind in kinds)

    @property
    def specs(self) -> list[Spec]:
        """What the inputs require; raises UnverifiableError if no array can satisfy it."""
        return [Spec.of(*described) for described in self.inputs]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Every output by name, and what was tapped by its label; members of sequences and maps as "name[0]".

        An emulation takes float32 where the feeds are of 16 bits.
        """
        feeds = {
            name: wide(value) if name in self._wide and is_float(value) else value for name, value in feeds.items()
        }
        with _refusals():
            if self._numpy_suffices:
                values = self._session.run(None, feeds)
            else:
                fed = {name: _to_runtime(value) for name, value in feeds.items()}
                values = [_to_numpy(value) for value in self._session.run_with_ort_values(None, fed)]
        return leaves(self._all, values)


class Interpreted:
    """The same for a model that NumPy computes, because the runtime has no kernel for it; slow, for small inputs.

    Raises:
        RuntimeRefusalError: as `Runner`.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        from folding.execution.interpreter import Interpreter, InterpreterError  # noqa: PLC0415  few models need it

        self._seconds, self._error = seconds, InterpreterError
        try:
            self._model = Interpreter(path)
        except InterpreterError as error:
            raise RuntimeRefusalError(str(error)[:QUOTED]) from None
        self.inputs, self.outputs = self._model.inputs, self._model.outputs

    @property
    def specs(self) -> list[Spec]:
        """What the inputs require; raises UnverifiableError if no array can satisfy it."""
        return [Spec.of(*described) for described in self.inputs]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Every output by name, as `Runner.run`."""
        try:
            return leaves(self.outputs, self._model.run(feeds, self._seconds))
        except self._error as error:
            raise RuntimeRefusalError(str(error)[:QUOTED]) from None


def leaves(outputs: list[tuple[str, str]], values: list[Any]) -> dict[str, Array]:
    """Every output by name; members of sequences and maps as "name[0]"."""
    found: dict[str, Array] = {}
    for (name, _), value in zip(outputs, values, strict=True):
        found.update(_leaves(name, value))
    return found


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
