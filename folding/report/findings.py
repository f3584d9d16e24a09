"""What a runtime would make of a model: one finding for each operator that it refuses, leaves or runs slowly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["fails", "falls-back", "unfused"]
SEVERITIES: tuple[Severity, ...] = ("fails", "falls-back", "unfused")  # the worst first


@dataclass(frozen=True)
class Finding:
    """One thing that a runtime would not do as one expects.

    Attributes:
        node: the label of the operator; "" if it is about the whole model.
        operator: its type, with its domain if that is not the standard one.
        severity: fails (the runtime does not load the model), falls-back (the CPU computes it, the data go there and
            back) or unfused (it runs, as several operators where the runtime has one).
        code: a stable word for the reason.
        sentence: what is wrong, with the names of the model.
        source: who says so: the address of a document, or the package that was asked.
        advice: what to do; "" if nothing is known.
    """

    node: str
    operator: str
    severity: Severity
    code: str
    sentence: str
    source: str
    advice: str = ""
