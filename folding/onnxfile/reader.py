"""OnnxFile: a model read as its skeleton, with large payloads left in the file; it is checked before any work."""

from __future__ import annotations

import mmap
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from onnx import AttributeProto

from folding.errors import ModelError
from folding.onnxfile.external import ExternalFiles, plain_parts
from folding.onnxfile.graphs import GraphCheck
from folding.onnxfile.likeness import likely
from folding.onnxfile.limits import Limits
from folding.onnxfile.skeleton import Walk, marked, marker, parse
from folding.onnxfile.sources import BytesSource, FileSource, Span
from folding.onnxfile.tensors import check_tensor, stored_fields
from folding.onnxfile.wire import WireError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from onnx import ModelProto, TensorProto

    from folding.onnxfile.graphs import Place
    from folding.onnxfile.sources import Payload, Source
    from folding.onnxfile.wire import Bytes

_DEFAULT_LIMITS = Limits()


class OnnxFile:
    """A model whose payloads of more than INLINE_BYTES stay in the file; a context manager.

    `model` is an ordinary ModelProto and may be edited and copied freely. A marker stands for each large payload:
    in `raw_data` of a tensor, in `s` of an attribute (for `s`, `floats` and `ints`). External tensors have a
    marker too, and no location. A payload to which no marker refers is not written.

    `nbytes` is the size of the model file and its external data files. `external_locations` are the names of
    those data files. `path` is None for a model that was read from memory.
    """

    def __init__(self, model: ModelProto, payloads: list[Payload], source: Source, external: ExternalFiles) -> None:
        self.model = model
        self._payloads, self._source, self._external = payloads, source, external

    @property
    def path(self) -> Path | None:
        """The model file."""
        return self._source.path if isinstance(self._source, FileSource) else None

    @property
    def source(self) -> Source:
        """The bytes of the model file."""
        return self._source

    @property
    def external_sources(self) -> Mapping[str, FileSource]:
        """The external data files, by their locations."""
        return self._external.sources

    @property
    def external_locations(self) -> tuple[str, ...]:
        """The names of the external data files, relative to the model's folder."""
        return tuple(self._external.sources)

    @property
    def nbytes(self) -> int:
        """The size of the model file and its external data files."""
        return self._source.size + sum(source.size for source in self._external.sources.values())

    def payload(self, proto: TensorProto | AttributeProto) -> Payload | None:
        """The payload of a tensor or attribute of `model`; None if its data are in the message itself."""
        return self.marked_payload(proto.s if isinstance(proto, AttributeProto) else proto.raw_data)

    def marked_payload(self, data: bytes) -> Payload | None:
        """The payload that a marker stands for; None if `data` is no marker."""
        index = marked(data)
        return None if index is None else self._payloads[index]

    def attach(self, payload: Payload) -> bytes:
        """Return a marker for `raw_data` of a tensor with the dims and data_type of the payload."""
        self._payloads.append(payload)
        return marker(len(self._payloads) - 1)

    def variant(self, model: ModelProto) -> OnnxFile:
        """A file for another message made from `model`; its markers refer to the same payloads. Do not close it."""
        return OnnxFile(model, self._payloads, self._source, self._external)

    def close(self) -> None:
        """Close the files; payloads cannot be read afterwards."""
        self._external.close()
        if isinstance(self._source, FileSource):
            self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: str | os.PathLike[str], limits: Limits = _DEFAULT_LIMITS) -> OnnxFile:
    """Open a model without reading its weights; the file may be untrusted.

    Raises:
        ModelError: it is missing, not an ONNX model, truncated, corrupt, inconsistent or unsafe.
        LimitError: it exceeds one of `limits`.
    """
    source = _opened(Path(path))
    external = ExternalFiles(source, limits)
    try:
        with source.opened() as fd, _mapped(fd, source.size) as data:
            return _build(data, source, external, limits, source.path.name)
    except BaseException:
        external.close()
        source.close()
        raise


def from_bytes(data: bytes, limits: Limits = _DEFAULT_LIMITS) -> OnnxFile:
    """Like `read`, for a serialized ModelProto in memory; it cannot have external data.

    Raises:
        ModelError, LimitError: as in `read`.
    """
    return _build(data, BytesSource(data), ExternalFiles(None, limits), limits, "the model")


def external_locations(path: str | os.PathLike[str], limits: Limits = _DEFAULT_LIMITS) -> tuple[str, ...]:
    """The external data files of a model, as paths relative to its folder; they need not exist yet.

    Raises:
        ModelError, LimitError: as in `read`, for the model file itself.
    """
    with closing(_opened(Path(path))) as source, source.opened() as fd, _mapped(fd, source.size) as data:
        model, _ = _parsed(data, source, limits, source.path.name)
    graphs = GraphCheck(model, limits)
    graphs.run()
    found: dict[str, None] = {}
    for tensor, label in ((place.tensor, place.label) for place in graphs.places):
        if tensor.data_location == tensor.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            found["/".join(plain_parts(entries.get("location", ""), label))] = None
            limits.hold("external_files", len(found))
    return tuple(found)


def _opened(path: Path) -> FileSource:
    try:
        return FileSource(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be opened: {getattr(error, 'strerror', error)}") from error


def _build(data: Bytes, source: Source, external: ExternalFiles, limits: Limits, name: str) -> OnnxFile:
    model, payloads = _parsed(data, source, limits, name)
    file = OnnxFile(model, payloads, source, external)
    _check(file, external, limits)
    return file


def _parsed(data: Bytes, source: Source, limits: Limits, name: str) -> tuple[ModelProto, list[Payload]]:
    if not len(data):
        raise ModelError(f"{name} is empty; it is not an ONNX model")
    try:
        walk = Walk(data, source, limits)
        model = parse(walk.skeleton(), limits)
    except WireError as error:
        raise ModelError(f"{name} {likely(data) or error}") from error
    if not model.HasField("graph"):
        raise ModelError(f"{name} {likely(data) or 'has no graph; it is not an ONNX model'}")
    return model, list(walk.payloads)


def _check(file: OnnxFile, external: ExternalFiles, limits: Limits) -> None:
    """Check graphs, then tensors; put markers into external tensors."""
    graphs = GraphCheck(file.model, limits)
    graphs.run()
    total = 0
    for place in graphs.places:
        tensor = place.tensor
        if tensor.data_location == tensor.EXTERNAL:
            _mark_external(file, external, place)
        payload = file.marked_payload(tensor.raw_data)
        total += check_tensor(tensor, payload if isinstance(payload, Span) else None, place.label)
        limits.hold("tensor_bytes", total)


def _mark_external(file: OnnxFile, external: ExternalFiles, place: Place) -> None:
    tensor = place.tensor
    if place.sparse:
        raise ModelError(f"{place.label}: a sparse tensor cannot have external data")
    if fields := stored_fields(tensor):
        raise ModelError(f"{place.label}: its data are external and in {fields[0]} too; only one can be meant")
    span = external.span(tensor, place.label)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tensor.raw_data = file.attach(span)


@contextmanager
def _mapped(fd: int, size: int) -> Iterator[Bytes]:
    if not size:
        yield b""  # an empty file cannot be mapped
        return
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as data:
        yield data
