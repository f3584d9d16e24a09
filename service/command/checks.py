"""Checks of what a server needs before it starts, so that each failing start has one sentence; and what comes first."""

from __future__ import annotations

import os
import socket
import sys
import time
from difflib import get_close_matches
from typing import TYPE_CHECKING

from service.auth.tokens import Tokens
from service.command.variables import SUFFIX
from service.ledger.sql import open_ledger, require_whole
from service.logs import log_to_stderr
from service.machine import share_free_memory
from service.process.sandbox import find_sandbox
from service.secret import require_secret
from service.settings import Settings
from service.state import lock, make_traces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

PREFIX = str(Settings.model_config["env_prefix"])
LIKENESS = 0.8  # of a variable's name to that of a setting; other programs may have variables of this prefix


def require_startable(settings: Settings) -> None:
    """Require all that a server needs.

    Raises:
        RuntimeError: the host or the port cannot be listened on; the data folder is no folder, cannot be written, or is
            used by another server; the ledger or the secret in it cannot be used; keys are needed and there are none;
            the sandbox is required and does not work; tokens are to be taken and cannot be read; there are to be traces
            and the packages for them are missing.
    """
    address = _resolved(settings.host, settings.port)
    if settings.engine == "cluster" and settings.secrets is None:
        raise RuntimeError(
            "BNFOLD_ENGINE=cluster: all servers sign webhooks with the same secret; name the folder of its file with "
            "BNFOLD_SECRETS"
        )
    _require_folder(settings)
    require_whole(settings.data, settings.database_url)
    _require_keys(settings)
    _require_free(settings, address)
    require_secret(settings.secret_folder)
    if settings.oidc_issuer:
        Tokens(settings.oidc_issuer, settings.oidc_audience)
    make_traces(settings).close()
    if settings.sandbox == "require":
        find_sandbox(settings.sandbox, settings.data)


def _resolved(host: str, port: int) -> tuple[int, tuple[object, ...]]:
    """The family and the address of a host."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise RuntimeError(
            f"the host {host!r} cannot be resolved: {_cause(error)}; choose another with --host"
        ) from None
    family, *_, address = found[0]
    return family, address


def _require_folder(settings: Settings) -> None:
    try:
        os.close(lock(settings.data))
    except OSError as error:
        what = "it is no folder" if settings.data.exists() and not settings.data.is_dir() else _cause(error)
        raise RuntimeError(f"data: {settings.data}: {what}; name a folder that can be written with --data") from None


def _require_free(settings: Settings, address: tuple[int, tuple[object, ...]]) -> None:
    """Fail with one sentence where the server would fail with many."""
    try:
        with socket.create_server(address[1], family=address[0]):
            pass
    except OSError as error:
        said = f"{settings.host} port {settings.port}: {_cause(error)}"
        raise RuntimeError(f"{said}; choose another with --host and --port") from None


def _require_keys(settings: Settings) -> None:
    ledger = open_ledger(settings.data, settings.database_url)
    try:
        if (
            settings.asks_for_keys
            and not settings.oidc_issuer
            and all(key.has_ended(time.time()) for key in ledger.all_keys())
        ):
            where = f"{_reached(settings)}, so API keys are needed, and there are none"
            raise RuntimeError(f"{where}; make one: bnfold keys add NAME --data {settings.data}")
    finally:
        ledger.close()


def _reached(settings: Settings) -> str:
    """Why the server asks for keys."""
    if settings.require_keys:
        return f"{PREFIX}REQUIRE_KEYS is true"
    if not settings.is_loopback:
        return f"{settings.host} can be reached from elsewhere"
    names = ("allowed_hosts", "trusted_proxies", "root_path")
    named = next(name for name in names if getattr(settings, name))
    return f"{PREFIX}{named.upper()} says that a proxy leads others here"


def _cause(error: Exception) -> str:
    cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{cause[:1].lower()}{cause[1:]}".partition(" (while ")[0]


def invalid_settings(error: ValidationError) -> str:
    """All that is wrong with the settings, on one line; each is named as an operator knows it."""
    said = []
    for one in error.errors():
        cause = one["msg"].removeprefix("Value error, ")
        if not one["loc"] or one["loc"] == ("database_url",):  # of several settings, or one that may have a password
            said.append(cause)
            continue
        said.append(
            f"{_named('.'.join(map(str, one['loc'])))} is {one['input']!r:.100}: {cause[:1].lower()}{cause[1:]}"
        )
    return "; ".join(said)


def unreadable_settings(error: SettingsError) -> str:
    """The same for a variable that is not written in the form of its setting."""
    setting = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "settings")
    example = {
        "limits": """'{"nodes": 500000}'""",
        "allowed_hosts": """'["fold.example.org"]'""",
        "trusted_proxies": """'["127.0.0.1"]'""",
    }.get(setting, "JSON")
    return f"{_named(setting)} is no JSON; write {_named(setting)}={example}"


def _named(setting: str) -> str:
    flag = f"--{setting} or " if setting in ("host", "port", "data") else ""
    return f"{flag}{PREFIX}{setting.upper()}"


def prepare() -> None:
    """Begin as a server or a worker: warn of variables that no setting has, write the log, share free memory."""
    for sentence in mistyped(os.environ):
        print(f"bnfold: warning: {sentence}", file=sys.stderr)  # noqa: T201  a command prints
    log_to_stderr()
    share_free_memory()


def mistyped(environment: Iterable[str]) -> list[str]:
    """A sentence for each variable that is no setting, and whose name is like that of one."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    known += [f"{name}{SUFFIX}" for name in known]
    found = {name: get_close_matches(name, known, n=1, cutoff=LIKENESS) for name in environment if name not in known}
    return [f"there is no setting {name}; did you mean {close[0]}?" for name, close in found.items() if close]
