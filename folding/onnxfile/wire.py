"""The protobuf wire format: iterate over fields, and the ONNX messages that carry large payloads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator, Mapping

    Bytes = bytes | mmap.mmap

# Wire types, https://protobuf.dev/programming-guides/encoding/#structure
VARINT, FIXED64, LENGTH_DELIMITED, GROUP, END_GROUP, FIXED32 = 0, 1, 2, 3, 4, 5
FIXED_SIZES = {FIXED64: 8, FIXED32: 4}
TAG_TYPE_BITS = 3
LEAST_KEY = 1 << TAG_TYPE_BITS  # fields are numbered from 1; else zero bytes would parse as fields of two bytes each
FIRST_KEY = 1 << TAG_TYPE_BITS  # ir_version, a varint: what every exporter writes first
CONTINUES = 0x80  # top bit of a varint's byte: another byte follows
VARINT_BITS = 7  # payload bits in a varint's byte
VARINT_MAX_BYTES = 10  # 64 bits in groups of seven

PACKED_VARINTS = 0  # element size of a packed field whose elements have no fixed size


class WireError(Exception):
    """Bytes that no parser accepts; the text continues a sentence after the file's name: "is truncated ..."."""


class UnusualError(Exception):
    """A message that this walk does not handle; protobuf's parser decides whether it is legal."""


@dataclass(frozen=True)
class Kind:
    """A message type of onnx.proto, with the fields that lead to large payloads; keys are field numbers."""

    name: str
    children: Mapping[int, Kind] = field(default_factory=dict)  # fields that are messages to descend into
    payloads: Mapping[int, int] = field(default_factory=dict)  # fields to replace by markers, with their element size
    rivals: frozenset[int] = frozenset()  # a payload is replaced only if just one of these occurs
    merged: frozenset[int] = frozenset()  # singular messages; protobuf merges a second occurrence into the first
    marker: int = 0  # the bytes field that holds the marker in place of a payload


TENSOR_RAW_DATA, TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION, TENSOR_DATA_TYPE = 9, 13, 14, 2
ATTRIBUTE_S = 4
# onnx.proto: float_data 4, int32_data 5, int64_data 7, raw_data 9, double_data 10, uint64_data 11; string_data 6
_TENSOR_PAYLOADS = {4: 4, 5: PACKED_VARINTS, 7: PACKED_VARINTS, 9: 1, 10: 8, 11: PACKED_VARINTS}
TENSOR = Kind(
    "TensorProto", payloads=_TENSOR_PAYLOADS, rivals=frozenset({*_TENSOR_PAYLOADS, 6}), marker=TENSOR_RAW_DATA
)
SPARSE = Kind("SparseTensorProto", children={1: TENSOR, 2: TENSOR}, merged=frozenset({1, 2}))
_ATTRIBUTE_CHILDREN = {5: TENSOR, 10: TENSOR, 22: SPARSE, 23: SPARSE}
ATTRIBUTE = Kind(
    "AttributeProto",
    children=_ATTRIBUTE_CHILDREN,
    payloads={ATTRIBUTE_S: 1, 7: 4, 8: PACKED_VARINTS},  # s, floats, ints
    rivals=frozenset({ATTRIBUTE_S, 7, 8}),
    merged=frozenset({5, 22}),
    marker=ATTRIBUTE_S,
)
NODE = Kind("NodeProto", children={5: ATTRIBUTE})
GRAPH = Kind("GraphProto", children={1: NODE, 5: TENSOR, 15: SPARSE})
_ATTRIBUTE_CHILDREN.update({6: GRAPH, 11: GRAPH})  # the recursion of the schema: g, graphs
FUNCTION = Kind("FunctionProto", children={7: NODE, 11: ATTRIBUTE})
TRAINING = Kind("TrainingInfoProto", children={1: GRAPH, 2: GRAPH})
MODEL = Kind("ModelProto", children={7: GRAPH, 20: TRAINING, 25: FUNCTION})


def varint(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """The varint at position `at`, and the position after it.

    Raises:
        WireError: it runs past `end` or is longer than 64 bits.
    """
    value = shift = 0
    for position in range(at, min(at + VARINT_MAX_BYTES, end)):
        byte = data[position]
        value |= (byte & ~CONTINUES) << shift
        if byte < CONTINUES:
            return value, position + 1
        shift += VARINT_BITS
    raise WireError(f"is truncated or corrupt: the number at byte {at:,} does not end")


def fields(data: Bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Each field of a message: its number, its start, and the start and the end of its value.

    No message of ONNX has groups. A group, which can only be an unknown field, is reported with the number 0.

    Raises:
        WireError: a field runs past the end of its message.
        UnusualError: no field begins so: an unknown wire type, or the end of a group that did not begin.
    """
    at = start
    while at < end:
        begin = at
        key = data[at]
        if key < CONTINUES:
            at += 1
        else:
            key, at = varint(data, at, end)
        if key < LEAST_KEY:
            raise WireError(f"is truncated or corrupt: the field at byte {begin:,} has the number 0, which none has")
        wire_type = key & 7
        if wire_type == LENGTH_DELIMITED:
            if at < end and (length := data[at]) < CONTINUES:
                at += 1
            else:
                length, at = varint(data, at, end)
            stop = at + length
        elif wire_type == VARINT:
            _, stop = varint(data, at, end)
        elif wire_type in FIXED_SIZES:
            stop = at + FIXED_SIZES[wire_type]
        elif wire_type == GROUP:
            key, stop = 0, _group_end(data, at, end, key >> TAG_TYPE_BITS)
        else:
            raise UnusualError
        if stop > end:
            raise WireError(f"is truncated or corrupt: {_beyond(data, begin, end, stop)}")
        yield key >> TAG_TYPE_BITS, begin, at, stop
        at = stop


def _beyond(data: Bytes, begin: int, end: int, stop: int) -> str:
    """What is wrong with a field that ends after its message: the file was cut off, if it begins as models do."""
    if end == len(data) and data[0] == FIRST_KEY:
        return f"{stop - end:,} bytes are missing at its end; copy or download it again"
    return f"the field at byte {begin:,} ends {stop - end:,} bytes after its message"


def _group_end(data: Bytes, start: int, end: int, number: int) -> int:
    """The position after a group whose content begins at `start`; groups may hold groups.

    Raises:
        WireError: it does not end within its message.
        UnusualError: a field in it begins as none does, or another group ends in it.
    """
    open_groups, at = [number], start
    while open_groups:
        key, at = varint(data, at, end)
        wire_type = key & 7
        if wire_type == GROUP:
            open_groups.append(key >> TAG_TYPE_BITS)
        elif wire_type == END_GROUP:
            if open_groups.pop() != key >> TAG_TYPE_BITS:
                raise UnusualError
        elif wire_type == LENGTH_DELIMITED:
            length, at = varint(data, at, end)
            at += length
        elif wire_type == VARINT:
            at = varint(data, at, end)[1]
        elif wire_type in FIXED_SIZES:
            at += FIXED_SIZES[wire_type]
        else:
            raise UnusualError
    return at


def encode_varint(value: int) -> bytes:
    """`value` (not negative) as a varint."""
    encoded = bytearray()
    while value >= CONTINUES:
        encoded.append(value & ~CONTINUES & 0xFF | CONTINUES)
        value >>= VARINT_BITS
    encoded.append(value)
    return bytes(encoded)


def tag(number: int, wire_type: int) -> bytes:
    """The tag with which a field begins."""
    return encode_varint(number << TAG_TYPE_BITS | wire_type)


def header(number: int, length: int) -> bytes:
    """The bytes before the `length` bytes of a length-delimited field."""
    return tag(number, LENGTH_DELIMITED) + encode_varint(length)
