"""What an archive of a model may be: its limits, the names it may hold, and the error that refuses it."""

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
# What Windows opens as a device, with any suffix: learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])[ ]*(\..*)?", re.IGNORECASE)
_NOT_ON_WINDOWS = frozenset('<>:"|?*')
MODEL_SUFFIX = ".onnx"
NAME_BYTES = 8  # random bytes of the name of a draft: no two runs meet
NAME_SHOWN = 100  # characters of a name in a sentence


class ArchiveError(FoldingError):
    """An archive that is refused, or a model that cannot be packed as one; the sentence says why and what to do."""


@dataclass(frozen=True)
class ArchiveLimits:
    """How large an uploaded archive may be; messages name the field, so that the operator knows which one to raise."""

    entries: int = 1_000
    name_bytes: int = 255  # what the usual file systems allow
    directory_bytes: int = 2 * MIB  # read at once: 1,000 entries with long names and extra fields take 0.5 MiB
    total_bytes: int = 64 * GIB  # of all files together, inflated
    ratio: int = 100  # inflated to packed, of one file; trained weights reach 2, deflate ends at 1,032
    ratio_free_bytes: int = 16 * MIB  # smaller files may be packed more tightly: a model of zeros is one
    model: Limits = field(default_factory=Limits)  # for reading which external data the model refers to

    def hold(self, name: str, value: int, what: str) -> None:
        """Check that `value` does not exceed the limit called `name`.

        Raises:
            ArchiveError: it does; the sentence says what was found and which limit it exceeds.
        """
        limit: int = getattr(self, name)
        if value > limit:
            raise ArchiveError(f"{what} exceeds the limit {name} ({value:,} > {limit:,})")


def shown(name: str) -> str:
    """A name as a sentence quotes it: short, and nothing that a terminal obeys."""
    return ascii(name if len(name) <= NAME_SHOWN else f"{name[:NAME_SHOWN]}...")


def require_plain(name: str) -> None:
    """Check that a name means one file in the folder it is unpacked to, on every system.

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
    """Equal for two names that some file system takes for one: letters' case and composed accents do not count."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
