"""Rows of the rules for operators that select, pad or repeat elements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.support.models import SITE, Model
from tests.support.rows.resampling import tiled
from tests.support.rows.row import Kept, gemm, into, out, since, start

if TYPE_CHECKING:
    from tests.support.rows.row import Row

LAST = -(2**62)  # beyond every axis
CHANNELS_BEHIND = [0, 0, 0, 0, 0, 2, 0, 0]
FRAME = [0, 0, 1, 0, 0, 0, 2, 1]


def index(m: Model, *values: int) -> str:
    return m.constant(np.array(values, np.int64))


def scalar(m: Model, op: str, x: str, value: float = 0.3) -> str:
    """One map for all elements."""
    return m.op(op, x, m.constant(np.array(value)), name=SITE)


def cut(m: Model, x: str, *given: list[int]) -> str:
    """Slice with starts, ends, axes, steps."""
    return m.op("Slice", x, *(index(m, *values) for values in given))


def split(m: Model, x: str, *lengths: int, axis: int = 1) -> list[str]:
    first = m.op("Split", x, index(m, *lengths), outputs=len(lengths), axis=axis)
    return [first, *(f"{first}_{n}" for n in range(1, len(lengths)))]


def halves(m: Model, x: str, parts: int = 2, axis: int = 1) -> list[str]:
    """A split into equal parts, the last one smaller where the operator set allows that."""
    number = {"num_outputs": parts} if m.opset >= 18 else {}
    first = m.op("Split", x, outputs=parts, axis=axis, **number)
    return [first, *(f"{first}_{n}" for n in range(1, parts))]


def join(m: Model, *parts: str) -> None:
    m.op("Concat", *parts, axis=1)


def pad(m: Model, x: str, pads: list[int], value: float | None = None, **attributes: Any) -> str:
    return m.op("Pad", x, index(m, *pads), *([] if value is None else [m.constant(np.array(value))]), **attributes)


def image(m: Model, axis: str = "C") -> str:
    """A value of which one length is the caller's secret."""
    names = {"C": [2, "C", 5, 6], "W": [2, 4, 5, "W"]}
    return m.op("Asinh", m.x(2, 4, 5, 6, declare=names[axis]))


def pad_with(m: Model, value: str) -> str:
    return m.op("Pad", m.x(2, 4, 5, 6), index(m, *FRAME), value)


def second_part(m: Model) -> None:
    a, b = split(m, m.conv(start(m), 6), 2, 4)
    join(m, out(m, a), out(m, m.bn(b)))


def two_convs(m: Model, parts: Any) -> None:
    a, b = parts(m, m.bn(start(m)))
    join(m, out(m, m.conv(a, 6)), out(m, m.conv(b, 3)))


def one_part_read(m: Model) -> None:
    """What nobody reads does not keep a map."""
    a, _ = split(m, m.bn(start(m)), 1, 3)
    out(m, m.conv(a, 6))


def uneven(m: Model, parts: int) -> None:
    """BN on the last of the parts."""
    x = m.conv(start(m), 6)
    made = halves(m, x, parts)
    join(m, *(out(m, p) for p in made[:-1]), out(m, m.bn(made[-1])))


def inception(m: Model) -> None:
    """A mix: branches joined, cut, padded, one map over all."""
    x = start(m)
    y = m.op("Concat", m.conv(x, 4), m.conv(x, 3), axis=1)
    y = pad(m, cut(m, y, [1], [6], [1]), [0, 1, 0, 0, 0, 0, 0, 0])
    out(m, m.per_channel("Mul", y))


def table(m: Model) -> None:
    """An embedding: the table takes the map."""
    tokens = m.x(2, 3, dtype=np.int64)
    m.feeds[tokens] = m.values[tokens] = np.array([[0, 3, 1], [4, 4, 2]])
    out(
        m,
        m.per_channel(
            "Add", m.per_channel("Mul", m.op("Gather", m.constant((5, 4)), tokens), name="mul", axis=2), axis=2
        ),
    )


def some_rows(m: Model, *indices: int, axis: int = 1, **attributes: Any) -> None:
    out(m, m.bn(m.op("Gather", m.conv(start(m), 6), index(m, *indices), axis=axis, **attributes)))


def repeated_rows(m: Model, same: bool) -> None:
    """Index 2 is read twice, with one map or with two."""
    y = m.op("Gather", m.conv(start(m), 6), index(m, 2, 0, 2), axis=1)
    values = m.random.uniform(0.5, 2, 3)
    values[2] = values[0] if same else values[2]
    out(m, m.op("Mul", y, m.constant(values.reshape(1, 3, 1, 1)), name=SITE))


def grid(m: Model) -> None:
    """Indices of two axes."""
    y = m.op("Gather", m.conv(start(m), 6), m.constant(np.array([[5, 1, 0], [2, -2, 3]])), axis=1)
    out(m, m.op("Mul", y, m.constant((1, 2, 3, 1, 1)), name=SITE))


def forward_grid(m: Model) -> None:
    y = m.op("Gather", m.bn(start(m)), m.constant(np.array([[1, -1, 0], [2, 2, 3]])), axis=1)
    y = m.op("Reshape", y, index(m, 2, 6, 5, 6))
    out(m, m.conv(y, 6))


def chosen_at_run_time(m: Model, x: str, axis: int) -> str:
    tokens = m.x(2, dtype=np.int64)
    m.feeds[tokens] = m.values[tokens] = np.array([1, 0])
    return m.op("Gather", x, tokens, axis=axis)


def where(m: Model, other: tuple[int, ...], *shape: int) -> None:
    x = start(m)
    mask = m.constant(m.random.random(shape or (2, 1, 3, 4)) < 0.5)
    out(m, m.bn(m.op("Where", mask, m.conv(x, 6), m.constant(other))))


def first_channel(m: Model, x: str) -> str:
    values = np.ones((1, 4, 1, 1))
    values[0, 0] = 0.7
    return m.op("Mul", x, m.constant(values), name=SITE)


def dead(m: Model, x: str) -> str:
    return m.op("Mul", x, m.constant(np.array([0.5, 0, 2, 1]).reshape(1, 4, 1, 1)), name=SITE)


SLICE: list[Row] = [
    ("Slice of the channels", lambda m: out(m, m.bn(cut(m, m.conv(start(m), 6), [1], [4], [1]))), into("Conv", direction="backward")),
    ("Slice, reversed", lambda m: out(m, m.bn(cut(m, m.conv(start(m), 6), [-1], [LAST], [1], [-2]))), into("Conv")),
    ("Slice, clamped", lambda m: out(m, m.bn(cut(m, m.conv(start(m), 6), [-4, 1], [-LAST, -1], [1, 3]))), into("Conv")),
    ("Slice, reversed and clamped", lambda m: out(m, m.bn(cut(m, m.conv(start(m), 6), [99], [0], [1], [-1]))), into("Conv")),
    ("Slice of the image", lambda m: out(m, m.bn(cut(m, m.conv(start(m), 6), [0, 1], [2, 9], [-1, 2]))), into("Conv")),
    ("Slice, one map", lambda m: out(m, scalar(m, "Add", cut(m, m.conv(start(m), 6), [1], [4], [1]))), into("Conv")),
    ("Slice, no axes", lambda m: out(m, m.bn(cut(m, m.conv(start(m), 6), [0, 2], [2, 5]))), into("Conv")),
    ("before Slice of the channels", lambda m: out(m, m.conv(cut(m, m.bn(start(m)), [3], [0], [1], [-2]), 6)), into("Conv", direction="forward")),
    ("before Slice, clamped", lambda m: out(m, m.conv(cut(m, m.bn(start(m)), [-9], [-1], [1], [2]), 6)), into("Conv")),
    ("before Slice, reversed from before the start", lambda m: out(m, m.conv(cut(m, m.bn(start(m)), [-9], [LAST], [1], [-1]), 6)), into("Conv")),
    ("before Slice of the image", lambda m: out(m, m.conv(cut(m, m.bn(start(m)), [1], [-1], [2]), 6)), into("Conv")),
    ("Slice of the image at run time", lambda m: out(m, m.bn(m.op("Slice", m.conv(start(m), 6), index(m, 0), m.op("Shape", m.x(2, declare=["S"])), index(m, 2)))), into("Conv")),
    ("Slice of the channels at run time", lambda m: out(m, m.conv(m.op("Slice", m.bn(start(m)), index(m, 0), m.op("Shape", m.x(2, declare=["S"])), index(m, 1)), 6)), Kept("barrier", "unknown-shape")),
    ("Slice along axes unknown", lambda m: out(m, m.conv(m.op("Slice", m.bn(start(m)), index(m, 0), index(m, 2), m.op("Shape", m.x(2, declare=["S"]))), 6, kernel=1)), Kept("barrier", "unknown-shape")),
    ("Slice along axes unknown, one map", lambda m: out(m, m.conv(m.op("Slice", scalar(m, "Add", start(m)), index(m, 0), index(m, 2), m.op("Shape", m.x(2, declare=["S"]))), 6, kernel=1)), into("Conv")),
    ("Slice of channels unknown", lambda m: out(m, m.bn(cut(m, m.op("Sum", image(m), image(m)), [1], [-1], [1]))), Kept("unknown-shape", "barrier")),
]  # fmt: skip

SPLIT: list[Row] = [
    ("Split, BN on the second part", second_part, into("Conv", direction="backward")),
    ("Split, BN on the first part", lambda m: (lambda p: join(m, out(m, m.bn(p[0])), out(m, p[1])))(split(m, m.conv(start(m), 6), 2, 4)), into("Conv")),
    ("Split, two BN", lambda m: (lambda p: join(m, out(m, m.bn(p[0])), out(m, m.bn(p[1], name="other"))))(split(m, m.conv(start(m), 6), 2, 4, axis=-3)), into("Conv")),
    ("Split, one map for a part", lambda m: (lambda p: join(m, out(m, scalar(m, "Add", p[0])), out(m, p[1])))(split(m, m.conv(start(m), 6), 2, 4)), into("Conv")),
    ("Split of the image", lambda m: (lambda p: m.op("Concat", out(m, m.bn(p[0])), out(m, p[1]), axis=2))(split(m, m.conv(start(m), 6), 2, 1, axis=2)), Kept("axis", "barrier")),
    ("before Split, two convolutions", lambda m: two_convs(m, lambda m, x: split(m, x, 1, 3)), into("Conv", "Conv", direction="forward")),
    ("before Split into halves", lambda m: two_convs(m, halves), into("Conv", "Conv")),
    ("before Split of the image", lambda m: (lambda p: m.op("Concat", out(m, m.conv(p[0], 6)), out(m, m.conv(p[1], 6)), axis=3))(halves(m, m.bn(start(m)), axis=3)), into("Conv", "Conv")),
    ("before Split, one part read", one_part_read, into("Conv")),
    ("before Split, one part elsewhere", lambda m: (lambda p: join(m, out(m, m.conv(p[0], 6, kernel=1)), out(m, p[1])))(split(m, m.bn(start(m)), 1, 3)), Kept("barrier", "barrier")),
    ("before Split, only one part changes", lambda m: (lambda p: join(m, out(m, m.conv(p[0], 6, kernel=1)), out(m, p[1])))(split(m, first_channel(m, start(m)), 1, 3)), into("Conv")),
    ("equal Split", lambda m: uneven(m, 3), into("Conv")),
    ("Split of a length unknown", lambda m: (lambda p: join(m, out(m, m.bn(p[0])), out(m, p[1])))(halves(m, m.op("Sum", image(m), image(m)))), Kept("unknown-shape", "barrier")),
    ("Split into lengths unknown", lambda m: two_convs(m, lambda m, x: (lambda first: [first, f"{first}_1"])(m.op("Split", x, m.op("Shape", m.x(2, 2, declare=["S", "T"])), outputs=2, axis=1))), Kept("barrier", "unknown-shape")),
]  # fmt: skip


GATHER: list[Row] = [
    ("Gather of channels", lambda m: some_rows(m, 4, 0, -1), into("Conv", direction="backward")),
    ("Gather of the image", lambda m: some_rows(m, 2, 0, 0, axis=-1), into("Conv")),
    ("Gather, repeated with one map", lambda m: repeated_rows(m, True), into("Conv")),
    ("Gather, repeated with two maps", lambda m: repeated_rows(m, False), Kept("axis", "barrier")),
    ("Gather of a grid", grid, into("Conv")),
    ("Gather of one position", lambda m: out(m, m.bn(m.op("Gather", m.conv(start(m), 6), m.constant(np.array(2)), axis=3))), into("Conv")),
    ("Gather of one channel", lambda m: out(m, scalar(m, "Mul", m.op("Gather", m.conv(start(m), 6), m.constant(np.array(2)), axis=1))), into("Conv")),
    ("Gather from a table", table, into("Gather")),
    ("before Gather of channels", lambda m: out(m, m.conv(m.op("Gather", m.bn(start(m)), index(m, 3, 0, -2), axis=1), 6)), into("Conv", direction="forward")),
    ("before Gather of a grid", forward_grid, into("Conv")),
    ("before Gather of one position", lambda m: out(m, gemm(m, m.op("Gather", m.bn(start(m, 3, 4, 5)), m.constant(np.array(-1)), axis=2))), into("Gemm")),
    ("before Gather of a channel", lambda m: out(m, gemm(m, m.op("Gather", m.bn(start(m, 3, 4, 5)), m.constant(np.array(1)), axis=1))), into("Gemm")),
    ("before Gather of the image at run time", lambda m: out(m, m.conv(chosen_at_run_time(m, m.bn(start(m)), 2), 6, kernel=1)), into("Conv", direction="forward")),
    ("Gather of the image at run time", lambda m: out(m, m.bn(chosen_at_run_time(m, m.conv(start(m), 6), 2))), into("Conv")),
    ("Gather of channels at run time", lambda m: out(m, m.bn(chosen_at_run_time(m, m.conv(start(m), 6), 1))), Kept("unknown-shape", "barrier")),
    ("before Gather of channels at run time", lambda m: out(m, m.conv(chosen_at_run_time(m, m.bn(start(m)), 1), 6)), Kept("barrier", "unknown-shape")),
    ("Gather of channels unknown", lambda m: out(m, m.bn(m.op("Gather", m.op("Sum", image(m), image(m)), index(m, 1, 0), axis=1))), Kept("unknown-shape", "barrier")),
]  # fmt: skip

PAD: list[Row] = [
    (f"Pad, {mode}", lambda m, mode=mode: out(m, m.bn(pad(m, m.conv(start(m), 6), FRAME, mode=mode))), into("Conv"))
    for mode in ("edge", "reflect")
] + [
    ("before Pad, edge", lambda m: out(m, m.conv(pad(m, m.bn(start(m)), FRAME, mode="edge"), 6)), into("Conv")),
    ("Pad, edge, of the channels", lambda m: out(m, m.bn(pad(m, m.conv(start(m), 6), CHANNELS_BEHIND, mode="edge"))), Kept("axis", "barrier")),
    ("before Pad, reflect, of the channels", lambda m: out(m, m.conv(pad(m, m.bn(start(m)), CHANNELS_BEHIND, mode="reflect"), 6)), Kept("barrier", "axis")),
    ("Pad, edge, of one channel more", lambda m: out(m, m.per_channel("Add", pad(m, m.conv(start(m), 6), [0, 1, 0, 0, 0, 0, 0, 0], mode="edge"))), Kept("axis", "barrier")),
    ("Pad, edge, that crops channels", lambda m: out(m, m.bn(pad(m, m.conv(start(m), 6), [0, -1, 1, 0, 0, -2, 0, 0], mode="edge"))), into("Conv")),
    ("Pad with zeros", lambda m: out(m, m.per_channel("Add", pad(m, m.conv(start(m), 6), FRAME))), Kept("zero-padding", "barrier")),
    ("scale, Pad with zeros", lambda m: out(m, m.per_channel("Mul", pad(m, m.conv(start(m), 6), FRAME))), into("Conv")),
    ("scale before Pad with zeros", lambda m: out(m, m.conv(pad(m, m.per_channel("Mul", start(m)), FRAME, 0.0), 6)), into("Conv")),
    ("shift before Pad with zeros", lambda m: out(m, m.conv(pad(m, m.per_channel("Add", start(m)), FRAME), 6)), Kept("barrier", "zero-padding")),
    ("one shift, Pad with zeros", lambda m: out(m, scalar(m, "Add", pad(m, m.conv(start(m), 6), FRAME))), into("Conv", "Pad")),
    ("one shift before Pad with zeros", lambda m: out(m, m.conv(pad(m, scalar(m, "Add", start(m)), FRAME), 6)), into("Conv", "Pad")),
    ("one scale, Pad with a number", lambda m: out(m, scalar(m, "Mul", pad(m, m.conv(start(m), 6), FRAME, -0.7))), into("Conv", "Pad")),
    ("one scale before Pad with a number", lambda m: out(m, m.conv(pad(m, scalar(m, "Div", start(m)), FRAME, -0.7), 6)), into("Conv", "Pad")),
    ("a zero before Pad with a number", lambda m: out(m, m.conv(pad(m, scalar(m, "Mul", start(m), 0.0), FRAME, -0.7), 6)), Kept("barrier", "zero-padding")),
    ("a dead channel before Pad with zeros", lambda m: out(m, m.conv(pad(m, dead(m, start(m)), FRAME), 6)), into("Conv")),
    ("scale, Pad with a number", lambda m: out(m, m.per_channel("Mul", pad(m, m.conv(start(m), 6), FRAME, -0.7))), Kept("zero-padding", "barrier")),
    ("scale, Pad of the channels", lambda m: out(m, m.per_channel("Mul", pad(m, m.conv(start(m), 6), CHANNELS_BEHIND))), into("Conv")),
    ("shift, Pad of the channels", lambda m: out(m, m.per_channel("Add", pad(m, m.conv(start(m), 6), CHANNELS_BEHIND))), Kept("zero-padding", "barrier")),
    ("BN, Pad of one channel", lambda m: out(m, m.bn(pad(m, m.conv(start(m), 6), [0, 1, 0, 0, 0, 0, 0, 0]))), into("Conv", "Pad")),
    ("BN before Pad of the channels", lambda m: out(m, m.conv(pad(m, m.bn(start(m)), [0, 1, 0, 0, 0, 2, 0, 0], 0.4), 6)), into("Conv")),
    ("BN before Pad that crops", lambda m: out(m, m.conv(pad(m, m.bn(start(m)), [0, -1, -1, 0, 0, -1, 0, 0], 0.4), 6)), into("Conv")),
    ("BN, Pad that crops", lambda m: out(m, m.bn(pad(m, m.conv(start(m), 6), [0, -1, -1, 0, 0, -2, 0, 0], 0.4))), into("Conv")),
    ("shift before Pad of channels and image", lambda m: out(m, m.conv(pad(m, m.per_channel("Add", start(m)), [0, 1, 1, 0, 0, 0, 0, 0]), 6)), Kept("barrier", "zero-padding")),
    ("scale before Pad of channels and image", lambda m: out(m, m.conv(pad(m, m.per_channel("Mul", start(m)), [0, 1, 1, 0, 0, 0, 0, 0]), 6)), into("Conv")),
    ("Pad with a value of the caller", lambda m: out(m, m.op("Neg", m.op("Pad", m.conv(start(m), 6), index(m, *FRAME), m.x()), name=SITE)), Kept("weight-not-constant", "barrier")),
    ("as the value that Pad adds", lambda m: out(m, pad_with(m, m.op("Neg", m.op("Asinh", m.x()), name=SITE))), Kept("barrier", "not-data-input")),
    ("Pad by amounts unknown", lambda m: out(m, m.conv(m.op("Pad", m.bn(start(m)), m.op("Shape", m.x(*[1] * 8, declare=[*"ABCDEFGH"])), mode="edge"), 6)), Kept("barrier", "unknown-shape")),
    ("a mix of joins, cuts and pads", inception, into("Conv", "Conv")),
]  # fmt: skip


REPEAT: list[Row] = [
    ("Expand", lambda m: out(m, m.bn(m.op("Expand", m.conv(start(m), 6, kernel=(5, 6)), index(m, 6, 3, 4)))), into("Conv")),
    ("Expand of the channels", lambda m: out(m, m.bn(m.op("Expand", m.conv(start(m), 1), index(m, 2, 6, 3, 4)))), Kept("broadcast", "barrier")),
    ("Expand of the channels, one map", lambda m: out(m, scalar(m, "Add", m.op("Expand", m.conv(start(m), 1), index(m, 2, 6, 3, 4)))), into("Conv")),
    ("before Expand", lambda m: out(m, m.op("MatMul", m.op("Expand", m.per_channel("Mul", start(m, 1, 4)), index(m, 2, 3, 4)), m.constant((4, 5)))), into("MatMul")),
    ("Tile of the image", lambda m: out(m, m.bn(m.op("Tile", m.conv(start(m), 6), index(m, 1, 1, 2, 3)))), into("Conv")),
    ("Tile of the channels", lambda m: out(m, m.bn(m.op("Tile", m.conv(start(m), 3), index(m, 1, 2, 1, 1)))), Kept("axis", "barrier")),
    ("Tile of the channels, one map for all copies", lambda m: out(m, tiled(m, m.op("Tile", m.conv(start(m), 3), index(m, 2, 2, 1, 1)), 2)), into("Conv")),
    ("Tile of the channels, one map for all elements of a copy", lambda m: out(m, tiled(m, m.op("Tile", m.conv(start(m), 3), index(m, 2, 2, 1, 1)), -2)), Kept("axis", "barrier")),
    ("before Tile", lambda m: out(m, m.conv(m.op("Tile", m.bn(start(m)), index(m, 1, 3, 2, 1)), 6)), into("Conv", direction="forward")),
    ("before Tile, repeats unknown", lambda m: out(m, m.conv(m.op("Tile", m.bn(start(m)), m.op("Shape", m.x(1, 2, 1, 1, declare=[*"ABCD"]))), 6)), Kept("barrier", "unknown-shape")),
    ("Tile, one map", lambda m: out(m, scalar(m, "Sub", m.op("Tile", m.conv(start(m), 3), m.op("Shape", m.x(1, 2, 1, 1, declare=[*"ABCD"]))))), into("Conv")),
    ("Where", lambda m: (lambda x: out(m, m.bn(m.op("Where", m.constant(m.random.random((2, 1, 3, 4)) < 0.5), m.conv(x, 6), m.conv(x, 6)))))(start(m)), into("Conv", "Conv")),
    ("Where with a constant", lambda m: where(m, (6, 1, 1)), into("Conv", "Where")),
    ("Where with a constant of full rank", lambda m: where(m, (1, 6, 1, 1)), into("Conv", "Where")),
    ("Where with one number", lambda m: where(m, ()), Kept("broadcast", "barrier")),
    ("before Where", lambda m: out(m, m.conv(m.op("Where", m.constant(np.array([True, False, True, True, False, True])), m.bn(start(m)), m.x(2, 4, 5, 6)), 6)), Kept("barrier", "barrier")),
]  # fmt: skip


def scatter(m: Model, x: str, updates: str, reduction: str = "", axis: int = 3) -> str:
    """ScatterElements along the width, into every second element."""
    shape = m.at(updates).shape
    places = np.broadcast_to(2 * np.arange(shape[axis]).reshape(-1, *(1,) * (3 - axis)), shape)
    extra = {"reduction": reduction} if reduction else {}
    return m.op("ScatterElements", x, m.constant(places.astype(np.int64)), updates, axis=axis, **extra)


def scatter_nd(m: Model, x: str, updates: str, reduction: str = "") -> str:
    """ScatterND of whole rows of the image: indices count batch and channel for three of them."""
    places = m.constant(np.array([[0, 1], [1, 3], [1, 0]], np.int64))
    return m.op("ScatterND", x, places, updates, **({"reduction": reduction} if reduction else {}))


def image_and_part(m: Model) -> tuple[str, str]:
    x = start(m)
    return m.conv(x, 6, kernel=1), m.conv(x, 6, kernel=(1, 4))


def last(m: Model, op: str, x: str) -> str:
    return m.per_channel(op, x, axis=3)


SCATTER: list[Row] = [
    ("ScatterElements", lambda m: out(m, m.bn(scatter(m, *image_and_part(m)))), into("Conv", "Conv", direction="backward")),
    ("ScatterElements, a part of the channels", lambda m: (lambda x: out(m, m.bn(scatter(m, m.conv(x, 6, kernel=1), m.conv(x, 4, kernel=(1, 4))))))(start(m)), into("Conv", "Conv")),
    ("ScatterElements of a constant", lambda m: out(m, m.bn(scatter(m, m.conv(start(m), 6, kernel=1), m.constant((2, 6, 5, 3))))), into("Conv", "ScatterElements")),
    ("ScatterElements into zeros", lambda m: out(m, m.per_channel("Mul", scatter(m, m.constant(np.zeros((2, 6, 5, 6))), m.conv(start(m), 6, kernel=(1, 4))))), into("ScatterElements", "Conv")),
    ("ScatterElements along the map", lambda m: out(m, last(m, "Mul", scatter(m, m.op("MatMul", start(m), m.constant((6, 4))), m.op("MatMul", start(m), m.constant((6, 2)))))), Kept("axis", "barrier")),
    ("ScatterElements of an unknown length", lambda m: (lambda x: out(m, m.bn(m.op("ScatterElements", m.conv(x, 6, kernel=1), m.constant(np.zeros((2, 6, 5, 1), np.int64)), m.op("Asinh", m.x(2, 6, 5, 1, declare=[2, "C", 5, 1])), axis=3))))(start(m)), Kept("unknown-shape", "barrier")),
    ("before ScatterElements", lambda m: out(m, m.conv(scatter(m, m.bn(start(m)), m.x(2, 4, 5, 3)), 6)), Kept("barrier", "barrier")),
    ("updates before ScatterElements", lambda m: out(m, m.conv(scatter(m, m.x(2, 4, 5, 6), m.bn(start(m, 2, 4, 5, 3))), 6)), Kept("barrier", "not-data-input")),
    ("ScatterND", lambda m: (lambda x: out(m, m.op("Add", scatter_nd(m, m.conv(x, 6), m.op("MatMul", m.x(3, 3, 2), m.constant((2, 4)))), m.constant((4,)), name=SITE)))(start(m)), Kept("axis", "barrier")),
    ("ScatterND of whole rows", lambda m: out(m, m.op("Mul", scatter_nd(m, m.op("MatMul", start(m), m.constant((6, 4))), m.op("MatMul", start(m, 3, 5, 2), m.constant((2, 4)))), m.constant((4,)), name=SITE)), into("MatMul", "MatMul")),
    ("ScatterND, a map along what the indices count", lambda m: out(m, m.bn(scatter_nd(m, m.conv(start(m), 6, kernel=1), m.constant((3, 5, 6))))), Kept("axis", "barrier")),
    *(
        (name, since(opset, build), expected)
        for opset, name, build, expected in [
            (16, "ScatterElements, a sum", lambda m: out(m, m.bn(scatter(m, *image_and_part(m), "add"))), into("Conv", "Conv")),
            (16, "ScatterElements, a sum along the map", lambda m: out(m, last(m, "Mul", scatter(m, *image_and_part(m), "add"))), Kept("axis", "barrier")),
            (16, "shift before ScatterElements, a sum", lambda m: out(m, m.conv(scatter(m, last(m, "Add", start(m)), m.x(2, 4, 5, 3), "add"), 6)), Kept("barrier", "axis")),
            (16, "a shift before ScatterElements, a sum", lambda m: out(m, m.conv(scatter(m, m.per_channel("Add", start(m)), m.x(2, 4, 5, 3), "add"), 6)), into("Conv", direction="forward")),
            (16, "a scale before ScatterElements, a sum", lambda m: out(m, m.conv(scatter(m, m.per_channel("Mul", start(m)), m.x(2, 4, 5, 3), "add"), 6)), Kept("barrier", "scale-left")),
            (16, "ScatterElements, a product", lambda m: out(m, m.per_channel("Mul", scatter(m, *image_and_part(m), "mul"))), into("Conv")),
            (16, "ScatterElements, a product, a shift", lambda m: out(m, m.per_channel("Add", scatter(m, *image_and_part(m), "mul"))), Kept("shift-left", "barrier")),
            (16, "a scale before ScatterElements, a product", lambda m: out(m, m.conv(scatter(m, m.per_channel("Mul", start(m)), m.x(2, 4, 5, 3), "mul"), 6)), into("Conv", direction="forward")),
            (16, "a shift before ScatterElements, a product", lambda m: out(m, m.conv(scatter(m, m.per_channel("Add", start(m)), m.x(2, 4, 5, 3), "mul"), 6)), Kept("barrier", "shift-left")),
            (18, "ScatterElements, the larger", lambda m: out(m, scalar(m, "Mul", scatter(m, *image_and_part(m), "max"))), into("Conv", "Conv")),
            (18, "ScatterElements, the smaller, a negative scale", lambda m: out(m, scalar(m, "Mul", scatter(m, *image_and_part(m), "min"), -0.3)), Kept("sign", "barrier")),
            (16, "ScatterND, a sum", lambda m: out(m, m.op("Mul", scatter_nd(m, m.op("MatMul", start(m), m.constant((6, 4))), m.op("MatMul", start(m, 3, 5, 2), m.constant((2, 4))), "add"), m.constant((4,)), name=SITE)), into("MatMul", "MatMul")),
        ]
    ),
]  # fmt: skip

ROWS = SLICE + SPLIT + GATHER + PAD + REPEAT + SCATTER
