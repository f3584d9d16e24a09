"""The audit log: who added, rotated, revoked and erased keys, who deleted what, and who was refused.

Two files of JSON lines in the data folder, which only the service can read: `audit.jsonl`, and `refusals.jsonl`, which
is apart because strangers can fill it. Each is opened for every line, so it can be moved away at any time; one that has
become large is moved to `NAME.1`, and replaces the one there.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LOG = logging.getLogger("bnfold")
AUDIT, REFUSALS = "audit.jsonl", "refusals.jsonl"
MOST_BYTES = 32 << 20  # of a file


def audit(data: Path, event: str, **fields: object) -> None:
    """Write one line. A disk that is full must not stop the server: then the line is in its log."""
    path = data / (REFUSALS if event == "refused" else AUDIT)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"time": now, "event": event, **{name: value for name, value in fields.items() if value}})
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, line.encode() + b"\n")
            is_large = os.fstat(fd).st_size > MOST_BYTES
        finally:
            os.close(fd)
        if is_large:
            path.replace(path.with_name(f"{path.name}.1"))
    except OSError as error:
        LOG.warning("the audit log cannot be written: %s", line, exc_info=error)
