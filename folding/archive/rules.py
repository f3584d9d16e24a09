"""The rules for an archive of a model: its limits, the allowed names, and the error that refuses it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from folding.errors import FoldingError
from folding.onnxfile import Limits

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_PACK_FLAT = "pack plain files side by side (zip -j model.zip model.onnx model.onnx.data)"
# Names that Windows opens as a device, with any suffix: learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])[ ]*(\..*)?", re.IGNORECASE)
_NOT_ON_WINDOWS = frozenset('<>:"|?*')
MODEL_SUFFIX = ".onnx"
NAME_BYTES = 8  # random bytes in the name of a draft, so that two runs never collide
NAME_SHOWN = 100  # characters of a name in a sentence


class ArchiveError(FoldingError):
    """An archive is refused, or a model cannot be packed as one; the message says why and what to do."""


@dataclass(frozen=True)
class ArchiveLimits:
    """Size limits for an uploaded archive; a message names the field, so that the operator knows which one to raise."""

    entries: int = 1_000
    name_bytes: int = 255  # what the usual file systems allow
    directory_bytes: int = 2 * MIB  # read at once: 1,000 entries with long names and extra fields take 0.5 MiB
    total_bytes: int = 64 * GIB  # of all files together, inflated
    ratio: int = 100  # inflated to packed size of one file; trained weights reach 2, deflate at most 1,032
    ratio_free_bytes: int = 16 * MIB  # smaller files may exceed the ratio: a model of zeros does
    model: Limits = field(default_factory=Limits)  # for reading which external data the model refers to

    def hold(self, name: str, value: int, what: str) -> None:
        """Check that `value` does not exceed the limit called `name`.

        Raises:
            ArchiveError: it does; the message states what was found and which limit it exceeds.
        """
        limit: int = getattr(self, name)
        if value > limit:
            raise ArchiveError(f"{what} exceeds the limit {name} ({value:,} > {limit:,})")


def shown(name: str) -> str:
    """A name for use in a message: shortened, and without characters that control a terminal."""
    return ascii(name if len(name) <= NAME_SHOWN else f"{name[:NAME_SHOWN]}...")


def require_plain(name: str) -> None:
    """Check that a name means one file in the folder where it is unpacked, on every system.

    Raises:
        ArchiveError: it has a folder, a drive, a device, or characters that some system treats specially.
    """
    reasons = {
        "has no name": not name,
        f"is in a folder; {_PACK_FLAT}": "/" in name or "\\" in name,
        "means a folder": name in {".", ".."},
        "has a character that no portable file name has": not name.isprintable() or bool(_NOT_ON_WINDOWS & set(name)),
        "ends in a dot or a space": name.endswith((".", " ")),
        "is the name of a device": _DEVICE.fullmatch(name) is not None,
    }
    for reason, applies in reasons.items():
        if applies:
            raise ArchiveError(f"the archive's entry {shown(name)} {reason}")


def same_file(name: str) -> str:
    """A key that is equal for names that a file system may treat as one: it ignores case and composed accents."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
