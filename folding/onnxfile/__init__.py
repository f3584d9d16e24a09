"""Onnxfile: read a model without its weights and write it with them: wire format, external data, limits, atomicity.

reader (`OnnxFile`), skeleton, sources (where payloads lie), wire, tensors, graphs, scopes (checks), external, limits;
writer, layout, stream, staging (a file appears complete or not at all); facts (what verification needs to know).

Only this room and `graph` use protobuf. May import: `folding.errors`.
"""

from folding.onnxfile.facts import Facts, read_facts
from folding.onnxfile.graphs import function_key
from folding.onnxfile.limits import Limits
from folding.onnxfile.messages import parsed, serialized
from folding.onnxfile.reader import OnnxFile, external_locations, from_bytes, read
from folding.onnxfile.skeleton import INLINE_BYTES
from folding.onnxfile.sources import FileSource, Span
from folding.onnxfile.staging import resolve
from folding.onnxfile.writer import DATA_SUFFIX, copy, to_bytes, write

__all__ = [
    "DATA_SUFFIX",
    "INLINE_BYTES",
    "Facts",
    "FileSource",
    "Limits",
    "OnnxFile",
    "Span",
    "copy",
    "external_locations",
    "from_bytes",
    "function_key",
    "parsed",
    "read",
    "read_facts",
    "resolve",
    "serialized",
    "to_bytes",
    "write",
]
