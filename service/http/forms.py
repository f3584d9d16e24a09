"""Browser forms (`multipart/form-data`): passes the files on as they arrive, and keeps the few other fields.

The parser is python-multipart, which FastAPI uses too; FastAPI's `UploadFile` would write every model twice.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar, get_origin

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.options import NAME_BYTES, PATTERN_LENGTH, PATTERNS, FoldQuery
from service.problems import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

PARTS = 2 * PATTERNS + 100  # every pattern is a field of its own
FIELD_BYTES = 4 * PATTERN_LENGTH  # a character takes at most four bytes in UTF-8
OVERHEAD = 8 << 20  # bytes of a form besides its file
HEADERS, HEADER_BYTES = 8, 4096  # of a part, at most
LISTS = {name for name, field in FoldQuery.model_fields.items() if get_origin(field.annotation) is list}
UNNAMED = "model.onnx"
Query = TypeVar("Query", bound=FoldQuery)

logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # the problem says the same about a form


@dataclass
class Part:
    """A part of a form that is being received."""

    name: str
    file_name: str | None  # None for a field
    value: bytearray


class Form:
    """A form of at most `most` files that is being received; `content_type` contains its boundary.

    Raises:
        Problem: bad-request: the boundary is missing or not valid.
    """

    def __init__(self, content_type: str, most: int = 1) -> None:
        self.fields: list[tuple[str, str]] = []
        self.names: list[str] = []  # of the files
        self.is_broken = False  # whether the form, and not one of its files, is the reason for a problem
        self._most, self._parts, self._arrived, self._size, self._has_ended = most, 0, 0, 0, False
        self._header, self._disposition = (bytearray(), bytearray()), b""
        self._part: Part | None = None
        self._data: list[tuple[int, bytes]] = []  # with the number of its file, from 1
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise Problem(
                "bad-request", "the form's Content-Type names no boundary; let the browser or curl -F make it"
            )
        try:
            self._parser = MultipartParser(
                boundary, self._callbacks(), max_header_count=HEADERS, max_header_size=HEADER_BYTES
            )
        except FormParserError as error:
            raise Problem("bad-request", f"the form's boundary is not one: {error}") from None

    async def file(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """The data of the one file in the form. Its name and the fields are complete when the data end.

        Raises:
            Problem: bad-request: the body is not a form, ends early, or has no file or several;
                too-large: a field, or everything besides the file, is too large.
        """
        async for _, data in self._numbered(chunks):
            yield data

    async def files(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
        """Each file in the form: its name and its data, of which what is not read is skipped. Raises as `file`."""
        stream = self._numbered(chunks)
        ahead = await anext(stream, None)

        async def rest(number: int) -> AsyncIterator[bytes]:
            nonlocal ahead
            while ahead is not None and ahead[0] == number:
                data, ahead = ahead[1], await anext(stream, None)
                yield data

        while ahead is not None:
            number = ahead[0]
            yield self.names[number - 1], rest(number)
            async for _ in rest(number):
                pass

    async def _numbered(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[tuple[int, bytes]]:
        """The data of the files, with their numbers; of each at least one piece, which may be empty."""
        self.is_broken = True
        async for chunk in chunks:
            self._arrived += len(chunk)
            self._feed(chunk)
            self._size += sum(len(data) for _, data in self._data)
            if self._arrived - self._size > OVERHEAD:
                raise Problem("too-large", f"beside its files the form has more than {OVERHEAD:,} bytes; send less")
            self.is_broken = False
            for one in self._data:
                yield one
            self.is_broken = True
            self._data.clear()
        if not self._has_ended:
            raise Problem("bad-request", "the form ends before its last boundary; send it again")
        if not self.names:
            raise Problem("bad-request", 'the form has no file; give it one: <input type="file" name="model">')
        self.is_broken = False

    def query(self, query: Query, number: int = 0) -> Query:
        """The parameters of the URL and of the form together; the form has precedence.

        The name of the model is the name of the file with this number, unless either of them sets `name`.

        Raises:
            RequestValidationError: a value in the form is not valid.
        """
        values: dict[str, Any] = {}
        for name, value in self.fields:
            if not value:
                continue  # an empty text field
            values[name] = [*values.get(name, ()), value] if name in LISTS else value
        asked = query.model_dump(exclude_unset=True)
        try:
            return type(query).model_validate({"name": plain_name(self.names[number])} | asked | values)
        except ValidationError as error:
            errors = [{**found, "loc": ("form", *found["loc"])} for found in error.errors(include_url=False)]
            raise RequestValidationError(errors) from None

    def _feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise Problem("bad-request", f"the form cannot be understood: {error}") from None

    def _callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._arrives,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > PARTS:
            raise Problem("too-large", f"the form has more than {PARTS:,} parts; send fewer")
        self._disposition = b""

    def _header_ends(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        name.clear()
        value.clear()

    def _headers_end(self) -> None:
        kind, parameters = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in parameters:
            raise Problem("bad-request", "a part of the form has no name in its Content-Disposition")
        name, file_name = (_text(parameters[key]) if key in parameters else None for key in (b"name", b"filename"))
        self._part = Part(name or "", file_name, bytearray())
        if file_name:
            self._take_file(file_name)

    def _take_file(self, name: str) -> None:
        if len(self.names) == self._most == 1:
            raise Problem("bad-request", "the form has several files; send one model, or one zip of it and its data")
        if len(self.names) == self._most:
            raise Problem("too-large", f"the form has more than {self._most} files; send the others in another one")
        self.names.append(name)
        self._data.append((len(self.names), b""))

    def _arrives(self, data: bytes, start: int, end: int) -> None:
        assert self._part is not None  # noqa: S101  headers come before data
        if self._part.file_name:
            self._data.append((len(self.names), data[start:end]))
            return
        self._part.value += data[start:end]
        if self._part.file_name == "":
            self._part.file_name = UNNAMED
            self._take_file(self._part.file_name)
            self._data.append((len(self.names), bytes(self._part.value)))
        elif len(self._part.value) > FIELD_BYTES:
            raise Problem("too-large", f"the form's field {self._part.name!r} has more than {FIELD_BYTES:,} bytes")

    def _end(self) -> None:
        part = self._part
        if part is not None and part.file_name is None:
            self.fields.append((part.name, _text(bytes(part.value))))

    def _finish(self) -> None:
        self._has_ended = True


def plain_name(name: str) -> str:
    """The name of a file on the client's machine, changed to a name that the service accepts."""
    plain = "".join(c for c in name.replace("\\", "/").rpartition("/")[2] if c.isprintable()).strip()
    path = PurePosixPath(plain if plain.strip(" .") else UNNAMED)
    suffix = path.suffix if len(path.suffix.encode()) < NAME_BYTES else ""
    stem = path.name.removesuffix(suffix).encode()[: NAME_BYTES - len(suffix.encode())]
    return stem.decode(errors="ignore") + suffix


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Problem("bad-request", "the form has text that is not UTF-8") from None
