"""``bnfold inspect --lint FILE``: the findings in the form of Polygraphy's ``polygraphy check lint``."""

# ruff: noqa: PLC0415  few commands write one, and start-up time counts

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from folding.errors import OptionError

if TYPE_CHECKING:
    import argparse

    from folding.report.model import Report


def add_lint(parser: argparse.ArgumentParser) -> None:
    """Add the flag to a command."""
    what = "also write what --target does not run, as JSON in the form of `polygraphy check lint`"
    parser.add_argument("--lint", metavar="FILE.json", help=what)


def require_target(arguments: argparse.Namespace) -> None:
    """Refuse the flag without a target.

    Raises:
        OptionError: no target is named.
    """
    if arguments.lint is not None and vars(arguments).get("target") is None:
        raise OptionError("--lint writes what a target does not run; name one with --target")


def write_lint(report: Report, arguments: argparse.Namespace) -> None:
    """Write the findings of a report on a model, complete or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    from folding import onnxfile
    from folding.analysis.values import indexed
    from folding.readiness.lint import lint

    with onnxfile.read(arguments.model) as file:
        plain = lint(report.findings, indexed(file))
    path = Path(arguments.lint)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8", newline="\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
