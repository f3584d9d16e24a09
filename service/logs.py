"""Logs: one JSON object per line on standard error. Headers, queries, bodies and the text of keys are never logged."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

FIELDS = (
    "request",
    "method",
    "path",
    "status",
    "seconds",
    "client",
    "key",
    "job",
    "outcome",
    "count",
    "receiver",
    "reason",
    "trace",
)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON, with the extra fields of this service."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **{name: getattr(record, name) for name in FIELDS if hasattr(record, name)},
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr() -> None:
    """Send the log records of the service, of uvicorn and of OpenTelemetry to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in ("bnfold", "uvicorn.error", "opentelemetry"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
