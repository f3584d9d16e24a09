"""Quantize a model to 8 bits with ONNX Runtime, and judge it by the outputs of the original in float32."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Feeds = Mapping[str, np.ndarray[Any, np.dtype[Any]]]
    Array = np.ndarray[Any, np.dtype[Any]]

DECIBEL = 10.0


@dataclass(frozen=True)
class Row:
    """One quantized model. `sqnr` is in decibels, `agreement` the share of samples with the same largest output."""

    network: str
    state: str  # what was done to it before
    weights: str  # "per tensor" or "per channel"
    sqnr: float | None = None
    agreement: float | None = None
    nbytes: int = 0
    failure: str = ""


class Samples(CalibrationDataReader):  # type: ignore[misc]
    """Samples for the calibration, one at a time."""

    def __init__(self, feeds: Feeds) -> None:
        self._rest = batches(feeds)

    def get_next(self) -> Feeds | None:
        """The next sample."""
        return next(self._rest, None)


def batches(feeds: Feeds) -> Iterator[Feeds]:
    """The samples, each as a batch of its own."""
    for number in range(len(next(iter(feeds.values())))):
        yield {name: values[number : number + 1] for name, values in feeds.items()}


def quantized(model: Path, target: Path, calibration: Feeds, *, per_channel: bool) -> None:
    """Write the model with QuantizeLinear and DequantizeLinear, by the ranges of the samples."""
    logging.disable(logging.WARNING)  # it asks for its preprocessing, which folds, too
    quantize_static(
        model, target, Samples(calibration), quant_format=QuantFormat.QDQ, per_channel=per_channel,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip


def outputs(model: Path, feeds: Feeds) -> list[Array]:
    """The outputs for every sample, in ONNX Runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    each = [session.run(None, dict(one)) for one in batches(feeds)]
    return [np.concatenate(parts) for parts in zip(*each, strict=True)]


def sqnr(exact: list[Array], found: list[Array]) -> float:
    """The signal to quantization noise ratio in decibels, of the worst output."""
    pairs = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(exact, found, strict=True)]
    return float(min(DECIBEL * np.log10((a**2).sum() / max(((a - b) ** 2).sum(), 1e-300)) for a, b in pairs))


def agreement(exact: list[Array], found: list[Array]) -> float:
    """The share of samples of which the first output is largest at the same place."""
    one, other = (values[0].reshape(len(values[0]), -1).argmax(1) for values in (exact, found))
    return float((one == other).mean())
