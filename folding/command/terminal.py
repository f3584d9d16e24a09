"""What a command prints: on standard output or standard error, as wide as the terminal, with colour where it has it."""

from __future__ import annotations

import os
import sys
from shutil import get_terminal_size

from folding.report.digest import printable

WIDTH_CAP = 120  # wider lines are hard to read


def complain(text: str, code: int) -> int:
    """Say it on stderr, on one line that no terminal obeys, and hand back the exit code."""
    print(f"bnfold: {printable(text)}", file=sys.stderr)
    return code


def show(text: str) -> None:
    """Print to stdout; a reader that has left (``| head``) is no error and costs no exit code."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def width() -> int:
    """The columns to write in."""
    return min(get_terminal_size(fallback=(WIDTH_CAP, 0)).columns, WIDTH_CAP)


def colour() -> bool:
    """Colour for a terminal only, unless FORCE_COLOR or NO_COLOR (no-color.org) say otherwise."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")
