"""The commands through a service (``--server``): the reports, errors and exit codes are those of a fold here."""

# ruff: noqa: PLC0415  the client is imported when a service is named, or every command would wait for httpx

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from folding.errors import OptionError, ServiceError, how_to_install
from folding.report.errors import NothingToFoldError, VerificationError
from folding.report.model import Report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from folding.client import Client
    from folding.options import Options

    Progress = Callable[[str, int, int], None]

KEY_VARIABLE = "BNFOLD_KEY"


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a service."""
    group = parser.add_argument_group("where to fold (default: on this machine)")
    group.add_argument("--server", metavar="URL", help="send the model to the bnfold service at this address")
    described = (
        f"the API key of that service (default: the environment variable {KEY_VARIABLE}, which others cannot see)"
    )
    group.add_argument("--key", metavar="KEY", help=described)


class Service:
    """What `folding.api` is for this machine: `fold` and `inspect`, by a service.

    `stays` keeps the connections for the next model, as long as the process lives: to make a client takes longer than
    most requests.

    Raises:
        OptionError: the address or the key cannot be one, or the client's packages are not installed.
    """

    def __init__(self, url: str, key: str | None, *, stays: bool = False) -> None:
        self._stays = stays
        self._client = _client(url, key or os.environ.get(KEY_VARIABLE) or None)

    def fold(self, source: str, target: str | None, options: Options, *, progress: Progress | None = None) -> Report:
        """Fold as `folding.fold` does.

        Raises:
            As `folding.fold`; ServiceError where the service is the reason.
        """
        if target is None:
            return self.inspect(source, options)
        return self._reported(lambda: self._client.fold(source, target, options, progress), source, target)

    def inspect(self, source: str, options: Options) -> Report:
        """What `fold` would do. Raises as `fold` does."""
        return self._reported(lambda: self._client.inspect(source, options), source, None)

    def _reported(self, work: Callable[[], dict[str, Any]], source: str, target: str | None) -> Report:
        with nullcontext() if self._stays else self._client:
            try:
                return _report(work())
            except ServiceError as error:
                if error.report is None:
                    raise
                report, said = replace(_report(error.report), source=source, target=target), str(error)
                if error.slug == "verification-failed":
                    raise VerificationError(said, report) from error
                if error.slug == "nothing-to-fold":
                    raise NothingToFoldError(said, replace(report, target=None)) from error
                raise


def _client(url: str, key: str | None) -> Client:
    try:
        from folding.client import Client
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "folding":
            raise
        raise OptionError(f"--server needs the package {error.name}; {how_to_install('client')}") from None
    return Client(url, key)


def _report(plain: dict[str, Any]) -> Report:
    try:
        return Report.from_dict(plain)
    except ValueError as error:
        detail = f"the service's report cannot be read: {error}; is the service of another version?"
        raise ServiceError(ServiceError.PROTOCOL, "The service answers unexpectedly", detail) from None
