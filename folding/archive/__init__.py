"""Archive: a model and its external data as one zip, read as an untrusted file.

rules (limits and names), records (the zip format), directory (what a zip holds), reader, writer.

May import: `folding.onnxfile`, `folding.errors`.
"""

from folding.archive.reader import read_archive
from folding.archive.rules import ArchiveError, ArchiveLimits
from folding.archive.writer import packed, write_archive, write_folder

__all__ = ["ArchiveError", "ArchiveLimits", "packed", "read_archive", "write_archive", "write_folder"]
