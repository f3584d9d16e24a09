"""Functions of elements, and of rows, in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _softmax(_: int, a: dict[str, Any], x: Any) -> Any:
    powers = np.exp(x - x.max(axis=a["axis"], keepdims=True))
    return powers / powers.sum(axis=a["axis"], keepdims=True)


def _gelu(_: int, a: dict[str, Any], x: Any) -> Any:
    if a.get("approximate") in ("tanh", b"tanh"):
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def _sigmoid(x: Any) -> Any:
    return 0.5 * (1 + np.tanh(x / 2))


def _attention(_: int, a: dict[str, Any], q: Any, k: Any, v: Any, mask: Any = 0) -> Any:
    """Heads apart (rank 4), without a past."""
    scale = a.get("scale") or 1 / math.sqrt(q.shape[-1])
    bias = np.where(mask, 0, -np.inf) if np.asarray(mask).dtype == bool else mask
    return _softmax(0, {"axis": -1}, scale * (q @ np.swapaxes(k, -1, -2)) + bias) @ v


OPERATORS: dict[str, Any] = {
    "Attention": _attention,
    "Gelu": _gelu,
    "HardSwish": lambda _, a, x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Mish": lambda _, a, x: x * np.tanh(np.logaddexp(0, x)),
    "Swish": lambda _, a, x: x * _sigmoid(a.get("alpha", 1.0) * x),
    "Erf": lambda _, a, x: _erf(x),
    "Tanh": lambda _, a, x: np.tanh(x),
    "Log": lambda _, a, x: np.log(x),
    "Softplus": lambda _, a, x: np.logaddexp(0, x),
    "Reciprocal": lambda _, a, x: 1 / x,
    "HardSigmoid": lambda _, a, x: np.clip(a["alpha"] * x + a["beta"], 0, 1),
    "Softmax": _softmax,
}
