"""Constants of 16 bits as float32 with the same values: converted block by block while they are written."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from onnx import TensorProto, numpy_helper

from folding.onnxfile import Span, wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from folding.onnxfile import OnnxFile, Payload

STORED: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT16: np.dtype("<f2"),
    TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}
WIDE = np.dtype("<f4")
HALF_BYTES, WIDENING = 2, 2  # of a stored number; bytes of float32 for each byte of it
BLOCK_BYTES = 1 << 21  # of stored numbers that are converted at a time
INT32_DATA = 5  # the field of TensorProto that holds the bits of one number in each varint
VARINT_BYTES = 3  # of a number of 16 bits, at most, as any writer encodes it


class Widened:
    """The payload of a 16-bit tensor as float32, see `sources.Computed`; memory is bounded by two blocks a thread."""

    def __init__(self, stored: Payload, code: int) -> None:
        self._stored, self._dtype = stored, STORED[code]
        self.nbytes = stored.nbytes * WIDENING

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The byte ranges in which it is converted."""
        stored, size = self._stored, self._stored.nbytes
        whole = ((start, min(start + BLOCK_BYTES, size)) for start in range(0, size, BLOCK_BYTES))
        ranges = whole if isinstance(stored, Span) else stored.blocks()
        return ((start * WIDENING, stop * WIDENING) for start, stop in ranges)

    def evaluate(self, start: int, stop: int) -> memoryview:
        """The bytes of one of these blocks."""
        first, last = start // WIDENING, stop // WIDENING
        stored = self._stored
        data = stored.read(first, last) if isinstance(stored, Span) else stored.evaluate(first, last)
        return _bytes(np.frombuffer(data, self._dtype))


class Unpacked:
    """The same for numbers that are stored as varints, one for each: they are found once, and kept by block."""

    def __init__(self, stored: Span, code: int) -> None:
        self._stored, self._dtype = stored, STORED[code]
        self._starts = [0]  # the byte where each block begins
        self._counts = [0]  # the numbers before it
        while self._starts[-1] < stored.nbytes:
            begin = self._starts[-1]
            block = np.frombuffer(stored.read(begin, min(begin + BLOCK_BYTES, stored.nbytes)), np.uint8)
            ends = np.flatnonzero(block < wire.CONTINUES)
            self._starts.append(begin + int(ends[-1]) + 1)
            self._counts.append(self._counts[-1] + len(ends))
        self.nbytes = self._counts[-1] * WIDE.itemsize

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The byte ranges in which it is converted."""
        edges = [count * WIDE.itemsize for count in self._counts]
        return pairwise(edges)

    def evaluate(self, start: int, stop: int) -> memoryview:  # noqa: ARG002  the blocks are those of `blocks`
        """The bytes of one of these blocks."""
        place = self._counts.index(start // WIDE.itemsize)
        data = self._stored.read(self._starts[place], self._starts[place + 1])
        return _bytes(_varints(np.frombuffer(data, np.uint8)).view(self._dtype))


def _varints(data: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The low 16 bits of each varint; a negative one is as long as ten bytes, and its first three say all."""
    ends = np.flatnonzero(data < wire.CONTINUES)
    begins = np.concatenate([[0], ends[:-1] + 1])
    values = np.zeros(len(ends), np.uint32)
    for place in range(VARINT_BYTES):
        at = begins + place
        there = at <= ends
        septets = data[np.minimum(at, len(data) - 1)].astype(np.uint32) & (wire.CONTINUES - 1)
        values |= np.where(there, septets << (wire.VARINT_BITS * place), 0).astype(np.uint32)
    return values.astype(np.uint16)


def _bytes(numbers: NDArray[Any]) -> memoryview:
    with np.errstate(invalid="ignore"):  # a signalling NaN stays a NaN
        return numbers.astype(WIDE).view(np.uint8).data


def widen_tensor(file: OnnxFile, tensor: TensorProto) -> None:
    """Make a 16-bit tensor of `file.model` one of float32 with the same values; others stay as they are."""
    code = tensor.data_type
    if code not in STORED:
        return
    payload = file.payload(tensor)
    if payload is None:
        data = _bytes(numpy_helper.to_array(tensor).reshape(-1)).tobytes()
    elif isinstance(payload, Span) and payload.field == INT32_DATA:
        data = file.attach(Unpacked(payload, code))
    else:
        assert payload.nbytes == math.prod(tensor.dims) * HALF_BYTES, "it was checked when it was read"  # noqa: S101
        data = file.attach(Widened(payload, code))
    tensor.ClearField("int32_data")
    tensor.data_type, tensor.raw_data = TensorProto.FLOAT, data
