"""Convolutions, BatchNormalization and MaxPool in NumPy, for onnx's reference evaluator.

Its own ones are slow, do not compute a ConvTranspose with groups nor a padded MaxPool of one or three axes, and compute
every BatchNormalization before opset 14 as in training (onnx 1.23). Imported only where a model is interpreted.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_max_pool import MaxPool as ReferenceMaxPool

Array = NDArray[Any]
Ints = list[int]


class Conv(OpRun):
    """``y[n, m, i] = b[m] + sum over c and taps t of w[m, c, t] * x[n, c, i*stride + t*dilation - pad]``, per group."""

    op_domain = ""

    def _run(  # type: ignore[no-untyped-def]
        self, x, w, b=None, auto_pad=None, dilations=None, group=None, pads=None, strides=None, **_: Any
    ) -> tuple[Array]:
        rank, groups = x.ndim - 2, group or 1
        steps, holes, kernel = strides or [1] * rank, dilations or [1] * rank, w.shape[2:]
        wide = [(k - 1) * d + 1 for k, d in zip(kernel, holes, strict=True)]
        before, after = _padding(auto_pad, _missing(x.shape[2:], steps, wide), pads)
        padded = np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)])
        size = [(n - k) // s + 1 for n, k, s in zip(padded.shape[2:], wide, steps, strict=True)]
        data = padded.reshape(x.shape[0], groups, -1, *padded.shape[2:])
        weight = w.reshape(groups, -1, *w.shape[1:])
        y = np.zeros((x.shape[0], groups, weight.shape[1], math.prod(size)), x.dtype)
        for tap in itertools.product(*map(range, kernel)):
            cut = data[_places(tap, holes, steps, size)]
            y += weight[(..., *tap)] @ cut.reshape(*data.shape[:3], -1)
        y = y.reshape(x.shape[0], w.shape[0], *size)
        return (y if b is None else y + b.reshape(-1, *[1] * rank),)


class ConvTranspose(OpRun):
    """The transpose of `Conv` with weights (C, M/group, taps): what it reads for an output, this adds to it."""

    op_domain = ""

    def _run(  # type: ignore[no-untyped-def]
        self,
        x,
        w,
        b=None,
        auto_pad=None,
        dilations=None,
        group=None,
        output_padding=None,
        output_shape=None,
        pads=None,
        strides=None,
        **_: Any,
    ) -> tuple[Array]:
        rank, groups, lengths = x.ndim - 2, group or 1, x.shape[2:]
        steps, holes, kernel = strides or [1] * rank, dilations or [1] * rank, w.shape[2:]
        more = output_padding or [0] * rank
        full = [
            (n - 1) * s + (k - 1) * d + 1 + p for n, s, k, d, p in zip(lengths, steps, kernel, holes, more, strict=True)
        ]
        same = [n * s for n, s in zip(lengths, steps, strict=True)]
        chosen = output_shape or (same if _is_same(auto_pad) else None)
        if chosen is None:
            before, after = _padding(auto_pad, [0] * rank, pads)
        else:
            surplus = [max(f - n, 0) for f, n in zip(full, chosen, strict=True)]
            before, after = _padding("SAME_UPPER" if auto_pad == "SAME_UPPER" else "SAME_LOWER", surplus, None)
        data = x.reshape(x.shape[0], groups, -1, math.prod(lengths))
        weight = w.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2)
        y = np.zeros((x.shape[0], groups, weight.shape[1], *full), x.dtype)
        for tap in itertools.product(*map(range, kernel)):
            part = weight[(..., *tap)] @ data
            y[_places(tap, holes, steps, lengths)] += part.reshape(*part.shape[:3], *lengths)
        y = y.reshape(x.shape[0], -1, *full)
        inner: tuple[Any, ...] = tuple(slice(f, n - t) for f, t, n in zip(before, after, full, strict=True))
        y = y[(slice(None), slice(None), *inner)]
        return (y if b is None else y + b.reshape(-1, *[1] * rank),)


class BatchNormalization(OpRun):
    """``y = (x - mean) / sqrt(var + epsilon) * scale + bias``, in training mode with the statistics of the batch."""

    op_domain = ""

    def _run(  # type: ignore[no-untyped-def]
        self, x, scale, bias, mean, var, epsilon=None, momentum=None, training_mode=None, **_: Any
    ) -> tuple[Array, ...]:
        shape = (-1, *[1] * (x.ndim - 2))
        kept = mean, var
        if training_mode:
            axes = tuple(axis for axis in range(x.ndim) if axis != 1)
            mean, var = x.mean(axis=axes), x.var(axis=axes)
        y = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + epsilon) * scale.reshape(shape)
        y = (y + bias.reshape(shape)).astype(x.dtype)
        if not training_mode:
            return (y,)
        return y, *(old * momentum + new * (1 - momentum) for old, new in zip(kept, (mean, var), strict=True))


class MaxPool(ReferenceMaxPool):  # type: ignore[misc, unused-ignore]
    """The largest value of every window; the padding counts as the least value there is."""

    op_domain = ""

    def _run(  # type: ignore[no-untyped-def, override, unused-ignore]
        self,
        x,
        auto_pad=None,
        ceil_mode=None,
        dilations=None,
        kernel_shape=None,
        pads=None,
        storage_order=None,
        strides=None,
    ) -> tuple[Array, ...]:
        if len(self.output) > 1 or ceil_mode:  # the places of the largest values, or windows that begin in the padding
            given = auto_pad, ceil_mode, dilations, kernel_shape, pads, storage_order, strides
            return tuple(super()._run(x, *given))  # type: ignore[no-untyped-call, unused-ignore]
        rank = x.ndim - 2
        steps, holes = strides or [1] * rank, dilations or [1] * rank
        wide = [(k - 1) * d + 1 for k, d in zip(kernel_shape, holes, strict=True)]
        before, after = _padding(auto_pad, _missing(x.shape[2:], steps, wide), pads)
        least = -np.inf if np.issubdtype(x.dtype, np.inexact) else np.iinfo(x.dtype).min
        padded = np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)], constant_values=least)
        size = [(n - k) // s + 1 for n, k, s in zip(padded.shape[2:], wide, steps, strict=True)]
        taps = itertools.product(*map(range, kernel_shape))
        return (functools.reduce(np.maximum, (padded[_places(tap, holes, steps, size)] for tap in taps)),)


KERNELS = [Conv, ConvTranspose, BatchNormalization, MaxPool]


def _is_same(auto_pad: str | None) -> bool:
    return (auto_pad or "").startswith("SAME")


def _missing(lengths: Any, steps: Ints, wide: Ints) -> Ints:
    """How much padding lets every place that SAME gives have its window."""
    return [max((math.ceil(n / s) - 1) * s + k - n, 0) for n, s, k in zip(lengths, steps, wide, strict=True)]


def _padding(auto_pad: str | None, missing: Ints, pads: Ints | None) -> tuple[Ints, Ints]:
    """The padding before and after every axis; SAME_LOWER puts the larger half of what is missing first."""
    if _is_same(auto_pad):
        less, more = [n // 2 for n in missing], [n - n // 2 for n in missing]
        return (less, more) if auto_pad == "SAME_UPPER" else (more, less)
    given = (auto_pad != "VALID" and pads) or [0] * (2 * len(missing))
    return list(given[: len(missing)]), list(given[len(missing) :])


def _places(tap: tuple[int, ...], holes: Ints, steps: Ints, size: Any) -> tuple[Any, ...]:
    """What one tap of the kernel reads (of a convolution), or adds to (of its transpose)."""
    each = zip(tap, holes, steps, size, strict=True)
    return (..., *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, s, n in each))
