"""Errors of a fold that ended without an output although its report is complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.errors import FoldingError

if TYPE_CHECKING:
    from folding.report.model import Report


class ReportedError(FoldingError):
    """A fold that ended without an output, although its report, `report`, is complete."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


class NothingToFoldError(ReportedError):
    """Nothing could be folded although the caller asked for a change (`require_change`). Nothing was written."""


class VerificationError(ReportedError):
    """The folded model does not compute what the original computes. Nothing was written."""


class TargetError(ReportedError):
    """The runtime that `target` names does not run the file as a whole; the report's findings say where and why.

    Nothing was written.
    """
