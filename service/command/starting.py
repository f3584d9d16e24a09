"""Starting: what a server says when it has started, loudly where a door is open."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from folding.report.digest import file_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.state import Service

LOG = logging.getLogger("bnfold")
OPEN = (
    "no API key is asked for: whoever reaches this server may fold, and read and delete what others folded; "
    "set BNFOLD_REQUIRE_KEYS=true, and make keys with `bnfold keys add`"
)
BARE = (
    "there is no sandbox: a fold runs with this server's rights, and a model that breaks out of ONNX Runtime reads all "
    "that the server can read; install bubblewrap, or use Linux 5.19 or later; BNFOLD_SANDBOX=require starts no server "
    "without a sandbox"
)


def log_start(service: Service) -> None:
    """Write a line to the log for each door that is open, and one with the limits that hold."""
    for sentence in _warnings(service):
        LOG.warning(sentence)
    settings, bounds = service.settings, service.settings.bounds(0)
    limits = (
        f"{settings.workers} folds at a time, each with {file_size(bounds.memory)} and {bounds.seconds:g} s",
        f"uploads of {file_size(settings.max_upload_bytes)}",
        f"{settings.max_queue} waiting jobs",
        f"{file_size(settings.cap)} kept for {settings.ttl_seconds:g} s",
    )
    LOG.info("limits: %s", "; ".join(limits))
    LOG.info("sandbox: %s", service.sandbox)


def _warnings(service: Service) -> Iterator[str]:
    if not service.settings.asks_for_keys:
        yield OPEN
    if service.sandbox == "none":
        yield BARE
