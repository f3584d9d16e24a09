"""What can go wrong, as few types as callers need to tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from folding.report import Report


class FoldingError(Exception):
    """Base of every error bnfold raises on purpose; its text says what, where, why and what to do."""


class ModelError(FoldingError):
    """The model cannot be read: truncated, corrupt, inconsistent or unsafe. Nothing was written."""


class LimitError(ModelError):
    """The model exceeds a named limit of `folding.onnxfile.Limits`, which the operator can raise."""


class OptionError(FoldingError):
    """An option has an impossible value, or contradicts another one. Nothing was written."""


class ReportedError(FoldingError):
    """A fold that ended without an output although its whole story is known: `report` tells it."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


class NothingToFoldError(ReportedError):
    """Nothing could be folded although the caller asked for a change (`require_change`). Nothing was written."""


class VerificationError(ReportedError):
    """The folded model does not compute what the original computes. Nothing was written."""
