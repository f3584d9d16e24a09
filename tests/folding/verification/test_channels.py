"""Samples have the lengths that the weights, or the result, determine, where the model leaves them open."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from folding import verify
from folding.verification.samples import Spec, with_lengths

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
FIVE = ", ".join("12345")
MODELS = {
    "Conv": f"g (float[n,c,h,w] x) => (float[n,d,h,w] y) <float[2,5,1,1] k = {{{FIVE}, {FIVE}}}> {{ y = Conv(x, k) }}",
    "group": f"g (float[n,c,l] x) => (float[n,d,l] y) <float[5,1,1] k = {{{FIVE}}}> {{ y = Conv <group = 5> (x, k) }}",
    "ConvTranspose": f"g (float[n,c,l] x) => (float[n,d,l] y) <float[5,1,1] k = {{{FIVE}}}>"
    " { y = ConvTranspose(x, k) }",
    "BatchNormalization": f"g (float[n,c,l] x) => (float[n,c,l] y) <float[5] k = {{{FIVE}}}>"
    " { y = BatchNormalization(x, k, k, k, k) }",
    "shared symbol": f"g (float[n,c,l] x, float[n,c,l] z) => (float[n,c,l] y) <float[5] k = {{{FIVE}}}>"
    " { t = BatchNormalization(x, k, k, k, k)  y = Add(t, z) }",
}


@pytest.mark.parametrize("name", MODELS)
def test_open_channels_are_those_of_the_weights(name, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(parser.parse_model(HEAD + MODELS[name]).SerializeToString())
    verdict = verify(path, path)
    assert verdict.status == "verified", verdict.reason
    assert "x float32 2x5x" in verdict.inputs


def test_only_open_axes_change():
    float32 = np.dtype(np.float32)
    specs = [Spec("x", float32, ("n", "c", 4)), Spec("z", float32, ("c", None)), Spec("f", float32, ("n", 3))]
    shapes = [spec.shape for spec in with_lengths(specs, {("x", 1): 5, ("z", 1): 7, ("f", 1): 9, ("other", 1): 1})]
    assert shapes == [("n", 5, 4), (5, 7), ("n", 3)]


def test_open_lengths_are_those_that_the_result_declares(tmp_path):
    texts = {"before": "g (float[n,c,l] x) => (float[n,c,l] y) { y = Relu(x) }"}
    texts["after"] = texts["before"].replace("float[n,c,l]", "float[4,3,7]")
    paths = [tmp_path / f"{name}.onnx" for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_bytes(parser.parse_model(HEAD + text).SerializeToString())
    verdict = verify(*paths)
    assert verdict.status == "verified", verdict.reason
    assert "x float32 4x3x7" in verdict.inputs
