"""Write a report to a file: the suffix selects the form, and the file appears complete or not at all."""

# ruff: noqa: PLC0415  a form is imported when it is asked for

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from folding.fleet.model import FleetReport
    from folding.report.model import Report

CI_SUFFIXES = (".junit.xml", ".sarif")  # forms that CI servers show; they are of a fleet, be it of one model
REPORT_SUFFIXES = (".json", ".html", ".md", *CI_SUFFIXES)


def report_path(text: str) -> Path:
    """Return the path of a report, checked before any work, so that the report can be written afterwards.

    Raises:
        ValueError: the suffix is not one of `REPORT_SUFFIXES`, or the folder does not exist.
    """
    path = Path(text)
    if not path.name.endswith(REPORT_SUFFIXES):
        raise ValueError(f"{text!r} does not say its form; end it in {', '.join(REPORT_SUFFIXES)}")
    if not path.parent.is_dir():
        raise ValueError(f"{text!r} is in a folder that does not exist; create it first")
    return path


def write_report(report: Report | FleetReport, path: Path) -> None:
    """Write the report in the form that the suffix selects, complete or not at all.

    Raises:
        OSError: it cannot be written; a file that was at `path` before is unchanged.
    """
    write_text(rendered(report, path.name), path)


def write_text(text: str, path: Path) -> None:
    """Write a file, complete or not at all.

    Raises:
        OSError: it cannot be written; a file that was at `path` before is unchanged.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def rendered(report: Report | FleetReport, name: str) -> str:
    """The report in the form that a name ends in, one of `REPORT_SUFFIXES`."""
    from folding.fleet.model import FleetReport, alone

    if isinstance(report, FleetReport):
        return _of_fleet(report, name)
    if name.endswith(CI_SUFFIXES):
        return _of_fleet(alone(report), name)
    forms = {".json": report.to_json, ".html": report.to_html, ".md": report.to_markdown}
    return next(form for suffix, form in forms.items() if name.endswith(suffix))()


def _of_fleet(fleet: FleetReport, name: str) -> str:
    if name.endswith(".html"):
        from folding.fleet.html import render_html

        return render_html(fleet)
    if name.endswith(".md"):
        from folding.fleet.markdown import render_markdown

        return render_markdown(fleet)
    if name.endswith(".sarif"):
        from folding.fleet.sarif import render_sarif

        return render_sarif(fleet)
    if name.endswith(".junit.xml"):
        from folding.fleet.junit import render_junit

        return render_junit(fleet)
    return fleet.to_json()
