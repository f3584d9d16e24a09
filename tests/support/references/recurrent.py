"""References of LSTM, GRU and RNN with their default activations, one step at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(x / 2))  # the same as 1 / (1 + exp(-x)), and does not overflow


def _lstm(x: Array, h: Array, c: Array, w: Array, r: Array, b: Array, _: dict[str, Any]) -> tuple[Array, Array]:
    i, o, f, g = np.split(x @ w.T + h @ r.T + sum(np.split(b, 2)), 4, axis=-1)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _gru(x: Array, h: Array, c: Array, w: Array, r: Array, b: Array, a: dict[str, Any]) -> tuple[Array, Array]:
    wz, wr, wh = np.split(x @ w.T + b[: len(b) // 2], 3, axis=-1)
    (rz, rr, rh), (bz, br, bh) = np.split(r, 3), np.split(b[len(b) // 2 :], 3)
    z, reset = _sigmoid(wz + h @ rz.T + bz), _sigmoid(wr + h @ rr.T + br)
    inner = reset * (h @ rh.T + bh) if a.get("linear_before_reset") else (reset * h) @ rh.T + bh
    return (1 - z) * np.tanh(wh + inner) + z * h, c


def _rnn(x: Array, h: Array, c: Array, w: Array, r: Array, b: Array, _: dict[str, Any]) -> tuple[Array, Array]:
    return np.tanh(x @ w.T + h @ r.T + sum(np.split(b, 2))), c


def _recurrent(step: Any) -> Any:
    def run(_: int, a: dict[str, Any], x: Array, w: Array, r: Array, b: Array | None = None) -> Array:
        x = x.swapaxes(0, 1) if a.get("layout") else x
        b = np.zeros((len(w), 2 * w.shape[1])) if b is None else b
        directions = []
        for d in range(len(w)):
            backward = a["direction"] == b"reverse" or d == 1
            h = c = np.zeros((x.shape[1], r.shape[2]))
            states = []
            for value in x[::-1] if backward else x:
                h, c = step(value, h, c, w[d], r[d], b[d], a)
                states.append(h)
            directions.append(np.stack(states[::-1] if backward else states))
        y = np.stack(directions, axis=1)
        return y.transpose(2, 0, 1, 3) if a.get("layout") else y

    return run


OPERATORS: dict[str, Any] = {"LSTM": _recurrent(_lstm), "GRU": _recurrent(_gru), "RNN": _recurrent(_rnn)}
