"""Archives to unpack, and what comes out of them."""

from __future__ import annotations

import io
import shutil
import warnings
import zipfile
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from onnx import TensorProto, helper

from folding.archive.reader import ARCHIVE_LIMITS, read_archive
from tests.support.onnxfiles import model, names

if TYPE_CHECKING:
    from pathlib import Path

    from folding.archive.rules import ArchiveLimits

MIB = 1 << 20
DATA = b"weights " * 100
examples = settings(
    max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def referring(*locations: str, nbytes: int = len(DATA)) -> bytes:
    """A model whose weights are in files of these names."""
    made = model()
    for index, location in enumerate(locations):
        tensor = TensorProto(
            name=f"w{index}", data_type=TensorProto.UINT8, dims=[nbytes], data_location=TensorProto.EXTERNAL
        )
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
        made.graph.initializer.append(tensor)
        made.graph.node.append(helper.make_node("Shape", [f"w{index}"], [f"s{index}"]))
    return made.SerializeToString()


MODEL, ALONE = referring("w.bin"), referring()


def info(name: str, **attributes: int) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo("placeholder")
    made.filename = name
    for attribute, value in attributes.items():
        setattr(made, attribute, value)
    return made


def zipped(
    *files: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b""
) -> bytes:
    with io.BytesIO() as buffer, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of names that are there twice
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in files:
                archive.writestr(name, data, compress_type=method)
            archive.comment = comment
        return buffer.getvalue()


def good(method: int = zipfile.ZIP_STORED) -> bytes:
    return zipped(("model.onnx", MODEL), ("w.bin", DATA), method=method)


def unpacked(data: bytes, folder: Path, limits: ArchiveLimits = ARCHIVE_LIMITS) -> dict[str, bytes]:
    """What comes out of an archive: exactly the files of the folder it went to."""
    into = folder / "into"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    path = folder / "upload.zip"
    path.write_bytes(data)
    try:
        found = read_archive(path, into, limits)
    except BaseException:
        assert names(into) == []
        raise
    finally:
        assert names(folder) == ["into", "upload.zip"]
    assert found.parent == into
    assert found.suffix == ".onnx"
    return {entry.name: entry.read_bytes() for entry in into.iterdir()}
