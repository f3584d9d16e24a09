"""One conversion: ``converters.py TOOL IN OUT SAMPLES``. Each tool imports only what it needs; inputs stay float32.

A script, because the converters may be installed for another interpreter: ModelOpt names CUDA packages as its own.
"""

# ruff: noqa: PLC0415  imports belong to the tool that is measured

from __future__ import annotations

import shutil
import sys
from functools import partial

NOT_THERE = "not there yet: folding.Options has no precision"


def untouched(source: str, target: str, _: str) -> None:
    """The file as it is: what float32 itself is off by."""
    shutil.copyfile(source, target)


def onnxconverter_common(source: str, target: str, _: str) -> None:
    """float16.convert_float_to_float16 with its defaults."""
    import onnx
    from onnxconverter_common import float16

    onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def onnxruntime(source: str, target: str, _: str) -> None:
    """onnxruntime.transformers.float16 with its defaults, by the class that also sorts the result."""
    import onnx
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = OnnxModel(onnx.load(source))
    model.convert_float_to_float16(keep_io_types=True)
    model.save_model_to_file(target)


def autocast(source: str, target: str, samples: str, *, with_samples: bool) -> None:
    """ModelOpt AutoCast with its defaults: on random numbers, or on the samples."""
    import onnx
    from modelopt.onnx.autocast import convert_to_mixed_precision

    data = samples if with_samples else None
    onnx.save(convert_to_mixed_precision(source, keep_io_types=True, calibration_data=data), target)


def bnfold(source: str, target: str, samples: str, *, precision: str) -> None:
    """The fold with this precision, decided on the samples."""
    import folding

    try:
        options = folding.Options(precision=precision, inputs=samples, verify=False)
    except TypeError:
        sys.exit(NOT_THERE)
    folding.fold(source, target, options)


TOOLS = {
    "none (float32)": untouched,
    "onnxconverter-common": onnxconverter_common,
    "onnxruntime": onnxruntime,
    "AutoCast": partial(autocast, with_samples=False),
    "AutoCast, samples": partial(autocast, with_samples=True),
    "bnfold fp16": partial(bnfold, precision="fp16"),
    "bnfold mixed": partial(bnfold, precision="mixed"),
}

if __name__ == "__main__":
    TOOLS[sys.argv[1]](*sys.argv[2:])
