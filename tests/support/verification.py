"""Pairs of models to verify: chains of Conv and BatchNormalization, folded by hand, rightly or wrongly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]
CHANNELS = 8
FLOAT_TYPES = {"float32": onnx.TensorProto.FLOAT, "float16": onnx.TensorProto.FLOAT16}


def parsed(text: str, opset: int = 17, ir: int = 8) -> onnx.ModelProto:
    """A model written as ONNX text, without its header."""
    return parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}]>\nagraph {text}')


def saved(folder: Path, before: onnx.ModelProto | str, after: onnx.ModelProto | str | None = None) -> tuple[Path, Path]:
    """Both models in files; `after` is `before` where nothing else is said."""
    paths = folder / "before.onnx", folder / "after.onnx"
    for path, model in zip(paths, (before, before if after is None else after), strict=True):
        onnx.save(parsed(model) if isinstance(model, str) else model, path)
    return paths


@dataclass
class Chain:
    """Layers of Conv -> BatchNormalization -> Relu over (N, 3, 8, 8), then whatever `tail` says of its output `x`."""

    layers: int = 1
    dtype: str = "float32"
    tail: str = "y = Identity(x)"
    result: str = "float32"
    small: int | None = None  # the channel of the last layer whose scale is a ten thousandth of the others'
    seed: int = 0
    folded: list[tuple[Array, Array]] = field(default_factory=list, init=False)
    batch_normalizations: list[tuple[Array, ...]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        inputs = 3
        for layer in range(self.layers):
            weight = rng.standard_normal((CHANNELS, inputs, 3, 3)) * np.sqrt(2 / (9 * inputs))
            scale, shift, mean = (
                rng.uniform(0.5, 1.5, CHANNELS),
                rng.standard_normal(CHANNELS) * 0.3,
                rng.random(CHANNELS),
            )
            if self.small is not None and layer == self.layers - 1:
                scale[self.small], shift[self.small] = 1e-4, 1e-4
            weight, scale, shift, mean = (a.astype(self.dtype) for a in (weight, scale, shift, mean))
            variance = rng.uniform(0.5, 2, CHANNELS).astype(self.dtype)
            self.batch_normalizations.append((weight, scale, shift, mean, variance))
            factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + 1e-5)
            self.folded.append((weight * factor.reshape(-1, 1, 1, 1), shift - factor * mean))
            inputs = CHANNELS

    def before(self) -> onnx.ModelProto:
        """With every BatchNormalization."""
        layer = "c{0} = Conv<pads=[1,1,1,1]>(x{0}, w{0})\nn{0} = BatchNormalization(c{0}, s{0}, b{0}, m{0}, v{0})"
        return self._model(layer, "wsbmv", self.batch_normalizations)

    def after(self) -> onnx.ModelProto:
        """Folded with the weights and biases in `folded`, which a test may have damaged."""
        return self._model("n{0} = Conv<pads=[1,1,1,1]>(x{0}, w{0}, b{0})", "wb", self.folded)

    def _model(self, layer: str, letters: str, constants: Sequence[tuple[Array, ...]]) -> onnx.ModelProto:
        last = self.layers - 1
        body = [f"{layer.format(i)}\nx{i + 1} = Relu(n{i})" for i in range(last)]
        text = "\n".join([*body, layer.format(last), f"x = Identity(n{last})", self.tail])
        model = parsed(f"(float[N,3,8,8] x0) => (float[A] y) {{\n{text}\n}}")
        model.graph.input[0].type.tensor_type.elem_type = FLOAT_TYPES[self.dtype]
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.result))
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", kind, None))
        for i, arrays in enumerate(constants):
            for letter, array in zip(letters, arrays, strict=True):
                model.graph.initializer.append(numpy_helper.from_array(array.astype(self.dtype), f"{letter}{i}"))
        return model
