"""Cross-layer equalization by AIMET, in a process of its own: ``PYTHON aimet.py MODEL TARGET``.

It folds normalizations, equalizes with scales of any size, and absorbs high biases: `equalize_model`.
"""

from __future__ import annotations

import sys

import onnx
from aimet_onnx.cross_layer_equalization import equalize_model


def main(model: str, target: str) -> None:
    """Equalize one model."""
    loaded = onnx.load(model)
    equalize_model(loaded)
    onnx.save(loaded, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
