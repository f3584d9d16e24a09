"""Float32 values, or their products, as float16, rounded once to nearest, ties to even: by ONNX Runtime for many.

ONNX Runtime uses instructions of the processor, and takes a twentieth of NumPy's time; loading it takes as long as
NumPy takes for ten million values. It is asked once whether it rounds as NumPy does.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from folding.algebra.factors import BLOCK_ELEMENTS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

    Halves = NDArray[np.float16]
    Float32 = NDArray[np.float32]

FLOAT16 = np.dtype(np.float16)
FLOAT32 = np.dtype(np.float32)
MANY = 1 << 23  # elements of this process; from there on, ONNX Runtime is loaded
FEW = 1024  # elements, for which a call of ONNX Runtime takes longer than NumPy
INFINITE = 0x7C00  # the bits of the first magnitude that is not finite
OPSET, IR_VERSION = 13, 7  # of the operators; every ONNX Runtime that is supported has them
SILENT = 4  # fatal errors only; others arrive as exceptions
ASIDE = 2.0**-22  # of a factor: more than two roundings to float32 can change a product


class _Scratch(threading.local):
    """Memory for two blocks, per thread."""

    def __init__(self) -> None:
        self.low, self.high = np.empty(BLOCK_ELEMENTS, FLOAT16), np.empty(BLOCK_ELEMENTS, FLOAT16)
        self.near, self.differ = np.empty(BLOCK_ELEMENTS, FLOAT32), np.empty(BLOCK_ELEMENTS, np.bool_)


class _Count:
    """How many elements NumPy has rounded; a few may be missed where two threads count."""

    def __init__(self) -> None:
        self.elements = 0


_scratch, _count = _Scratch(), _Count()


class Block:
    """Float32 or float64 values, flat and contiguous, times float64 factors of two axes that broadcast against rows.

    Its methods return memory that the next call in the same thread reuses.
    """

    def __init__(self, source: NDArray[Any], factors: NDArray[np.float64]) -> None:
        self.source, self._factors = source, factors
        rows, columns = factors.shape
        width = columns if columns > 1 else max(1, source.size // rows)
        self._rows = source.reshape(-1, width)
        self._is_plain = factors.size == 1 and factors.item() == 1

    def exactly(self, places: NDArray[np.intp]) -> NDArray[np.float64]:
        """Some of the products."""
        values = self.source[places].astype(np.float64)
        if self._is_plain:
            return values
        row, column = np.divmod(places, self._rows.shape[1])
        return np.asarray(values * np.broadcast_to(self._factors, self._rows.shape)[row, column])

    def sizes(self, out: Float32) -> None:
        """The magnitudes of the products in float32, rounded at most twice."""
        with np.errstate(all="ignore"):
            if self._is_plain:
                np.abs(self.source, out=out, casting="same_kind")
            else:
                rows, factors = self._rows, self._factors.astype(np.float32)
                np.multiply(rows, factors, out=out.reshape(rows.shape), casting="same_kind")
                np.abs(out, out=out)

    def halves(self) -> Halves:
        """The products in float16, flat, rounded once to nearest, ties to even; infinite beyond its range."""
        size = self.source.size
        found = memory(_scratch.low, size)
        with np.errstate(all="ignore"):
            if (run := _kernel(size)) is None:
                rows, out = self._rows, found.reshape(self._rows.shape)
                np.multiply(rows, self._factors, out=out, dtype=np.float64, casting="unsafe")
            elif self._is_plain and self.source.dtype == FLOAT32:
                run({"x": self.source}, {"y": found})
            else:
                places = self._bracket(run, found)
                found[places] = self.exactly(places)
        return found

    def _bracket(self, run: _Kernel, found: Halves) -> NDArray[np.intp]:
        """Products in float16, and the places of those that may not be rounded right.

        Each is computed in float32 with a factor that is a little smaller, and with one that is a little larger. Where
        both become the same float16, so does the exact product, since rounding is monotonic.
        """
        above, differ = memory(_scratch.high, found.size), memory(_scratch.differ, found.size)
        low, high = ((self._factors * times).astype(np.float32) for times in (1 - ASIDE, 1 + ASIDE))
        near = self._rows if self.source.dtype == FLOAT32 else _near(self._rows)
        run({"x": near, "a": low, "b": high}, {"low": found, "high": above})
        np.not_equal(found.view(np.uint16), above.view(np.uint16), out=differ)
        return np.flatnonzero(differ)


def _near(rows: NDArray[Any]) -> Float32:
    near = memory(_scratch.near, rows.size).reshape(rows.shape)
    np.copyto(near, rows, casting="same_kind")
    return near


def memory(block: NDArray[Any], size: int) -> NDArray[Any]:
    """A part of a block, or other memory where that is too small."""
    return block[:size] if size <= BLOCK_ELEMENTS else np.empty(size, block.dtype)


def _kernel(size: int) -> _Kernel | None:
    """What rounds so many elements, if it is not NumPy."""
    if size >= FEW and _count.elements >= MANY:
        return kernel()
    _count.elements += size
    return None


@cache
def kernel() -> _Kernel | None:
    """ONNX Runtime's operators; None where they cannot be used, or round otherwise than NumPy."""
    values = examples()
    found, low = np.empty(values.size, FLOAT16), np.empty(values.size, FLOAT16)
    try:
        run = _Kernel()
        run({"x": values}, {"y": found})
        ones = np.ones((1, 1), np.float32)
        run({"x": values[None], "a": ones, "b": ones}, {"low": low, "high": np.empty(values.size, FLOAT16)})
    except Exception:  # noqa: BLE001  whatever is wrong with it, NumPy does the same
        return None
    with np.errstate(all="ignore"):
        expected = values.astype(FLOAT16).view(np.uint16)
    return run if all(np.array_equal(one.view(np.uint16), expected) for one in (found, low)) else None


def examples() -> Float32:
    """Every finite float16, the middle between each two, and its neighbours in float32, of both signs."""
    exact = np.arange(INFINITE, dtype=np.uint16).view(FLOAT16).astype(np.float32)
    middle = np.append((exact[:-1] + exact[1:]) / 2, np.float32(65520))  # the middle to the first that is infinite
    sides = [np.nextafter(middle, np.float32(towards)) for towards in (0, np.inf)]
    some = np.concatenate([exact, middle, *sides, np.array([np.inf, np.finfo(np.float32).max, 1e-45], np.float32)])
    return np.concatenate([some, -some])


class _Kernel:
    """A session for each set of outputs; it may be called from several threads at the same time."""

    def __init__(self) -> None:
        from onnx import TensorProto, helper  # noqa: PLC0415

        cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16)
        sides = [
            node
            for factor, name in (("a", "low"), ("b", "high"))
            for node in (
                helper.make_node("Mul", ["x", factor], [f"x{factor}"]),
                helper.make_node("Cast", [f"x{factor}"], [name], to=TensorProto.FLOAT16),
            )
        ]
        self._plain = _session([cast], {"x": ["n"]}, {"y": ["n"]})
        shapes = {"x": ["n", "m"], "a": ["k", "l"], "b": ["k", "l"]}
        self._bracket = _session(sides, shapes, {"low": ["n", "m"], "high": ["n", "m"]})

    def __call__(self, given: dict[str, Float32], made: dict[str, Halves]) -> None:
        """Round contiguous values into contiguous memory."""
        session = self._plain if "y" in made else self._bracket
        binding, shape = session.io_binding(), given["x"].shape
        for name, values in given.items():
            binding.bind_input(name, "cpu", 0, FLOAT32.type, values.shape, values.ctypes.data)
        for name, out in made.items():
            binding.bind_output(name, "cpu", 0, FLOAT16.type, shape, out.ctypes.data)
        session.run_with_iobinding(binding)


def _session(nodes: list[NodeProto], inputs: dict[str, list[str]], outputs: dict[str, list[str]]) -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # since 1.29 it reports every loaded model, and writes a file
    import onnxruntime  # noqa: PLC0415  only large models need it, and start-up time counts
    from onnx import TensorProto, helper  # noqa: PLC0415

    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape) for name, shape in outputs.items()]
    graph = helper.make_graph(nodes, "halves", given, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = SILENT
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
