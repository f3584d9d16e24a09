"""What equalization did with the channels of one value between weights: plain data for reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Equalized:
    """The channels of one value, and of all values that are scaled with it.

    Attributes:
        value: the name of the value.
        producers: labels of the operators whose weights have these channels as their outputs.
        consumers: labels of the operators whose weights have them as their inputs.
        channels: how many of them were scaled; 0 where all stay.
        before: how many times the range of a typical channel the largest one has, in the least even of these weights.
        after: the same afterwards.
        code: why they stay: the stable name of the reason, see docs/codes.md; "" where they were scaled.
        reason: the same in one sentence.
        at: the label of the operator that refused; "" where it is the value itself.
    """

    value: str
    producers: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    channels: int = 0
    before: float = 1.0
    after: float = 1.0
    code: str = ""
    reason: str = ""
    at: str = ""
