"""Variables whose value is in a file: NAME_FILE names it, as secrets of containers are handed over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

SUFFIX = "_FILE"
PREFIX = str(Settings.model_config["env_prefix"])
# Beside the settings: what the object store and the exporter of traces read from the environment by themselves.
OTHERS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "OTEL_EXPORTER_OTLP_HEADERS")
NAMES = frozenset((*(f"{PREFIX}{name.upper()}" for name in Settings.model_fields), *OTHERS))


def from_files(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that files hold, without the line break at their end.

    Raises:
        RuntimeError: a file cannot be read, or its variable is set as well.
    """
    found = {}
    for name in sorted(NAMES):
        place = environment.get(name + SUFFIX)
        if place is None:
            continue
        if name in environment:
            raise RuntimeError(f"{name} and {name}{SUFFIX} are both set; leave one of them out")
        try:
            found[name] = Path(place).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or "it is no text"
            raise RuntimeError(f"{name}{SUFFIX}: {place}: {cause}; name a file that the service can read") from None
    return found
