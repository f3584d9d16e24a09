"""Blobs: contents stored under their SHA-256. interface (what a store does), folder (a store in a directory).

spool (uploads on their way); objects (S3 and the like) and cache (what of it is on this disk), which are imported where
they are used: they need the extra `cluster`.

May import: `service.left`, `service.problems`, `service.threads`.
"""

from service.blobs.folder import BLOBS, PARTIAL, DirectoryBlobs, blob_path, has_content, sync_folder
from service.blobs.interface import Blob, BlobStore, DamagedError, Draft, StoreError, is_digest

__all__ = [
    "BLOBS",
    "PARTIAL",
    "Blob",
    "BlobStore",
    "DamagedError",
    "DirectoryBlobs",
    "Draft",
    "StoreError",
    "blob_path",
    "has_content",
    "is_digest",
    "sync_folder",
]
