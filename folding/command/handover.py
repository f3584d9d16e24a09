"""The commands that are not the library's: they are handed over to the service, where it is installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from folding.errors import how_to_install
from folding.process.signals import raise_when_interrupted

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVICE_COMMANDS = {
    "serve": "serve folds over HTTP",
    "worker": "fold the jobs of a cluster, on any machine",
    "admin": "the jobs and the workers of a cluster: queue, workers, keys, retry, park, drain",
    "keys": "the API keys of the service: add, list, revoke",
    "scrub": "read all that the service stores, and let damaged results be folded again",
    "backup": "copy all that the service stores, also while it serves",
    "restore": "make a data folder from such a copy",
    "downgrade": "let the ledger of the service go back to the version before",
}
MISSING = 2
SERVICE = "service"  # the package, which is installed beside this one; many projects have one of this name
BESIDE = Path(__file__).resolve().parents[2]


def run_service(argv: Sequence[str]) -> int:
    """Run one of `SERVICE_COMMANDS` and return its exit code."""
    if (other := _shadow()) is not None:
        how = "run it in another folder, or take that one out of PYTHONPATH"
        return _missing(argv, f"another package called {SERVICE} hides bnfold's own: {other}; {how}")
    try:
        from service.command.main import main  # noqa: PLC0415  no other command may need the service
    except ModuleNotFoundError as error:
        return _missing(argv, f"the service is not installed ({error.name} is missing); {how_to_install('service')}")
    raise_when_interrupted()
    return main(argv)


def _shadow() -> Path | None:
    """Where the package `service` would come from, if that is not bnfold's; None if it is, or there is none."""
    spec = find_spec(SERVICE)
    places = [] if spec is None else [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else ())]
    found = [Path(place).resolve() for place in places]
    own = BESIDE / SERVICE
    return None if not found or found[0] == own else found[0]


def _missing(argv: Sequence[str], reason: str) -> int:
    print(f"bnfold: {argv[0]}: {reason}", file=sys.stderr)
    return MISSING
