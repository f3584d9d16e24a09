"""The digests of the files of a model, from the descriptors through which it is read."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from folding.onnxfile.reader import OnnxFile
    from folding.onnxfile.sources import Source

BLOCK = 1 << 20  # bytes read at a time


def digests(file: OnnxFile) -> dict[str, str]:
    """The SHA-256 of the model under its name ("" in memory), then those of its external data under their locations.

    Raises:
        ModelError: a file became shorter or cannot be read.
    """
    sources = sorted(file.external_sources.items())
    name = "" if file.path is None else file.path.name
    return {name: _digest(file.source)} | {location: _digest(source) for location, source in sources}


def _digest(source: Source) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(min(BLOCK, source.size)))
    for start in range(0, source.size, BLOCK):
        part = buffer[: min(BLOCK, source.size - start)]
        source.read_into(part, start)
        digest.update(part)
    return digest.hexdigest()
