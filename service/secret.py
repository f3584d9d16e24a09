"""The server's secret, in DATA/secret, and the secrets of keys, which are derived from it and not stored.

To rotate it, remove the file: the next use makes a new secret, also in a running server.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING

from service.blobs import sync_folder

if TYPE_CHECKING:
    from pathlib import Path

FILE = "secret"
SECRET_BYTES = 32
PREFIX = "whsec_"  # as the specification of Standard Webhooks serializes a secret


def webhook_secret(data: Path, key: str) -> str:
    """The secret that signs the webhooks of a key: HMAC-SHA256 of the server's secret with the key's id.

    Raises:
        OSError, ValueError: the server's secret cannot be read or made.
    """
    derived = hmac.digest(_server_secret(data / FILE), f"webhook {key}".encode(), hashlib.sha256)
    return PREFIX + base64.b64encode(derived).decode()


def require_secret(data: Path) -> None:
    """Require that the server's secret can be used, if there is one.

    Raises:
        OSError, ValueError: it cannot be read, or has another length.
    """
    if (data / FILE).exists():
        _server_secret(data / FILE)


def _server_secret(path: Path) -> bytes:
    """The content of the file, which is made if it does not exist."""
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        _make(path)
        secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"{path} must hold {SECRET_BYTES} random bytes; remove it to have it made again")
    return secret


def _make(path: Path) -> None:
    """Write a new secret, whole or not at all. If another process was faster, that secret stays."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123  with a mode
        file.write(secrets.token_bytes(SECRET_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    sync_folder(path.parent)
