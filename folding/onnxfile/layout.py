"""Layout: the place of every byte of the output, computed before the first one is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from onnx import TensorProto

from folding.errors import FoldingError
from folding.onnxfile.skeleton import MAGIC, MARKER_BYTES
from folding.onnxfile.sources import Span
from folding.onnxfile.wire import (
    MODEL,
    SPARSE,
    TENSOR,
    TENSOR_DATA_LOCATION,
    TENSOR_DATA_TYPE,
    TENSOR_EXTERNAL_DATA,
    TENSOR_RAW_DATA,
    VARINT,
    Kind,
    encode_varint,
    fields,
    header,
    tag,
    varint,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from folding.onnxfile.reader import OnnxFile
    from folding.onnxfile.sources import Payload

MODEL_BYTES_MAX = 2**31 - 1  # protobuf cannot parse a larger message
# The alignment of a payload in a data file, by its size: large ones can be mapped (Windows maps in units of 64 KiB, and
# onnx.proto recommends 4,096), small ones are read anyway, and gaps would take more bytes than they do.
ALIGNMENTS = ((64 * 1024, 64 * 1024), (32 * 1024, 4096), (0, 64))
# Fields whose packed bytes equal those of raw_data, by type: 4 float_data, 10 double_data
_SAME_AS_RAW = {
    (4, TensorProto.FLOAT),
    (4, TensorProto.COMPLEX64),
    (10, TensorProto.DOUBLE),
    (10, TensorProto.COMPLEX128),
}

Spread = Literal["none", "as before", "all"]  # which payloads go to the data file


@dataclass(frozen=True)
class Segment:
    """A run of bytes of an output file: literal bytes, or those of a payload."""

    offset: int
    nbytes: int
    content: bytes | Payload


@dataclass
class DataFile:
    """The external data file of an output; payloads are appended to it."""

    location: str
    segments: list[Segment] = field(default_factory=list)
    nbytes: int = 0
    _offsets: dict[Span | int, int] = field(default_factory=dict)

    def add(self, payload: Payload) -> int:
        """Add a payload and return its offset; a range that was added before keeps its offset."""
        key = payload if isinstance(payload, Span) else id(payload)
        if key not in self._offsets:
            unit = next(unit for nbytes, unit in ALIGNMENTS if payload.nbytes >= nbytes)
            offset = -(-self.nbytes // unit) * unit
            self._offsets[key] = offset
            self.segments.append(Segment(offset, payload.nbytes, payload))
            self.nbytes = offset + payload.nbytes
        return self._offsets[key]


@dataclass(frozen=True)
class Layout:
    """The segments of the model file, in order and without gaps, and its data file if there is one."""

    segments: Sequence[Segment]
    nbytes: int
    data: DataFile | None


def lay_out(file: OnnxFile, location: str) -> Layout:
    """Lay out one file if the source was one and it fits protobuf's limit; else also a data file named `location`.

    External payloads stay external, and computed payloads join them. If the model file would be too large, every
    payload goes to the data file, as far as ONNX allows it.

    Raises:
        FoldingError: the model file would still be too large.
    """
    skeleton = file.model.SerializeToString()
    layout = _Weaver(file, skeleton, DataFile(location), "as before" if file.external_sources else "none").layout()
    if layout.nbytes > MODEL_BYTES_MAX:
        layout = _Weaver(file, skeleton, DataFile(location), "all").layout()
    return _fitting(layout)


def lay_out_single(file: OnnxFile) -> Layout:
    """Lay out everything in one file; raises FoldingError if that exceeds protobuf's limit."""
    return _fitting(_Weaver(file, file.model.SerializeToString(), DataFile(""), "none").layout())


def _fitting(layout: Layout) -> Layout:
    if layout.nbytes > MODEL_BYTES_MAX:
        raise FoldingError(
            f"the model would take {layout.nbytes:,} bytes without external data, more than the "
            f"{MODEL_BYTES_MAX:,} that protobuf can hold"
        )
    return layout


class _Weaver:
    """Replaces markers by their payloads, and updates lengths from the inside out."""

    def __init__(self, file: OnnxFile, skeleton: bytes, data: DataFile, spread: Spread) -> None:
        self._file, self._skeleton, self._data, self._spread = file, skeleton, data, spread
        self._markers = [*_positions(skeleton, MAGIC), len(skeleton)]
        self._next = 0  # index of the first marker that is not replaced yet

    def layout(self) -> Layout:
        pieces, nbytes = self._message(MODEL, 0, len(self._skeleton), within=MODEL)
        return Layout(_segments(pieces), nbytes, self._data if self._data.segments else None)

    def _message(self, kind: Kind, start: int, end: int, within: Kind) -> tuple[list[bytes | Payload], int]:
        """The pieces of a message and their total length."""
        pieces: list[bytes | Payload] = []
        kept, nbytes = start, 0
        for number, begin, value, stop in fields(self._skeleton, start, end):
            if self._markers[self._next] >= stop:
                continue
            if number == kind.marker:
                return self._with_payload(kind, start, end, (begin, value, stop), within)
            if number not in kind.children:
                raise ValueError(f"a payload's marker is in field {number} of a {kind.name}, where no payload can be")
            inner, length = self._message(kind.children[number], value, stop, kind)
            before = self._skeleton[kept:begin] + header(number, length)
            pieces += [before, *inner]
            nbytes += len(before) + length
            kept = stop
        pieces.append(self._skeleton[kept:end])
        return pieces, nbytes + end - kept

    def _with_payload(
        self, kind: Kind, start: int, end: int, marker: tuple[int, int, int], within: Kind
    ) -> tuple[list[bytes | Payload], int]:
        """A tensor or attribute with its payload where protobuf would write it: fields in ascending order."""
        begin, value, stop = marker
        payload = self._file.marked_payload(self._skeleton[value : value + MARKER_BYTES])
        if payload is None or stop - value != MARKER_BYTES:
            raise ValueError(f"{self._skeleton[value:stop]!r} is not the marker of a payload")
        self._next += 1
        if self._markers[self._next] < end:
            raise ValueError(f"a {kind.name} has a payload's marker and another one in what it contains")
        stored = payload.field if isinstance(payload, Span) else kind.marker
        if kind is TENSOR and within is not SPARSE and self._is_external(payload, stored, start, end):
            number = TENSOR_EXTERNAL_DATA
            added: list[bytes | Payload] = [self._entries(payload)]
        else:
            number = TENSOR_RAW_DATA if kind is TENSOR and stored == TENSOR_EXTERNAL_DATA else stored
            added = [header(number, payload.nbytes), payload]
        at = next((first for other, first, _, _ in fields(self._skeleton, start, end) if other > number), end)
        cuts = sorted({start, begin, stop, at, end})
        pieces: list[bytes | Payload] = []
        for one, other in pairwise([*cuts, end]):
            pieces += added if one == at else []
            pieces += [] if one == begin else [self._skeleton[one:other]]
        return pieces, sum(len(p) if isinstance(p, bytes) else p.nbytes for p in pieces)

    def _is_external(self, payload: Payload, stored: int, start: int, end: int) -> bool:
        if self._spread == "none":
            return False
        if self._spread == "as before":
            return not isinstance(payload, Span) or stored == TENSOR_EXTERNAL_DATA
        if stored in {TENSOR_RAW_DATA, TENSOR_EXTERNAL_DATA}:
            return True
        values = (value for number, _, value, _ in fields(self._skeleton, start, end) if number == TENSOR_DATA_TYPE)
        data_type = next((varint(self._skeleton, value, end)[0] for value in values), 0)
        return (stored, data_type) in _SAME_AS_RAW

    def _entries(self, payload: Payload) -> bytes:
        """The fields external_data and data_location of a tensor."""
        entries = {"location": self._data.location, "offset": self._data.add(payload), "length": payload.nbytes}
        fields_13 = b"".join(_entry(key, str(value)) for key, value in entries.items())
        return fields_13 + tag(TENSOR_DATA_LOCATION, VARINT) + encode_varint(TensorProto.EXTERNAL)


def _entry(key: str, value: str) -> bytes:
    """A StringStringEntryProto of external_data: key 1, value 2."""
    texts = [text.encode() for text in (key, value)]
    body = b"".join(header(number, len(text)) + text for number, text in enumerate(texts, 1))
    return header(TENSOR_EXTERNAL_DATA, len(body)) + body


def _positions(data: bytes, part: bytes) -> list[int]:
    found, at = [], data.find(part)
    while at >= 0:
        found.append(at)
        at = data.find(part, at + len(part))
    return found


def _segments(pieces: list[bytes | Payload]) -> list[Segment]:
    """Pieces with their offsets; adjacent literal bytes are joined."""
    segments: list[Segment] = []
    literal: list[bytes] = []
    offset = 0

    def flush() -> None:
        nonlocal offset
        if joined := b"".join(literal):
            segments.append(Segment(offset, len(joined), joined))
            offset += len(joined)
            literal.clear()

    for piece in pieces:
        if isinstance(piece, bytes):
            literal.append(piece)
        else:
            flush()
            segments.append(Segment(offset, piece.nbytes, piece))
            offset += piece.nbytes
    flush()
    return segments
