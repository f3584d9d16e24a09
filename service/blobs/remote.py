"""Where blobs in an object store are opened: obstore is an extra, and is loaded here alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from service.blobs.interface import BlobStore


def remote_blobs(url: str, folder: Path, low_water: int = 0, cache_bytes: int = 0) -> BlobStore:
    """The store at a URL; `folder` is on this machine, for what is on its way, and for `cache_bytes` of what came.

    Raises:
        RuntimeError: obstore is not installed.
        StoreError: the URL names no store that there is.
    """
    try:
        from service.blobs.objects import ObjectBlobs  # noqa: PLC0415  an extra
    except ModuleNotFoundError as error:
        raise RuntimeError(f"BNFOLD_BLOBS_URL needs the package {error.name}; install the extra `cluster`") from None
    return ObjectBlobs(url, folder, low_water, cache_bytes)
