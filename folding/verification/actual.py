"""The files themselves in the runtime, where what is compared are emulations of them, or runs without optimisations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from folding.errors import ModelError
from folding.verification import advice
from folding.verification.runtime import OPTIMISED, UNOPTIMISED, Runner, RuntimeRefusalError

if TYPE_CHECKING:
    from folding.verification.samples import Feeds

# What ONNX Runtime says of a model that breaks the standard (not of one that it is too old for).
TYPE_ERROR = "Type Error: "
NO_KERNEL = "could not find an implementation"  # how ONNX Runtime says that it has none for a type


class FailedError(Exception):
    """The folded model is wrong before any output can be compared; the text is the reason, a sentence."""


def require_types(files: tuple[str, str] | None) -> None:
    """Load the two files of which emulations run: in these all types are one, so a wrong one would not be seen.

    Raises:
        ModelError: the original breaks the standard.
        FailedError: the folded model does.
    """
    refusals = [_refusal(Path(path)) for path in files or ()]
    if refusals and TYPE_ERROR in refusals[0]:
        raise ModelError(f"ONNX Runtime refuses the types of the original model: {refusals[0]}")
    if refusals and refusals[1] and not refusals[0] and NO_KERNEL not in refusals[1].lower():
        raise FailedError(f"ONNX Runtime loads the original but not the folded model: {refusals[1]}")


def require_run(path: Path, feeds: Feeds) -> None:
    """Run a file as its target does: with all optimisations. An emulation, which feeds may be of, has float32 inputs.

    Raises:
        FailedError: the runtime does not run it.
        UnverifiableError: memory ran out.
    """
    if refusal := _refusal(path, feeds):
        raise FailedError(f"ONNX Runtime does not run the folded model as it is: {refusal}; {advice.AS_IT_IS}")


def _refusal(path: Path, feeds: Feeds | None = None) -> str:
    """What the runtime says when it loads a file, and runs it if there are feeds; "" if nothing is wrong."""
    try:
        model = Runner(path, UNOPTIMISED if feeds is None else OPTIMISED)
        if feeds is not None:
            types = {spec.name: spec.dtype for spec in model.specs}
            model.run({name: value.astype(types.get(name, value.dtype)) for name, value in feeds.items()})
    except RuntimeRefusalError as error:
        return str(error)
    return ""
