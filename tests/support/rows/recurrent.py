"""Rows of LSTM, GRU and RNN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.models import SITE, Model
from tests.support.rows.row import Kept, barrier, into, out, start

if TYPE_CHECKING:
    from tests.support.rows.row import Row

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(m: Model, op: str, x: str, bias: bool = True, directions: int = 1, **attributes: Any) -> str:
    hidden, gates, features = 3, GATES[op], m.at(x).shape[2]
    w, r = m.constant((directions, gates * hidden, features)), m.constant((directions, gates * hidden, hidden))
    given = [m.constant((directions, 2 * gates * hidden))] if bias else []
    return m.op(op, x, w, r, *given, hidden_size=hidden, **attributes)


def normalized(m: Model, op: str = "Add", axis: int = 2) -> str:
    """A scale and a shift before it, as BatchNormalization between two Transposes."""
    x = m.per_channel("Mul", start(m, 4, 2, 5), name="other", axis=axis)
    return m.per_channel(op, x, axis=axis)


ROWS: list[Row] = [
    ("before lstm", lambda m: out(m, recurrent(m, "LSTM", normalized(m))), into("LSTM", direction="forward", left=3)),
    ("before lstm without bias", lambda m: out(m, recurrent(m, "LSTM", normalized(m), bias=False)), into("LSTM", left=3)),
    ("before lstm of two directions", lambda m: out(m, recurrent(m, "LSTM", normalized(m), directions=2, direction="bidirectional")), into("LSTM")),
    ("before reversed lstm", lambda m: out(m, recurrent(m, "LSTM", normalized(m), direction="reverse")), into("LSTM")),
    ("before gru", lambda m: out(m, recurrent(m, "GRU", normalized(m))), into("GRU")),
    ("before gru, linear before reset", lambda m: out(m, recurrent(m, "GRU", normalized(m), linear_before_reset=1)), into("GRU")),
    ("before rnn", lambda m: out(m, recurrent(m, "RNN", normalized(m), bias=False)), into("RNN")),
    ("scale before rnn without bias", lambda m: out(m, recurrent(m, "RNN", m.per_channel("Mul", start(m, 4, 2, 5), axis=2), bias=False)), into("RNN")),
    ("transposed to the features of an lstm", lambda m: out(m, recurrent(m, "LSTM", m.op("Transpose", m.bn(start(m, 2, 5, 4)), perm=[2, 0, 1]))), into("LSTM")),
    ("along the sequence of an lstm", lambda m: out(m, recurrent(m, "LSTM", m.per_channel("Mul", start(m, 4, 2, 5), axis=0))), Kept("barrier", "axis")),
    ("behind an lstm", lambda m: out(m, m.op("Mul", recurrent(m, "LSTM", start(m, 4, 2, 5)), m.constant((3,)), name=SITE)), Kept("barrier", "barrier")),
    ("before lstm, computed weight", lambda m: out(m, m.op("RNN", m.per_channel("Add", start(m, 4, 2, 5), axis=2), barrier(m, m.x(1, 3, 5)), m.constant((1, 3, 3)), hidden_size=3)), Kept("barrier", "weight-not-constant")),
    ("as the weight of an lstm", lambda m: out(m, m.op("RNN", start(m, 4, 2, 5), m.per_channel("Mul", barrier(m, m.x(1, 3, 5))), m.constant((1, 3, 3)), hidden_size=3)), Kept("barrier", "not-data-input")),
]  # fmt: skip
