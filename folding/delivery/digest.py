"""The digests of the files of a model, in the format of GNU `sha256sum`.

`sha256sum -c` checks it, and a signature of this one small file is one of all of them (`cosign sign-blob`, `gpg
--detach-sign`, `minisign`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from folding.report.types import FileDigest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SUFFIX = ".sha256"  # of the file beside a model, after its full name
OF_A_FOLDER = "SHA256SUMS"  # in a folder that is delivered as a whole
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r"})


def hashed(files: Mapping[str, Path]) -> tuple[FileDigest, ...]:
    """The digest of each file, sorted by name.

    Raises:
        OSError: one cannot be read.
    """
    found = []
    for name, path in sorted(files.items()):
        with path.open("rb") as file:
            found.append(FileDigest(name, hashlib.file_digest(file, "sha256").hexdigest()))
    return tuple(found)


def written(digests: tuple[FileDigest, ...]) -> bytes:
    """The content of the digest file; a name with a backslash or a line break is escaped, as `sha256sum` does."""
    return "".join(_line(one) for one in digests).encode("utf-8", "surrogateescape")


def _line(digest: FileDigest) -> str:
    escaped = digest.name.translate(_ESCAPES)
    return f"{chr(92) if escaped != digest.name else ''}{digest.sha256}  {escaped}\n"
