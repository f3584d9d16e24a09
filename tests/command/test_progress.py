"""Progress bars: for people who wait, one per stage, never for work that is over in a moment."""

from __future__ import annotations

from typing import Any

import pytest
import tqdm as tqdm_package

from folding.command import progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Bar:
    drawn: list[Bar]

    def __init__(self, **form: Any) -> None:
        self.form, self.n, self.closed = form, 0, False
        Bar.drawn.append(self)

    def update(self, by: int) -> None:
        self.n += by

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    Bar.drawn = []
    monkeypatch.setattr("time.monotonic", clock)
    monkeypatch.setattr(tqdm_package, "tqdm", Bar)
    return clock


@pytest.mark.parametrize(
    ("enabled", "steps", "drawn"),
    [
        (True, [("folding", 0, 0.0), ("folding", 5, 0.2), ("folding", 10, 9.0)], []),
        (False, [("folding", 0, 0.0), ("folding", 5, 3.0), ("verifying", 0, 3.0)], []),
        (True, [("folding", 0, 0.0), ("folding", 5, 3.0)], [("folding", " steps", 5)]),
        (True, [("verifying", 0, 0.0)], [("verifying", " steps", 0)]),
        (
            True,
            [("folding", 0, 0.0), ("folding", 5, 3.0), ("writing", 0, 3.1), ("writing", 2, 3.2), ("writing", 9, 4.0)],
            [("folding", " steps", 5), ("writing", "B", 9)],
        ),
    ],
)
def test_bars_are_for_work_that_lasts(
    clock: Clock, enabled: bool, steps: list[tuple[str, int, float]], drawn: list[tuple[str, str, int]]
) -> None:
    with progress.Bars(enabled=enabled) as bars:
        for stage, done, clock.now in steps:
            bars(stage, done, 1 if stage == "verifying" else 10)
    assert [(bar.form["desc"], bar.form["unit"], bar.n) for bar in Bar.drawn] == drawn
    assert all(bar.closed for bar in Bar.drawn)


def test_a_stage_that_turns_out_to_be_longer_gets_a_bar_of_its_length(clock: Clock) -> None:
    with progress.Bars(enabled=True) as bars:
        for done, total, clock.now in ((0, 100, 0.0), (90, 100, 1.0), (90, 700, 2.0)):
            bars("verifying", done, total)
    assert [(bar.form["total"], bar.n) for bar in Bar.drawn] == [(100, 90), (700, 90)]
