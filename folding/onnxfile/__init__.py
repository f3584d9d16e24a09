"""Read a model without its weights, write it with them: the wire format, external data, limits, atomic output."""

from folding.onnxfile.limits import Limits
from folding.onnxfile.reader import OnnxFile, external_locations, from_bytes, read
from folding.onnxfile.skeleton import INLINE_BYTES
from folding.onnxfile.sources import BytesSource, Computed, FileSource, Payload, Source, Span
from folding.onnxfile.writer import copy, to_bytes, write

__all__ = [
    "INLINE_BYTES",
    "BytesSource",
    "Computed",
    "FileSource",
    "Limits",
    "OnnxFile",
    "Payload",
    "Source",
    "Span",
    "copy",
    "external_locations",
    "from_bytes",
    "read",
    "to_bytes",
    "write",
]
