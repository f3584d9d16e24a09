"""The errors that bnfold raises: as few types as callers need to distinguish."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_SERVER_ERRORS = 500  # RFC 9110, 15.6: from here on a status blames the server


def how_to_install(extra: str) -> str:
    """What to do where the packages of an extra are missing: no index of packages has bnfold."""
    return (
        f"pip install '.[{extra}]' in a checkout of bnfold, or pip install 'PATH/TO/bnfold.whl[{extra}]' with its wheel"
    )


class FoldingError(Exception):
    """Base of every error bnfold raises on purpose; its text says what, where, why and what to do."""


class ModelError(FoldingError):
    """The model cannot be read: truncated, corrupt, inconsistent or unsafe. Nothing was written."""


class LimitError(ModelError):
    """The model exceeds a named limit of `folding.Limits`, which the operator can raise."""


class OptionError(FoldingError):
    """An option has an impossible value, or contradicts another one. Nothing was written."""


class ExportError(FoldingError):
    """PyTorch cannot export the module; the text says what it fails of, and what to do. Nothing was written."""


class ServiceError(FoldingError):
    """A bnfold service refused the work, failed, or could not be reached. Nothing was written.

    `slug` is the stable name of the problem, `title` and `detail` are sentences, `status` is the HTTP status if there
    was one, `job` the id of the job it is about, `report` the report, as JSON, of a fold that ended without an output.
    """

    UNREACHABLE, PROTOCOL = "unreachable", "protocol"  # no answer, and one that no bnfold service gives
    _NOT_THE_MODEL = frozenset(
        {UNREACHABLE, PROTOCOL, "busy", "quota-exceeded", "cancelled", "digest-mismatch", "offset-mismatch"}
    )

    def __init__(
        self, slug: str, title: str, detail: str, *, status: int | None = None, job: str | None = None
    ) -> None:
        super().__init__(detail or title)
        self.slug, self.title, self.detail, self.status, self.job = slug, title, detail, status, job
        self.report: dict[str, Any] | None = None

    @property
    def is_unavailable(self) -> bool:
        """Whether the service is what failed: the same model may be folded another time, or at another address."""
        return self.slug in self._NOT_THE_MODEL or (self.status is not None and self.status >= _SERVER_ERRORS)
