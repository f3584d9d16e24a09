"""What a file most likely is that is no ONNX model: a checkpoint, an archive, a page, another runtime's format."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from folding.onnxfile.wire import Bytes

HEAD_BYTES = 1 << 16  # of a file that are looked at: a zip begins with its first entry's name, a page with its tag
PICKLE_PROTOCOLS = range(2, 6)
LENGTH_BYTES = 8  # of the header of a safetensors file, little-endian, before the header itself
EXPORT = (
    "it holds weights and no graph: give the module that they belong to, "
    "`bnfold from-torch package.module:factory --weights FILE -o out.onnx`, or folding.from_torch(module, ...)"
)


class Format(NamedTuple):
    """A format: what it is, what to do, and how its head looks."""

    what: str
    advice: str
    begins: Callable[[bytes], bool]


def _is_page(head: bytes) -> bool:
    return head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html"))


def _is_safetensors(head: bytes) -> bool:
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    return 1 < length < 1 << 32 and head[LENGTH_BYTES : LENGTH_BYTES + 2] == b'{"'


FORMATS = (
    Format("a PyTorch checkpoint", EXPORT, lambda head: head.startswith(b"PK\3\4") and b"data.pkl" in head),
    Format("a zip archive", "unpack it and give the .onnx file in it", lambda head: head.startswith(b"PK\3\4")),
    Format(
        "a pickle, perhaps a PyTorch checkpoint",
        EXPORT,
        lambda head: head[:1] == b"\x80" and head[1:2] != b"" and head[1] in PICKLE_PROTOCOLS,
    ),
    Format("a file of weights (safetensors)", EXPORT, _is_safetensors),
    Format(
        "a pointer of Git LFS, not the file itself",
        "fetch the file: git lfs pull",
        lambda head: head.startswith(b"version https://git-lfs"),
    ),
    Format("an HTML page", "the download gave a page, perhaps a login or an error; download the file again", _is_page),
    Format(
        "a TensorFlow Lite model",
        "convert it first: python -m tf2onnx.convert --tflite FILE --output model.onnx",
        lambda head: head[4:8] == b"TFL3",
    ),
    Format(
        "an OpenVINO model",
        "give the ONNX file that it was made of",
        lambda head: head.lstrip().startswith(b"<?xml") and b"<net" in head,
    ),
    Format(
        "a TensorRT engine",
        "give the ONNX file that it was built from",
        lambda head: head.startswith((b"ftrt", b"ptrt")),
    ),
    Format(
        "an HDF5 file, perhaps of Keras", "convert it first, with tf2onnx", lambda head: head.startswith(b"\x89HDF")
    ),
    Format("compressed with gzip", "unpack it: gunzip", lambda head: head.startswith(b"\x1f\x8b")),
)


def likely(data: Bytes) -> str | None:
    """The sentence for a file that no parser of ONNX accepts: "is a zip archive; unpack it ...", or None."""
    head = bytes(data[:HEAD_BYTES])
    found = next((one for one in FORMATS if one.begins(head)), None)
    return None if found is None else f"is {found.what}, not an ONNX model; {found.advice}"
