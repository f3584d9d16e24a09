"""Blobs: contents stored under their SHA-256. interface (what a store does), folder (a store in a directory).

spool (uploads on their way); remote (opens an object store), objects (S3 and the like), cache (what is here of them).

May import: `service.left`, `service.problems`, `service.threads`.
"""

from service.blobs.folder import BLOBS, PARTIAL, DirectoryBlobs, blob_path, has_content, sync_folder
from service.blobs.interface import Blob, BlobStore, DamagedError, Draft, StoreError, is_digest
from service.blobs.remote import remote_blobs

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
    "remote_blobs",
    "sync_folder",
]
