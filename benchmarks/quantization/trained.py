"""Trained models, beside the networks with random weights: in the form that ONNX Runtime quantizes whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from folding import Options, fold
from tests.fetch_models import FOLDER

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.quantization.measure import Array

# The file, in the folder of `make models` or in the one of --trained, and the height and width of its images.
TRAINED = {
    "PP-OCR classifier": ("ch_ppocr_mobile_v2.0_cls_infer.onnx", (48, 192)),
    "UltraFace": ("ultraface_version-RFB-320.onnx", (240, 320)),
}
OPSET = 13  # from which on DequantizeLinear has a scale per channel
SEED, CALIBRATION, TESTS = 20190611, 16, 48
SCALES = (2, 4, 8, 16, 32)


def prepared(name: str, folder: Path, more: Path | None) -> bool:
    """Write the model, not folded, and its samples into `folder`; return False where there is no such file."""
    file, (height, width) = TRAINED[name]
    source = next((place / file for place in (FOLDER, more) if place is not None and (place / file).exists()), None)
    if source is None:
        return False
    fold(source, folder / "model.onnx", Options(opset=OPSET, keep=("*",), freeze_initializers=True, verify=False))
    model = onnx.load(folder / "model.onnx")
    for node in [node for node in model.graph.node if node.op_type == "Constant"]:
        model.graph.initializer.add().CopyFrom(node.attribute[0].t)  # ONNX Runtime quantizes no others
        model.graph.initializer[-1].name = node.output[0]
        model.graph.node.remove(node)
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in [value for value in model.graph.input if value.name in constants]:
        model.graph.input.remove(value)
    onnx.save(model, folder / "model.onnx")
    (entry,) = (value.name for value in model.graph.input)
    for samples, number, seed in (("calibration", CALIBRATION, SEED + 1), ("tests", TESTS, SEED + 2)):
        np.savez(folder / f"{samples}.npz", **{entry: images(number, height, width, seed)})
    return True


def images(number: int, height: int, width: int, seed: int) -> Array:
    """Images with the spectrum of natural ones: noise of several scales, in grey and in color."""
    made = np.random.default_rng(seed)
    total = np.zeros((number, 3, height, width), np.float32)
    for size in SCALES:
        noise = made.standard_normal((number, 1, size, size)) + made.standard_normal((number, 3, size, size)) / 2
        rows, columns = (np.arange(length) * size // length for length in (height, width))
        total += noise[:, :, rows][:, :, :, columns].astype(np.float32)
    return total / total.std(axis=(1, 2, 3), keepdims=True)
