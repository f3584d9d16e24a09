"""The skeleton of a model: its bytes with a marker for every large payload; payloads are not read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf import (  # type: ignore[import-untyped, unused-ignore]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
from onnx import ModelProto

from folding.onnxfile.sources import Span
from folding.onnxfile.wire import (
    CONTINUES,
    MODEL,
    PACKED_VARINTS,
    TAG_TYPE_BITS,
    VARINT_MAX_BYTES,
    Kind,
    UnusualError,
    WireError,
    fields,
    header,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from folding.onnxfile.limits import Limits
    from folding.onnxfile.sources import Source
    from folding.onnxfile.wire import Bytes

INLINE_BYTES = 4096  # larger fields are skipped; this is a page, the smallest unit in which a file is read
MAGIC = os.urandom(16)  # random per process, so no file can contain it
_INDEX_BYTES = 8
MARKER_BYTES = len(MAGIC) + _INDEX_BYTES
_BLOCK = 1 << 20  # bytes of packed numbers checked at a time


def marker(index: int) -> bytes:
    """The marker in the skeleton for the payload with this index."""
    return MAGIC + index.to_bytes(_INDEX_BYTES, "little")


def marked(data: bytes) -> int | None:
    """The index of the payload that `data` stands for, None if `data` is no marker."""
    if len(data) == MARKER_BYTES and data.startswith(MAGIC):
        return int.from_bytes(data[len(MAGIC) :], "little")
    return None


class Walk:
    """One pass over a serialized ModelProto.

    `skeleton` returns its bytes with markers; `payloads` then holds the spans that the markers stand for.
    An unusual message (a payload in several pieces, a group, a singular message that occurs twice and would
    be merged) is kept as it is, so that the skeleton has the same meaning as the file.
    """

    def __init__(self, data: Bytes, source: Source, limits: Limits) -> None:
        self.payloads: list[Span] = []
        self._data, self._source, self._limits = data, source, limits
        self._steps = self._kept = 0

    def skeleton(self) -> bytes:
        """The bytes of the skeleton.

        Raises:
            WireError: a field runs past the end of its message.
            LimitError: nesting_depth, fields or skeleton_bytes is exceeded.
        """
        end = len(self._data)
        pieces = self._enter(MODEL, 0, end, 1)
        return b"".join(pieces if pieces is not None else [self._keep(0, end)])

    def _enter(self, kind: Kind, start: int, end: int, depth: int) -> list[bytes] | None:
        """The pieces of a message in which something was replaced; None if it is kept as it is."""
        self._limits.hold("nesting_depth", depth)
        try:
            return self._walk(kind, start, end, depth)
        except UnusualError:
            return None

    def _walk(self, kind: Kind, start: int, end: int, depth: int) -> list[bytes] | None:
        pieces: list[bytes] = []
        kept, lifted, replaced = start, 0, 0
        single = kind.rivals | kind.merged
        seen: set[int] = set()
        for number, begin, value, stop in fields(self._data, start, end):
            self._steps += 1
            if self._steps > self._limits.fields:
                self._limits.hold("fields", self._steps)
            if number in single:
                lifted += number in kind.rivals
                if number in seen or lifted > 1:
                    return None
                seen.add(number)
            if stop - value <= INLINE_BYTES:
                continue
            inner = self._replace(kind, number, value, stop, depth)
            if inner is not None:
                pieces += [self._keep(kept, begin), header(*inner[0]), *inner[1]]
                replaced += 1
                kept = stop
        if seen & kind.payloads.keys() and replaced > 1:
            return None  # an attribute with values of two types has only one place for a marker
        return [*pieces, self._keep(kept, end)] if pieces else None

    def _replace(
        self, kind: Kind, number: int, value: int, stop: int, depth: int
    ) -> tuple[tuple[int, int], list[bytes]] | None:
        """The replacement of a large field: its number and length, and the pieces of its value."""
        if (element := kind.payloads.get(number)) is not None:
            _check_packed(self._data, value, stop, element)
            self.payloads.append(Span(self._source, value, stop - value, number))
            return (kind.marker, MARKER_BYTES), [marker(len(self.payloads) - 1)]
        if (child := kind.children.get(number)) is None:
            return None
        pieces = self._enter(child, value, stop, depth + 1)
        return None if pieces is None else ((number, sum(map(len, pieces))), pieces)

    def _keep(self, start: int, end: int) -> bytes:
        self._kept += end - start
        self._limits.hold("skeleton_bytes", self._kept)
        return self._data[start:end]


def _check_packed(data: Bytes, start: int, end: int, element: int) -> None:
    """Refuse packed data that protobuf would not parse."""
    if element == PACKED_VARINTS:
        count_varints(data[at : min(at + _BLOCK, end)] for at in range(start, end, _BLOCK))
    elif (end - start) % element:
        raise WireError(f"is corrupt: {end - start} bytes at {start:,} are no array of {element}-byte numbers")


def count_varints(blocks: Iterable[bytes]) -> int:
    """The number of varints in a packed field, given as consecutive blocks of its bytes.

    Raises:
        WireError: the bytes are not a sequence of whole varints.
    """
    count = open_bytes = 0
    for block in blocks:
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) < CONTINUES)
        longest = int(np.diff(ends, prepend=-1 - open_bytes, append=len(block)).max())
        if longest > VARINT_MAX_BYTES:
            raise WireError(f"is corrupt: a packed number takes more than {VARINT_MAX_BYTES} bytes")
        count += len(ends)
        open_bytes = len(block) - 1 - int(ends[-1]) if len(ends) else open_bytes + len(block)
    if open_bytes:
        raise WireError("is corrupt: the last packed number does not end")
    return count


# --- protobuf's part ----------------------------------------------------------------------------------------


def parse(skeleton: bytes, limits: Limits) -> ModelProto:
    """The message of a skeleton; all text in it is valid UTF-8.

    Raises:
        WireError: protobuf cannot parse it, or a string field is not UTF-8 (ModelProto accepts it as bytes).
        LimitError: the limit `fields` is exceeded; an empty message of two bytes takes eighty in memory.
    """
    limits.hold("fields", len(skeleton) - len(skeleton.translate(None, _MESSAGE_TAGS)))
    try:
        _Strict.FromString(skeleton)
    except DecodeError as error:
        raise WireError(f"is not a readable ONNX model: {_reason(skeleton, error)}") from error
    model: ModelProto = ModelProto.FromString(skeleton)
    return model


def _reason(skeleton: bytes, error: DecodeError) -> str:
    try:
        return f"{_bad_text(ModelProto.FromString(skeleton))} is not UTF-8 text"
    except DecodeError:
        text = str(error).rpartition(": ")[2]
        return f"it is nested deeper than {_PARSER_DEPTH} messages" if "Depth" in text else "it is truncated or corrupt"


_PARSER_DEPTH = 100  # protobuf's own limit


def _bad_text(message: Any) -> str | None:
    """The path to the first string field of a message that is not UTF-8."""
    for descriptor, content in message.ListFields():
        values = (
            [content] if isinstance(content, (str, bytes, int, float)) or hasattr(content, "ListFields") else content
        )
        for value in values:
            if descriptor.type == descriptor.TYPE_STRING and isinstance(value, bytes):
                return f"{descriptor.full_name.removeprefix('onnx.')} {value[:40]!r}"
            if descriptor.type == descriptor.TYPE_MESSAGE and (found := _bad_text(value)):
                return found
    return None


def _strict_model() -> Any:
    """The same schema as proto3, because the parser then checks that strings are UTF-8."""
    file = descriptor_pb2.FileDescriptorProto()
    ModelProto.DESCRIPTOR.file.CopyToProto(file)
    file.syntax = "proto3"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("onnx.ModelProto"))


def _message_tags() -> bytes:
    """The bytes with which a nested message can begin; their count is an upper bound for nested messages."""
    tags = set()
    for descriptor in ModelProto.DESCRIPTOR.file.message_types_by_name.values():
        for one in (descriptor, *descriptor.nested_types):
            for member in one.fields:
                if member.type == member.TYPE_MESSAGE:
                    first = (member.number << TAG_TYPE_BITS | 2) & ~CONTINUES & 0xFF
                    tags |= {first, first | CONTINUES}
    return bytes(sorted(tags))


_Strict = _strict_model()
_MESSAGE_TAGS = _message_tags()
