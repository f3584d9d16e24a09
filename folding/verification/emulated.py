"""What a verification runs in place of a model with values of 16 bits: an emulation in float32, in temporary files.

ONNX Runtime on a CPU computes 16-bit values in float32, so it would not see what overflows or vanishes elsewhere. Where
the original is of float32, it runs once more with every number rounded to the digits of the 16-bit type: what that
changes is the error that a correct conversion may have.
"""

# ruff: noqa: PLC0415  an emulation is imported where a model has values of 16 bits

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from folding.errors import FoldingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from folding.execution.emulation import Emulation
    from folding.execution.facts import Facts

_NAME_SHOWN = 100  # characters of the model's name in the folder's name, which must stay below 255 bytes


class Emulated(NamedTuple):
    """The files to run: of the original, the folded model, and the original with its numbers rounded.

    `halves` are the original's inputs of 16 bits by type, None where nothing is emulated. `refused` says why a model
    with 16-bit values is not emulated; then `before` and `after` are the files themselves.
    """

    before: Path
    after: Path
    rough: Path | None = None
    halves: dict[str, str] | None = None
    notes: tuple[str, ...] = ()
    refused: str = ""
    nbytes: int = 0  # of the largest emulation


@contextmanager
def emulated(before: Path, after: Path, known: tuple[Facts, Facts], spare: Path) -> Iterator[Emulated]:
    """The files to run, which are gone afterwards: beside `after`, or in `spare` where nothing may be written there."""
    if not (known[0].half or known[1].half):
        yield Emulated(before, after)
        return
    from folding.execution.emulation import EmulationError

    with _folder(after, spare) as folder:
        try:
            files = _made(before, after, known, folder)
        except (EmulationError, FoldingError) as error:
            refused = f"values of 16 bits cannot be emulated: {error}"
            files = Emulated(before, after, notes=(refused,), refused=refused)
        yield files


@contextmanager
def _folder(after: Path, spare: Path) -> Iterator[Path]:
    """A new folder, removed at the end."""
    try:
        made = tempfile.TemporaryDirectory(prefix=f".{after.name[:_NAME_SHOWN]}.", dir=after.parent)
    except OSError:
        made = tempfile.TemporaryDirectory(dir=spare)
    with made as name:
        yield Path(name)


def _made(before: Path, after: Path, known: tuple[Facts, Facts], folder: Path) -> Emulated:
    from folding.execution.emulation import emulate

    first, last = folder / "before.onnx", folder / "after.onnx"
    original = emulate(before, first) if known[0].half else None
    result = emulate(after, last) if known[1].half else None
    paths = first if original else before, last if result else after
    rough = None if original else _rough(before, folder / "rough.onnx", known[1].half)
    return Emulated(
        *paths,
        rough,
        original.inputs if original else {},
        tuple(_changes(original, result)),
        nbytes=max(one.nbytes for one in (original, result) if one),
    )


def _rough(before: Path, target: Path, half: str) -> Path | None:
    from folding.execution.emulation import EmulationError, roughen

    try:
        roughen(before, target, half)
    except EmulationError:
        return None  # the original with inputs that are rounded must do
    return target


def _changes(original: Emulation | None, result: Emulation | None) -> Iterator[str]:
    """What differs in the types of inputs and outputs; all are compared in float32."""
    for what in ("inputs", "outputs"):
        before, after = (getattr(one, what) if one else {} for one in (original, result))
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        if names:
            kinds = ", ".join(f'"{name}" {after.get(name, "float32")}' for name in names)
            yield f"{what} have other types than in the original: {kinds}; they were compared in float32"
