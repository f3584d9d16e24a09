"""Onnxfile: read a model without its weights and write it with them: wire format, external data, limits, atomicity.

reader (`OnnxFile`), skeleton, sources (where payloads lie), wire, tensors, graphs, scopes (checks), external, limits,
likeness (is it a model at all), messages (protobuf's own functions); writer, layout, stream, staging (a file appears
complete or not at all), digests.

May import: `folding.errors`.
"""

from folding.onnxfile import wire
from folding.onnxfile.digests import digests
from folding.onnxfile.graphs import FunctionKey, function_key
from folding.onnxfile.limits import Limits
from folding.onnxfile.messages import parsed, serialized
from folding.onnxfile.reader import OnnxFile, external_locations, from_bytes, read
from folding.onnxfile.skeleton import INLINE_BYTES
from folding.onnxfile.sources import FileSource, Payload, Span
from folding.onnxfile.staging import resolve
from folding.onnxfile.stream import writing
from folding.onnxfile.writer import DATA_SUFFIX, Beside, copy, to_bytes, write

__all__ = [
    "DATA_SUFFIX",
    "INLINE_BYTES",
    "Beside",
    "FileSource",
    "FunctionKey",
    "Limits",
    "OnnxFile",
    "Payload",
    "Span",
    "copy",
    "digests",
    "external_locations",
    "from_bytes",
    "function_key",
    "parsed",
    "read",
    "resolve",
    "serialized",
    "to_bytes",
    "wire",
    "write",
    "writing",
]
