"""A report as a file: its suffix says the form, and it appears whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from folding.report.model import Report

REPORT_SUFFIXES = (".json", ".html", ".md")


def report_path(text: str) -> Path:
    """The path of a report, checked before any work whose report could not be written after it.

    Raises:
        ValueError: the suffix names no form, or the folder does not exist.
    """
    path = Path(text)
    if path.suffix not in REPORT_SUFFIXES:
        raise ValueError(f"{text!r} does not say its form; end it in {', '.join(REPORT_SUFFIXES)}")
    if not path.parent.is_dir():
        raise ValueError(f"{text!r} is in a folder that does not exist; create it first")
    return path


def write_report(report: Report, path: Path) -> None:
    """Write the report in the form its suffix names, whole or not at all: a reader never sees half of it.

    Raises:
        OSError: it could not be written; what was at `path` before is still there.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(rendered(report, path.suffix), encoding="utf-8", newline="\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def rendered(report: Report, suffix: str) -> str:
    """The report in the form of one of `REPORT_SUFFIXES`."""
    forms = {".json": report.to_json, ".html": report.to_html, ".md": report.to_markdown}
    return forms[suffix]()
