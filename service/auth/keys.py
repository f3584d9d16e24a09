"""API keys, `bnf_ID_SECRET`. The secret is random enough that its plain hash can be stored; it is shown only once."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from service.ledger.records import Key, Quota

if TYPE_CHECKING:
    from service.ledger.interface import Keys

PREFIX = "bnf"
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="bnfold"'}  # what a request without a good key is answered, RFC 6750
ID_BYTES, SECRET_BYTES = 8, 32
SCOPES = ("fold", "read", "delete", "metrics")
NO_HASH = "0" * 64  # compared when the key does not exist, so that both cases take the same time
UNITS = {"s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60, "w": 7 * 24 * 60 * 60}


def new_key(
    name: str, scopes: tuple[str, ...] = SCOPES, quota: Quota | None = None, expires: float | None = None
) -> tuple[Key, str]:
    """Make a key: the record to store, and the text to give to its owner."""
    id_, secret = secrets.token_hex(ID_BYTES), secrets.token_hex(SECRET_BYTES)
    key = Key(id_, name, _hash(secret), scopes, quota or Quota(), time.time(), expires=expires)
    return key, _text(id_, secret)


def new_secret(id_: str) -> tuple[str, str]:
    """Make another secret for a key: its hash, and the text to give to its owner."""
    secret = secrets.token_hex(SECRET_BYTES)
    return _hash(secret), _text(id_, secret)


def find_key(ledger: Keys, text: str) -> Key | None:
    """The key with this text; None if it is unknown, was revoked or rotated, or has expired."""
    prefix, _, rest = text.partition("_")
    id_, _, secret = rest.partition("_")
    key = ledger.key(id_)
    given = _hash(secret)
    is_right = hmac.compare_digest(NO_HASH if key is None else key.hash, given)
    is_previous = hmac.compare_digest(NO_HASH if key is None or key.previous is None else key.previous, given)
    is_good = is_previous and key is not None and time.time() < (key.previous_until or 0)
    return key if prefix == PREFIX and (is_right or is_good) else None


def moment(text: str, now: float) -> float:
    """The time that a text means: in so long (`90d`, `12h`), or at a date or a time (`2027-01-31`, ISO 8601, UTC).

    Raises:
        ValueError: it means none, or one that is over.
    """
    if found := re.fullmatch(r"(\d{1,6})([smhdw])", text):
        then = now + int(found[1]) * UNITS[found[2]]
    else:
        try:
            read = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r} is no time; write 90d, 12h or 2027-01-31") from None
        then = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    if then < now:
        raise ValueError(f"{text!r} is over")
    return then


def _text(id_: str, secret: str) -> str:
    return f"{PREFIX}_{id_}_{secret}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()
