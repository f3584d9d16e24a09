"""The commands that are not the library's: they are handed over to the service, where it is installed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVICE_COMMANDS = {"serve": "serve folds over HTTP", "keys": "the API keys of the service: add, list, revoke"}
MISSING = 2


def run_service(argv: Sequence[str]) -> int:
    """Run one of `SERVICE_COMMANDS`; its exit code."""
    try:
        from service.command import main  # noqa: PLC0415  no other command may need the service
    except ModuleNotFoundError as error:
        said = f"the service is not installed ({error.name} is missing); pip install 'bnfold[service]'"
        print(f"bnfold: {argv[0]}: {said}", file=sys.stderr)
        return MISSING
    return main(argv)
