"""What a runtime does not run as it is: plain data for reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["fails", "falls-back", "unfused"]


@dataclass(frozen=True)
class Finding:
    """One operator, or the model as a whole, that a runtime does not run as it is.

    Attributes:
        node: the label of the operator; "" for the model as a whole.
        operator: its type.
        severity: fails (the runtime refuses the file), falls-back (it runs on the CPU) or unfused (it runs in parts).
        code: the stable name of the reason.
        sentence: the reason in one sentence.
        source: the document that says so.
        advice: what to do about it; "" where nothing can be done.
    """

    node: str
    operator: str
    severity: Severity
    code: str
    sentence: str
    source: str = ""
    advice: str = ""
