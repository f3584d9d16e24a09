"""What a model file tells without being loaded: the number types it names, its operators and the files beside it.

The protobuf wire format lets a reader step over a payload without looking at it, so a scan costs no memory and reads
no weight. Field numbers: onnx.proto3; encoding: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# TensorProto.DataType -> distance from 1 to the next larger number of that type.
EPSILON = {1: 2.0**-23, 10: 2.0**-10, 11: 2.0**-52, 16: 2.0**-7}  # float, float16, double, bfloat16

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types
FIXED_SIZES = {FIXED64: 8, FIXED32: 4}
TAG_TYPE_BITS, TAG_TYPE_MASK = 3, 7
VARINT_BITS, VARINT_MASK, VARINT_MORE = 7, 0x7F, 0x80
VARINT_BYTES = 10  # the longest encoding of 64 bits
NESTING = 64  # graphs inside graphs; deeper files are refused by every reader

# message -> field number -> the message found there
MESSAGES: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 25: "FunctionProto"},
    "GraphProto": {
        1: "NodeProto",
        5: "TensorProto",
        11: "ValueInfoProto",
        12: "ValueInfoProto",
        15: "SparseTensorProto",
    },
    "FunctionProto": {7: "NodeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
    "ValueInfoProto": {2: "TypeProto"},
    "TypeProto": {1: "TypeProto.Tensor"},
}
# what is read: a number type (TensorProto.data_type, Tensor.elem_type), an integer, or a text
TYPES = {"TensorProto": 2, "TypeProto.Tensor": 1}
ATTRIBUTE_NAME, ATTRIBUTE_INT = 1, 3
ENTRY_KEY, ENTRY_VALUE = 1, 2
OPERATOR = 4
TEXTS = {
    "NodeProto": (OPERATOR,),
    "AttributeProto": (ATTRIBUTE_NAME,),
    "StringStringEntryProto": (ENTRY_KEY, ENTRY_VALUE),
}


@dataclass
class Scan:
    """What one model file names, nested graphs and functions included."""

    types: set[int] = field(default_factory=set)  # TensorProto.DataType of constants, inputs, outputs and casts
    operators: set[str] = field(default_factory=set)
    locations: set[str] = field(default_factory=set)  # of external data, relative to the model's folder

    @property
    def epsilon(self) -> float:
        """The relative spacing of the narrowest floating type named, that of float32 where none is."""
        return max((EPSILON[t] for t in self.types if t in EPSILON), default=EPSILON[1])

    @property
    def quantizes(self) -> bool:
        """Whether activations, not only weights, are rounded to a few bits."""
        return any(
            op.startswith("QLinear") or op.endswith("Integer") or (op.endswith("QuantizeLinear") and op[:2] != "De")
            for op in self.operators
        )


def scan(path: Path) -> Scan:
    """Scan a model file.

    Raises:
        ValueError: the file is empty, or not a protobuf message.
        OSError: it cannot be read.
    """
    found = Scan()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _Walk(data, found).message("ModelProto", 0, len(data), NESTING)
    return found


def size_with_data(path: Path, found: Scan) -> int:
    """Bytes of a model file and of the files its external data lie in; missing ones count nothing."""
    files = [path, *(path.parent / location for location in found.locations)]
    return sum(file.stat().st_size for file in files if file.is_file())


@dataclass
class _Walk:
    data: mmap.mmap
    found: Scan

    def message(self, kind: str, start: int, end: int, depth: int) -> None:
        if not depth:
            raise ValueError("graphs are nested too deeply")
        texts: dict[int, str] = {}
        numbers: dict[int, int] = {}
        inner = MESSAGES.get(kind, {})
        for number, wire, low, high in self.fields(start, end):
            if wire == VARINT:
                numbers[number] = low
            elif number in TEXTS.get(kind, ()):
                texts[number] = self.data[low:high].decode(errors="replace")
            elif wire == LENGTH and number in inner:
                self.message(inner[number], low, high, depth - (inner[number] == "GraphProto"))
        self.note(kind, texts, numbers)

    def note(self, kind: str, texts: dict[int, str], numbers: dict[int, int]) -> None:
        if kind in TYPES:
            self.found.types.add(numbers.get(TYPES[kind], 0))
        elif kind == "NodeProto":
            self.found.operators.add(texts.get(OPERATOR, ""))
        elif texts.get(ATTRIBUTE_NAME) == "to":  # Cast's target type; no other standard operator has this name
            self.found.types.add(numbers.get(ATTRIBUTE_INT, 0))
        elif texts.get(ENTRY_KEY) == "location":
            self.found.locations.add(texts.get(ENTRY_VALUE, ""))

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Field number, wire type, and either the varint (twice) or the range of its bytes."""
        while at < end:
            tag, at = self.varint(at, end)
            wire = tag & TAG_TYPE_MASK
            low, high = at, at + FIXED_SIZES.get(wire, 0)
            if wire == VARINT:
                low, at = self.varint(at, end)
                high = low
            elif wire == LENGTH:
                length, low = self.varint(at, end)
                at = high = low + length
            elif wire in FIXED_SIZES:
                at = high
            else:
                raise ValueError(f"wire type {wire} at byte {low} is not protobuf")
            if at > end:
                raise ValueError(f"a field ends at byte {at}, its message at {end}")
            yield tag >> TAG_TYPE_BITS, wire, low, high

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """The number at a place, and the place behind it."""
        value = 0
        for shift, place in enumerate(range(at, min(at + VARINT_BYTES, end))):
            byte = self.data[place]
            value |= (byte & VARINT_MASK) << (VARINT_BITS * shift)
            if byte < VARINT_MORE:
                return value, place + 1
        raise ValueError(f"the number at byte {at} is cut off")
