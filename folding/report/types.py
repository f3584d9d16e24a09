"""In which types a model computes, and the digests of its files: plain data for reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Placed:
    """The type in which one operator computes.

    Attributes:
        label: the name of the operator.
        op: its type.
        dtype: the type in which it computes: float32, float16 or bfloat16.
        reason: why it stays in float32; "" where it does not.
    """

    label: str
    op: str
    dtype: str
    reason: str = ""


@dataclass(frozen=True)
class Rounded:
    """What rounding did to a constant that lost more than digits by it.

    Attributes:
        name: the name of the constant.
        elements: how many it has.
        clamped: how many were beyond the range, and became its largest number.
        subnormal: how many keep fewer digits.
        flushed: how many became zero.
        bound: the number to which those beyond the range were clamped.
    """

    name: str
    elements: int
    clamped: int = 0
    subnormal: int = 0
    flushed: int = 0
    bound: float = 0.0


@dataclass(frozen=True)
class FileDigest:
    """The digest of a file that was written.

    Attributes:
        name: its path, relative to the digest file, with slashes.
        sha256: its SHA-256, in hexadecimal.
    """

    name: str
    sha256: str
