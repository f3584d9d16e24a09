"""`bnfold explain`: what a code of a report means, with an example that stays and one that folds.

The text is that of docs/codes.md, of which a copy lies beside this file and is installed with it.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from folding.errors import OptionError
from folding.refusal import CODES

DOCUMENT = Path(__file__).with_name("codes.md")
SECTION = re.compile(r"^## `([a-z-]+)`$", re.MULTILINE)


def explained(code: str) -> str:
    """The section about a code, for a terminal.

    Raises:
        OptionError: there is no such code; it names those that come closest.
    """
    if code not in CODES:
        close = get_close_matches(code, CODES, n=3)
        meant = f"did you mean {' or '.join(close)}?" if close else "`bnfold explain` lists them all"
        raise OptionError(f"explain: there is no code {code!r}; {meant}")
    return f"{code}\n\n{sections()[code]}"


def sections() -> dict[str, str]:
    """What the document says about each code, without its heading."""
    _, *parts = SECTION.split(DOCUMENT.read_text(encoding="utf-8"))
    return {name: text.strip() + "\n" for name, text in zip(parts[::2], parts[1::2], strict=True)}


def listed() -> str:
    """Every code and what it means, one a line."""
    width = max(map(len, CODES))
    rows = [f"{code:<{width}}  {meaning}" for code, (meaning, _) in CODES.items()]
    return (
        "\n".join([*rows, "", "bnfold explain CODE shows an example of one that stays, and of one that folds."]) + "\n"
    )
