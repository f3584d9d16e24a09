"""API keys, `bnf_ID_SECRET`. The secret is random enough that its plain hash can be stored; it is shown only once."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import TYPE_CHECKING

from service.ledger.records import Key, Quota

if TYPE_CHECKING:
    from service.ledger.interface import Keys

PREFIX = "bnf"
ID_BYTES, SECRET_BYTES = 8, 32
SCOPES = ("fold", "read", "delete", "metrics")
NO_HASH = "0" * 64  # compared when the key does not exist, so that both cases take the same time


def new_key(name: str, scopes: tuple[str, ...] = SCOPES, quota: Quota | None = None) -> tuple[Key, str]:
    """Make a key: the record to store, and the text to give to its owner."""
    id_, secret = secrets.token_hex(ID_BYTES), secrets.token_hex(SECRET_BYTES)
    key = Key(id_, name, _hash(secret), scopes, quota or Quota(), time.time())
    return key, f"{PREFIX}_{id_}_{secret}"


def find_key(ledger: Keys, text: str) -> Key | None:
    """The key with this text; None if it is unknown or was revoked."""
    prefix, _, rest = text.partition("_")
    id_, _, secret = rest.partition("_")
    key = ledger.key(id_)
    is_right = hmac.compare_digest(NO_HASH if key is None else key.hash, _hash(secret))
    return key if prefix == PREFIX and is_right else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()
