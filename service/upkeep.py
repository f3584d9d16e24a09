"""Upkeep: checks and copies of a data folder, also while a server uses it.

A copy is a data folder, too. Its ledger, its blobs and its secret agree: blobs are copied and checked first, then the
ledger, then the blobs that came meanwhile, and what could not be copied whole is not in the ledger of the copy.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.blobs import BLOBS, PARTIAL, blob_path, has_content, sync_folder
from service.ledger.sql import FILE, open_ledger
from service.secret import FILE as SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from service.blobs import Blob
    from service.ledger.records import Damage

PRIVATE = 0o700
BLOCK = 1 << 20
DRAFT = "draft"  # the folder of a ledger that is not complete
PASSES = 2  # the second one copies what came during the first


@dataclass(frozen=True)
class Checked:
    """What was read: blobs, their bytes, those that are damaged or missing, and what that did to jobs."""

    blobs: int
    bytes: int
    damaged: tuple[Blob, ...]
    damage: Damage


def scrub(data: Path) -> Checked:
    """Read every blob that a key holds, and release those that are not whole: see `Holdings.lost` of the ledger.

    A server that runs folds the results again; without one, the next server does.

    Raises:
        RuntimeError: the errors of `service.ledger.sql.open_ledger`.
    """
    ledger = open_ledger(data)
    try:
        held = {holding.blob for holding in ledger.held()}
        damaged = tuple(blob for blob in sorted(held, key=lambda blob: blob.sha256) if _removed(data, blob))
        return Checked(len(held), _size(held), damaged, ledger.lost([blob.sha256 for blob in damaged]))
    finally:
        ledger.close()


def copy(source: Path, target: Path) -> Checked:
    """Copy a data folder to `target`, which may hold an earlier copy; only what is new is copied then.

    The ledger of the copy appears last, and at once.

    Raises:
        RuntimeError: there is no ledger in `source`, or it cannot be read.
        OSError: a file cannot be read or written.
    """
    if not (source / FILE).is_file():
        raise RuntimeError(f"there is no ledger in {source}; name the data folder of a server, or a copy of one")
    draft = target / DRAFT
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True, mode=PRIVATE)
    for _ in range(PASSES):
        _copy_ledger(source / FILE, draft / FILE)
        ledger = open_ledger(draft)
        try:
            held = {holding.blob for holding in ledger.held()}
            missing = tuple(blob for blob in held if not _copied(source, target, blob))
        finally:
            ledger.close()
    ledger = open_ledger(draft)
    try:
        damage = ledger.lost([blob.sha256 for blob in missing])
    finally:
        ledger.close()
    with suppress(FileNotFoundError):
        _write(target / SECRET, (source / SECRET).read_bytes())
    _sync(draft / FILE)
    (draft / FILE).rename(target / FILE)
    shutil.rmtree(draft)
    sync_folder(target)
    _prune(target, held)
    return Checked(len(held), _size(held), missing, damage)


def _size(blobs: set[Blob]) -> int:
    return sum(blob.bytes for blob in blobs)


def _removed(data: Path, blob: Blob) -> bool:
    """Whether a blob is not whole, and was removed. It is put aside first, and looked at again: a server may write."""
    path = blob_path(data / BLOBS, blob.sha256)
    if has_content(path, blob):
        return False
    aside = data / BLOBS / PARTIAL / secrets.token_hex(16)
    aside.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
    with suppress(FileNotFoundError):
        path.rename(aside)
        if has_content(aside, blob):
            aside.rename(path)
            return False
        aside.unlink()
    return True


def _copy_ledger(source: Path, target: Path) -> None:
    """Copy a database as it is at one moment, whoever writes it meanwhile."""
    target.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as read,
            closing(sqlite3.connect(target)) as written,
        ):
            read.backup(written)
    except sqlite3.Error as error:
        raise RuntimeError(f"{source} cannot be copied: {error}") from None


def _copied(source: Path, target: Path, blob: Blob) -> bool:
    """Copy a blob, unless it was copied before; False if it is not whole."""
    place = blob_path(target / BLOBS, blob.sha256)
    with suppress(FileNotFoundError):
        if place.stat().st_size == blob.bytes:
            return True
    place.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
    draft = target / DRAFT / secrets.token_hex(16)
    digest = hashlib.sha256()
    try:
        with blob_path(source / BLOBS, blob.sha256).open("rb") as read, draft.open("xb") as written:
            while block := read.read(BLOCK):
                digest.update(block)
                written.write(block)
            written.flush()
            os.fsync(written.fileno())
        if digest.hexdigest() != blob.sha256:
            return False
        draft.chmod(0o400)
        draft.rename(place)
        sync_folder(place.parent)
    except FileNotFoundError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def _prune(target: Path, held: set[Blob]) -> None:
    """Remove the blobs of earlier copies that the ledger does not know any more."""
    kept = {blob_path(target / BLOBS, blob.sha256) for blob in held}
    for path in (target / BLOBS).glob("sha256/*/*"):
        if path not in kept:
            path.unlink()


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123  with a mode
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def _sync(path: Path) -> None:
    path.chmod(0o600)
    with path.open("rb") as file:
        os.fsync(file.fileno())
