"""Shapes as far as they are known: lengths, names of unknown lengths, or None."""

from __future__ import annotations

Dimension = int | str | None  # a length, the name of an unknown length, or None
Shape = tuple[Dimension, ...]
