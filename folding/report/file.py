"""Write a report to a file: the suffix selects the form, and the file appears complete or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from folding.report.model import Report

REPORT_SUFFIXES = (".json", ".html", ".md")


def report_path(text: str) -> Path:
    """Return the path of a report, checked before any work, so that the report can be written afterwards.

    Raises:
        ValueError: the suffix is not one of `REPORT_SUFFIXES`, or the folder does not exist.
    """
    path = Path(text)
    if path.suffix not in REPORT_SUFFIXES:
        raise ValueError(f"{text!r} does not say its form; end it in {', '.join(REPORT_SUFFIXES)}")
    if not path.parent.is_dir():
        raise ValueError(f"{text!r} is in a folder that does not exist; create it first")
    return path


def write_report(report: Report, path: Path) -> None:
    """Write the report in the form that the suffix selects, complete or not at all.

    Raises:
        OSError: it cannot be written; a file that was at `path` before is unchanged.
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
