"""The flags that demand something of a model: ``--max-left``, ``--fail-on``, ``--fail-if-grown``."""

# ruff: noqa: PLC0415  few commands have a gate, and start-up time counts

from __future__ import annotations

import argparse
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from folding.command.endings import DONE, GATED, exit_code, sentence
from folding.refusal import CODES
from folding.report.gates import Gates

if TYPE_CHECKING:
    from folding.fleet.model import FleetReport
    from folding.options import Options
    from folding.report.gates import Broken
    from folding.report.model import Report


def add_gates(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a command."""
    group = parser.add_argument_group("gates (exit 7 where one is not passed; the file is written all the same)")
    how = "not passed if more than N BatchNormalizations stay"
    group.add_argument("--max-left", type=_count, metavar="N", help=how)
    how = "not passed if a BatchNormalization stays with this code of `bnfold explain` (repeatable)"
    group.add_argument("--fail-on", type=_code, action="append", default=[], metavar="CODE", help=how)
    how = "not passed if the folded model has more bytes than the original"
    group.add_argument("--fail-if-grown", action="store_true", help=how)


def chosen_gates(arguments: argparse.Namespace) -> Gates:
    """The gates given on the command line."""
    given = vars(arguments)
    return Gates(given.get("max_left"), tuple(given.get("fail_on", ())), given.get("fail_if_grown", False))


def with_size(report: Report, gates: Gates, library: Any, options: Options) -> Report:
    """The report of a model that was not written, with the size that it would have, where a gate asks for it.

    The size is known when every block is placed, so the model is folded into a temporary folder.
    """
    if not gates.fail_if_grown or report.target is not None or not report.changed:
        return report
    from pathlib import Path
    from tempfile import TemporaryDirectory

    unjudged = replace(options, verify=False, allow_fallback=True, require_change=False)
    with TemporaryDirectory(prefix="bnfold-size-") as folder:
        written = library.fold(report.source, str(Path(folder, Path(report.source).name)), unjudged)
    return replace(report, bytes_after=written.bytes_after)


def for_ci(report: Report, broken: tuple[Broken, ...], error: Exception | None) -> FleetReport:
    """The report of one model in the form that JUnit and SARIF are written from."""
    from folding.fleet.model import alone

    if error is not None:
        return alone(report, error=sentence(error, report.source, report.target), code=exit_code(error))
    return alone(report, broken, code=GATED if broken else DONE)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of operators; give 0 or more")
    return int(text)


def _code(text: str) -> str:
    if text in CODES:
        return text
    close = get_close_matches(text, CODES, n=3)
    meant = f"did you mean {' or '.join(close)}?" if close else "`bnfold explain` lists them all"
    raise argparse.ArgumentTypeError(f"there is no code {text!r}; {meant}")
