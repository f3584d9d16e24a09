"""How a command ends: its exit code, and the sentence about an error.

Exit codes: 0 done; 2 bad input or usage; 3 the folded model differs; 4 nothing to fold (``--require-change``);
5 the service that ``--server`` names cannot be reached, or has no room; 6 the runtime that ``--target`` names does not
run the file as a whole; 7 a gate was not passed; 130 interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from folding.errors import OptionError, ServiceError
from folding.options import as_flags
from folding.process.quit import INTERRUPTED
from folding.report.errors import NothingToFoldError, TargetError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable

DONE, BAD_INPUT, DIFFERENT, UNCHANGED, UNAVAILABLE, REFUSED, GATED = 0, 2, 3, 4, 5, 6, 7
# The worst first: a wrong result before a file that a runtime refuses, before one that could not be folded at all.
ORDER = (INTERRUPTED, DIFFERENT, REFUSED, BAD_INPUT, UNAVAILABLE, GATED, UNCHANGED, DONE)


def worst(codes: Iterable[int]) -> int:
    """The exit code of several models: the first in `ORDER` that one of them has; a signal's own code before all."""
    found = set(codes)
    signals = sorted(found - set(ORDER))
    return signals[0] if signals else next((code for code in ORDER if code in found), DONE)


def exit_code(error: Exception) -> int:
    """The exit code of an error that ended a command."""
    if isinstance(error, ServiceError):
        otherwise = UNAVAILABLE if error.is_unavailable else BAD_INPUT
        return {"verification-failed": DIFFERENT, "nothing-to-fold": UNCHANGED, "target-refused": REFUSED}.get(
            error.slug, otherwise
        )
    kinds = {VerificationError: DIFFERENT, NothingToFoldError: UNCHANGED, TargetError: REFUSED}
    return next((code for kind, code in kinds.items() if isinstance(error, kind)), BAD_INPUT)


def sentence(error: Exception, model: str, output: str | None = None) -> str:
    """The error in one sentence that names the file it is about: the model, unless it names another itself."""
    if isinstance(error, OSError):
        return f"{error.filename or model}: {cause(error)}".removeprefix(": ")
    text, files = as_flags(str(error)), [name for name in (model, output) if name]
    is_own = isinstance(error, OptionError) or (isinstance(error, ServiceError) and error.is_unavailable)
    if is_own or not files or text.startswith(tuple(files)):
        return text
    file = next((file for file in files if text.startswith(f"{Path(file).name} ")), None)
    return f"{model}: {text}" if file is None else file + text.removeprefix(Path(file).name)


def cause(error: OSError) -> str:
    """Why the system refused, as the end of a sentence."""
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
