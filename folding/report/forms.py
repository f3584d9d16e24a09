"""The forms that a report writes itself in, each imported when it is asked for: most commands need one of them."""

# ruff: noqa: PLC0415

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from folding.report.model import Report


def line(report: Report) -> str:
    """The report in a line, as `repr` shows it."""
    from folding.report.digest import headline, printable

    return f"<Report of {printable(report.source)}: {headline(report)}; {report.verification.status}>"


def text(report: Report, width: int) -> str:
    """The report as plain text of `width` columns."""
    from folding.report.text import render_text

    return render_text(report, width=width, more="to_json() lists all")


def html(report: Report) -> str:
    """The report as one self-contained HTML page."""
    from folding.report.html import render_html

    return render_html(report)


def markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown."""
    from folding.report.markdown import render_markdown

    return render_markdown(report)
