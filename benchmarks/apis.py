"""Tools without a command of their own, as one command: ``apis.py TOOL IN OUT``. Each imports only what it needs."""

# ruff: noqa: PLC0415  imports belong to the tool that is measured

from __future__ import annotations

import sys
from pathlib import Path


def load_save(source: str, target: str) -> None:
    """onnx.load and onnx.save: the least cost of any tool that edits a ModelProto."""
    import onnx

    model = onnx.load(source)
    onnx.save(model, target, save_as_external_data=_is_external(source), location=Path(target).name + ".data")


def onnxscript(source: str, target: str) -> None:
    """onnxscript.optimizer.optimize: its default rules fuse BatchNormalization into Conv, ConvTranspose and Gemm."""
    from onnxscript import ir, optimizer

    model = ir.load(source)
    optimizer.optimize(model)
    ir.save(model, target, external_data=Path(target).name + ".data" if _is_external(source) else None)


def onnxruntime(source: str, target: str) -> None:
    """ONNX Runtime's offline optimizer at ORT_ENABLE_BASIC, the level that fuses BN and keeps to standard ONNX."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = target
    if _is_external(source):
        data = Path(target).name + ".data"
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", data)
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _is_external(source: str) -> bool:
    return Path(f"{source}.data").exists()


if __name__ == "__main__":
    {"load_save": load_save, "onnxscript": onnxscript, "onnxruntime": onnxruntime}[sys.argv[1]](*sys.argv[2:])
