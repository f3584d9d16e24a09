"""Folders of small models for the commands that take many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from tests.support.models import Model
from tests.support.rows.row import out, start

if TYPE_CHECKING:
    from pathlib import Path


def small(seed: int = 0, *, stays: bool = False) -> onnx.ModelProto:
    """A convolution with a normalization that folds; with `stays`, another one between two barriers."""
    m = Model(dtype=np.float32, seed=seed)
    x = m.bn(m.conv(start(m, 1, 3, 6, 6), 4), name="folds")
    out(m, m.bn(out(m, x), name="stays") if stays else x)
    return m.build()


def save(path: Path, seed: int = 0, *, stays: bool = False, external: str = "") -> Path:
    """Write such a model; `external` is the name of the file with its weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model = small(seed, stays=stays)
    if external:
        onnx.save(model, path, save_as_external_data=True, location=external, size_threshold=0)
    else:
        onnx.save(model, path)
    return path


def fleet(folder: Path) -> Path:
    """Three models: one at the top, one below of which a normalization stays, one with external data."""
    save(folder / "a.onnx", 1)
    save(folder / "sub" / "b.onnx", 2, stays=True)
    save(folder / "sub" / "deep" / "c.onnx", 3, external="c.weights")
    return folder


def names(folder: Path) -> list[str]:
    """The files of a folder that are not hidden, by their relative paths."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """What shows whether a file was written again."""
    found = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path.relative_to(folder).as_posix(): (one.st_ino, one.st_mtime_ns) for path, one in found.items()}
