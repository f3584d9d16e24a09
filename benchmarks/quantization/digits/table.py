"""The table of results for people: quantization-digits.md."""

from __future__ import annotations

from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from benchmarks.pytorch.versions import measured
from benchmarks.quantization.digits.rows import FLOAT, UNFOLDED
from benchmarks.quantization.digits.training import (
    BATCH,
    CALIBRATION,
    EPOCHS,
    RMSPROP,
    SGD,
    SIZE,
    TESTS,
    TRAINING,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from functools import partial
    from pathlib import Path

    from benchmarks.quantization.digits.rows import Quality, Row

NAME = "quantization-digits.md"
ALL = "mean of all"


def _given(optimizer: partial[Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in optimizer.keywords.items())


HEAD = f"""\
# 8 bits, and labels

Written by `python -m benchmarks.quantization.digits`. {{measured}} Small networks, after the papers, are trained on the
handwritten digits that scikit-learn ships, in {SIZE} x {SIZE} pixels: the first {TRAINING:,} images to train with, the
other {TESTS} to test with, {EPOCHS} epochs, {BATCH} images a step, each moved by a pixel at most. MobileNets and
MnasNet are trained by RMSprop, as in their papers ({_given(RMSPROP)}), those with SGD in their name by
gradient descent ({_given(SGD)}). The rate falls to 0. Nothing is done to the weights afterwards.
The rate of RMSprop is the best of two on the images to test with, so the accuracies in float32 are a little high.

The networks are quantized as they are, folded, and folded and equalized: by ONNX Runtime (`quantize_static`, QDQ,
without its preprocessing) and by PyTorch (`prepare_fx` and `convert_fx`, which fold normalizations right behind
convolutions themselves; x86 per channel, QNNPACK per tensor), with default settings and the ranges of {CALIBRATION}
images of those to train with.

Accuracy is the share of the images to test with that are classified right. Its change is in points, against float32;
one image is {100 / TESTS:.2f} points. SQNR is the signal to quantization noise ratio of the outputs, before a softmax.
"Wrong" has no figures, and is left out of the mean: PyTorch's QNNPACK clamps images that have the channels last into
another order, which has nothing to do with 8 bits.

## In float32

Skew is how many times the range of the median channel the largest channel of a weight has: in the weight where it is
largest, and in brackets the median over the weights.

"""


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write quantization-digits.md into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_text(markdown(rows))


def markdown(rows: Sequence[Row]) -> str:
    """The content of quantization-digits.md."""
    skewed = "\n".join(_skewed(rows))
    return HEAD.format(measured=measured()) + skewed + "\n\n## In 8 bits\n\n" + "\n".join(_quantized(rows)) + "\n"


def _skewed(rows: Sequence[Row]) -> Iterator[str]:
    yield "| network | before quantization | accuracy | skew | kB of ONNX | kB of PyTorch |"
    yield "| --- | --- | ---: | ---: | ---: | ---: |"
    for row in rows:
        if row.weights == FLOAT and row.pytorch:
            skew = f"{max(row.skews):.1f} ({median(row.skews):.1f})"
            sizes = f"{row.onnxruntime.nbytes / 1e3:.0f} | {row.pytorch.nbytes / 1e3:.0f}"
            yield f"| {row.network} | {row.state} | {row.onnxruntime.accuracy:.1%} | {skew} | {sizes} |"


def _quantized(rows: Sequence[Row]) -> Iterator[str]:
    heads = " | ".join(f"{runtime} | change | SQNR | kB" for runtime in ("ONNX Runtime", "PyTorch"))
    yield f"| network | before quantization | weights | {heads} |"
    yield f"| --- | --- | --- |{' ---: |' * 8}"
    exact = {row.network: row for row in rows if row.state == UNFOLDED and row.weights == FLOAT}
    rounded = [row for row in rows if row.weights != FLOAT]
    if len(exact) > 1:
        for state, weights in dict.fromkeys((row.state, row.weights) for row in rounded):
            some = [row for row in rounded if (row.state, row.weights) == (state, weights)]
            yield _line(ALL, some, [exact[row.network] for row in some])
    for row in rounded:
        yield _line(row.network, [row], [exact[row.network]])


def _line(network: str, rows: Sequence[Row], exact: Sequence[Row]) -> str:
    """One line of means; the figures of a row are means of it alone."""
    ours = _figures([row.onnxruntime for row in rows], [row.onnxruntime for row in exact])
    theirs = _figures([row.pytorch for row in rows], [row.pytorch for row in exact])
    return f"| {network} | {rows[0].state} | {rows[0].weights} | {ours} | {theirs} |"


def _figures(found: Sequence[Quality | None], exact: Sequence[Quality | None]) -> str:
    pairs = [(one, other) for one, other in zip(found, exact, strict=True) if one and other]
    if not pairs:
        return "wrong | | |"
    accuracy, decibels, size = (
        fmean(of) for of in zip(*((one.accuracy, one.sqnr, one.nbytes) for one, _ in pairs), strict=True)
    )
    points = round(100 * (accuracy - fmean(other.accuracy for _, other in pairs)), 1) + 0.0  # no negative zero
    return f"{accuracy:.1%} | {points:+.1f} | {decibels:.1f} dB | {size / 1e3:.0f}"
