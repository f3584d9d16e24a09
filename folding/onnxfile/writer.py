"""Write a model with its payloads atomically, or copy it if nothing was changed."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from folding.errors import FoldingError
from folding.onnxfile.layout import Segment, lay_out, lay_out_single
from folding.onnxfile.sources import FileSource, Source, Span
from folding.onnxfile.staging import Staging, resolve
from folding.onnxfile.stream import BUFFER, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from folding.onnxfile.reader import OnnxFile
    from folding.onnxfile.stream import Progress

# The name of a small file that appears with a model, and what makes its content of the model's files, by location
Beside = tuple[str, Callable[[Mapping[str, Path]], bytes]]

DATA_SUFFIX = ".data"  # of the external data file, after the model's full name, as torch.onnx.export names it


def write(
    file: OnnxFile,
    target: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    before_commit: Callable[[Path], None] | None = None,
    beside: Beside | None = None,
    durable: bool = False,
) -> int:
    """Serialize `file.model` with its payloads; return the bytes of the output, including external data.

    The target may be the source. It is replaced at the very end, or not at all. `before_commit` is called with
    the complete staged model (its data file beside it); if it raises, nothing is replaced. It may write it again.
    `beside` is a file that comes with the model, all or none.
    `progress(done, total)` is called from this thread. With `durable` the output survives a power failure.

    Raises:
        FoldingError: the target cannot be written, or would overwrite weights of the source.
        ModelError: the source became shorter or cannot be read.
    """
    path = resolve(target)
    layout = lay_out(file, _location(path))
    places = [path] + ([path.with_name(layout.data.location)] if layout.data else [])
    _spare_sources(file, [*places, *([path.with_name(beside[0])] if beside else [])])
    with Staging(path, durable=durable) as staging:
        outputs = []
        if layout.data is not None:
            outputs.append(staging.create(layout.data.location, layout.data.segments, layout.data.nbytes))
        outputs.append(staging.create(path.name, layout.segments, layout.nbytes))
        stream(outputs, progress)
        staged = staging.finish()
        if before_commit is not None:
            before_commit(staged)
        files = staging.staged()
        nbytes = sum(part.stat().st_size for part in files.values())
        if beside is not None:
            staging.add(beside[0], beside[1](files))
        staging.commit()
    return nbytes


def copy(
    file: OnnxFile,
    target: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    beside: Beside | None = None,
    durable: bool = False,
) -> int:
    """Copy the model file byte for byte; return the bytes of the output, including external data.

    External data files stay where they are if the target is in the same folder; otherwise they are copied under their
    own names. If another file has such a name, or if they lie in a sub-folder, the model is written as by `write`.
    `beside` is a file that comes with the model, as in `write`.

    Raises:
        FoldingError, ModelError: as in `write`.
    """
    path = resolve(target)
    there = {path.name: path} | {location: path.parent / location for location in file.external_locations}
    if isinstance(file.source, FileSource) and _is_file(path, file.source.status):
        if beside is not None:
            if beside[0] in file.external_locations:
                raise FoldingError(f"{beside[0]} has weights of the model and would be overwritten; rename the model")
            _write_alone(path.with_name(beside[0]), beside[1](there), durable=durable)
        return file.nbytes
    carried = _carried(file, path)
    if carried is None:
        return write(file, path, progress=progress, beside=beside, durable=durable)
    _spare_sources(file, [path, *([path.with_name(beside[0])] if beside else [])])
    with Staging(path, durable=durable) as staging:
        outputs = [staging.create(name, _whole(source), source.size) for name, source in carried.items()]
        outputs.append(staging.create(path.name, _whole(file.source), file.source.size))
        stream(outputs, progress)
        staging.finish()
        if beside is not None:
            staging.add(beside[0], beside[1](there | staging.staged()))
        staging.commit()
    return file.nbytes


def _write_alone(path: Path, content: bytes, *, durable: bool) -> None:
    with Staging(path, durable=durable) as staging:
        stream([staging.create(path.name, [Segment(0, len(content), content)], len(content))], None)
        staging.finish()
        staging.commit()


def to_bytes(file: OnnxFile) -> bytes:
    """The serialized model with all its payloads, none of them external.

    Raises:
        FoldingError: it exceeds the 2 GiB that protobuf can hold; write it to a file instead.
        ModelError: the source became shorter or cannot be read.
    """
    output = io.BytesIO()  # getvalue() returns its bytes without a copy
    for segment in lay_out_single(file).segments:
        for block in _blocks(segment):
            output.write(block)
    return output.getvalue()


def _blocks(segment: Segment) -> Iterator[bytes | memoryview]:
    if isinstance(segment.content, bytes):
        yield segment.content
    elif isinstance(segment.content, Span):
        for start in range(0, segment.nbytes, BUFFER):
            yield segment.content.read(start, min(start + BUFFER, segment.nbytes))
    else:
        for start, stop in segment.content.blocks():
            yield segment.content.evaluate(start, stop)


def _location(path: Path) -> str:
    """The name of a target's data file, as the model will refer to it."""
    name = path.name + DATA_SUFFIX
    if "\\" in name or not name.isprintable():  # undecodable bytes in a name are not printable either
        raise FoldingError(f"{path.name!r} is no name that a model can refer to; choose one without special characters")
    return name


def _whole(source: Source) -> list[Segment]:
    return [Segment(0, source.size, Span(source, 0, source.size, 0))] if source.size else []


def _carried(file: OnnxFile, path: Path) -> dict[str, FileSource] | None:
    """The data files to copy with a model; None if they cannot keep their names."""
    if file.path is None or not file.external_sources or path.parent.samefile(file.path.parent):
        return {}
    carried = {}
    for location, source in file.external_sources.items():
        place = path.parent / location
        if place.parent != path.parent or place == path:
            return None
        if not os.path.lexists(place):
            carried[place.name] = source
        elif not _same_content(source, place):
            return None
    return carried


def _same_content(source: FileSource, place: Path) -> bool:
    try:
        other = FileSource(place)
    except OSError:
        return False
    try:
        one, two = _whole(source), _whole(other)
        return source.size == other.size and all(
            a == b for x, y in zip(one, two, strict=True) for a, b in zip(_blocks(x), _blocks(y), strict=True)
        )
    finally:
        other.close()


def _spare_sources(file: OnnxFile, places: list[Path]) -> None:
    """Refuse to overwrite files that the source model needs, unless the source model itself is replaced."""
    model, *data = places
    weights = [source.status for source in file.external_sources.values()]
    own = [file.source.status] if isinstance(file.source, FileSource) else []
    in_place = any(_is_file(model, status) for status in own)
    needed = {model: weights, **dict.fromkeys(data, own if in_place else own + weights)}
    for place, statuses in needed.items():
        if any(_is_file(place, status) for status in statuses):
            raise FoldingError(f"{place} belongs to the source model and would be overwritten; choose another target")


def _is_file(path: Path, status: os.stat_result | None) -> bool:
    try:
        return status is not None and os.path.samestat(path.stat(), status)
    except OSError:
        return False
