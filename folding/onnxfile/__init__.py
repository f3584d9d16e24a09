"""Onnxfile: read a model without its weights and write it with them: wire format, external data, limits, atomicity.

reader (`OnnxFile`), skeleton, sources (where payloads lie), wire, tensors, graphs, scopes (checks), external, limits;
writer, layout, stream, staging (a file appears complete or not at all), digests; facts and probes (what verification
needs to know), interpreter and kernels (a model computed in NumPy, in float64 if need be); emulation (16-bit types in
float32), with rewriting, halves (which values have them), widened (constants) and ordering.

Only this room and `graph` use protobuf. May import: `folding.errors`.
"""

from folding.onnxfile.digests import digests
from folding.onnxfile.emulation import Emulation, EmulationError, emulate, roughen
from folding.onnxfile.facts import Facts, read_facts
from folding.onnxfile.graphs import function_key
from folding.onnxfile.interpreter import Interpreter, InterpreterError
from folding.onnxfile.limits import Limits
from folding.onnxfile.messages import parsed, serialized
from folding.onnxfile.probes import outputs_fragment
from folding.onnxfile.reader import OnnxFile, external_locations, from_bytes, read
from folding.onnxfile.skeleton import INLINE_BYTES
from folding.onnxfile.sources import FileSource, Span
from folding.onnxfile.staging import resolve
from folding.onnxfile.stream import writing
from folding.onnxfile.writer import DATA_SUFFIX, Beside, copy, to_bytes, write

__all__ = [
    "DATA_SUFFIX",
    "INLINE_BYTES",
    "Beside",
    "Emulation",
    "EmulationError",
    "Facts",
    "FileSource",
    "Interpreter",
    "InterpreterError",
    "Limits",
    "OnnxFile",
    "Span",
    "copy",
    "digests",
    "emulate",
    "external_locations",
    "from_bytes",
    "function_key",
    "outputs_fragment",
    "parsed",
    "read",
    "read_facts",
    "resolve",
    "roughen",
    "serialized",
    "to_bytes",
    "write",
    "writing",
]
