"""Parsing: settings as flags of a command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable


def add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add flags for these settings; one that is not given leaves the setting to the environment."""
    for name in names:
        field = Settings.model_fields[name]
        kind: Callable[[str], Any] = int if field.annotation is int else str
        described = f"{field.description} (default: {field.default})"
        parser.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS, help=described)
