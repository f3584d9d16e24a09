"""Progress bars on a terminal: one per stage, and only for long work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tqdm import tqdm

BAR_AFTER_SECONDS = 0.5  # shorter work shows no bar
BYTE_STAGES = ("writing", "uploading", "downloading")  # the stages whose steps are bytes


class Bars:
    """A progress callback that draws on stderr; use it as a context, so that every bar is closed in the end.

    A stage with a single step is named immediately, because it reports nothing until it ends.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled, self._stage, self._since, self._total = enabled, "", 0.0, 0
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Record the progress of a stage: `done` of `total` bytes or steps."""
        if stage != self._stage:
            self._close()
            self._stage, self._since = stage, time.monotonic()
        if total != self._total:  # there is more to do than it seemed
            self._close()
            self._total = total
        lasts = total == 1 or time.monotonic() - self._since >= BAR_AFTER_SECONDS
        if self._bar is None and self._enabled and done < total and lasts:
            self._bar = _drawn(stage, total)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


def _drawn(stage: str, total: int) -> tqdm[Any]:
    from tqdm import tqdm  # noqa: PLC0415  its import costs as much as most folds

    tqdm.monitor_interval = 0  # no monitor thread, because the process may fork to verify
    form: dict[str, Any] = {"unit": "B", "unit_scale": True} if stage in BYTE_STAGES else {"unit": " steps"}
    if total == 1:
        form["bar_format"] = "{desc} ..."
    return tqdm(desc=stage, total=total, leave=False, dynamic_ncols=True, **form)
