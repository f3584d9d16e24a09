"""Blobs: contents stored under their SHA-256. interface (what a store does), folder (a store in a directory).

May import: `service.left`, `service.problems`, `service.threads`.
"""

from service.blobs.folder import BLOBS, PARTIAL, DirectoryBlobs, blob_path, has_content, sync_folder
from service.blobs.interface import Blob, BlobStore, DamagedError, Draft, is_digest

__all__ = [
    "BLOBS",
    "PARTIAL",
    "Blob",
    "BlobStore",
    "DamagedError",
    "DirectoryBlobs",
    "Draft",
    "blob_path",
    "has_content",
    "is_digest",
    "sync_folder",
]
