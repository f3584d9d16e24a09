"""A file that is no ONNX model is called what it most likely is, with what to do."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile

import numpy as np
import pytest

import folding
from folding import ModelError
from tests.support.models import Model
from tests.support.rows.row import out, start


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"content")
    return buffer.getvalue()


def model() -> bytes:
    m = Model(dtype=np.float32)
    out(m, m.bn(m.conv(start(m), 600), name="bn"))
    return m.build().SerializeToString()


FILES = {
    "PyTorch": (
        zipped("archive/data.pkl"),
        "is a PyTorch checkpoint, not an ONNX model; it holds weights and no graph: give the module",
    ),
    "zip": (zipped("model.onnx"), "is a zip archive, not an ONNX model; unpack it and give the .onnx file in it"),
    "pickle": (
        pickle.dumps({"weight": [1.0]}),
        "is a pickle, perhaps a PyTorch checkpoint, not an ONNX model; it holds weights",
    ),
    "safetensors": ((40).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[1]}}' + b" " * 20, "(safetensors)"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git lfs pull"),
    "page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is an HTML page, not an ONNX model"),
    "TFLite": (b"\x1c\0\0\0TFL3" + bytes(60), "is a TensorFlow Lite model, not an ONNX model; convert it first"),
    "OpenVINO": (b'<?xml version="1.0"?>\n<net name="m" version="11"></net>', "is an OpenVINO model"),
    "TensorRT": (b"ftrt" + bytes(60), "is a TensorRT engine, not an ONNX model; give the ONNX file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "is an HDF5 file, perhaps of Keras"),
    "gzip": (gzip.compress(b"model"), "is compressed with gzip, not an ONNX model; unpack it"),
    "text": (b"not a model at all", "truncated or corrupt"),
}


@pytest.mark.parametrize("name", FILES)
def test_it_is_named(name, tmp_path):
    data, sentence = FILES[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError) as error:
        folding.inspect(path)
    assert str(error.value).startswith("model.onnx ")
    assert sentence in str(error.value)


@pytest.mark.parametrize("missing", [1, 20, 1000])
def test_what_is_missing_is_counted(missing, tmp_path):
    path = tmp_path / "model.onnx"
    data = model()
    # The last fields of a model are its operator sets: cut into the graph, which comes before them.
    cut = len(data) - len(data) // 2
    path.write_bytes(data[: cut - missing])
    with pytest.raises(
        ModelError, match=r"is truncated or corrupt: [\d,]+ bytes are missing at its end; copy or download"
    ):
        folding.inspect(path)


def test_a_model_that_can_be_read_is_never_asked(tmp_path, monkeypatch):
    monkeypatch.setattr("folding.onnxfile.reader.likely", lambda _: 1 / 0)
    (tmp_path / "model.onnx").write_bytes(model())
    assert folding.inspect(tmp_path / "model.onnx").bn_before == 1
