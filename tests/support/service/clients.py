"""Clients without patience, and what a folder holds before and after them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from folding.client.client import Client, Retries
from folding.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_VERIFY = Options(verify=False)
QUICK = Retries(attempts=4, first=0.001, longest=0.002)


def client(url: str, key: str | None = None) -> Client:
    return Client(url, key, retries=QUICK)


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Nothing in a folder, hidden or not, is another one afterwards."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    yield
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
