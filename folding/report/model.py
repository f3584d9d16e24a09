"""Report: what was folded where, what stayed and why, and how the result compares. Plain data, and its text forms."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

Status = Literal["folded", "split", "merged", "kept", "removed"]
VerificationStatus = Literal["verified", "failed", "not verified"]

BATCH_NORMALIZATION = "BatchNormalization"


@dataclass(frozen=True)
class Refusal:
    """Why an affine did not move one way: a stable code, a sentence, where, and what the user can do about it."""

    code: str
    reason: str
    at: str  # label of the node that refused, "" when it is the affine itself
    hint: str  # what to do; "" when nothing can be done


@dataclass(frozen=True)
class Outcome:
    """What became of one affine (a BatchNormalization, or a decomposed one such as Mul or Add)."""

    node: str  # the node's name, or its first output where it has none
    operator: str  # BatchNormalization, Mul, Add, Sub, Div, Neg
    status: Status
    direction: Literal["backward", "forward", ""] = ""
    path: tuple[str, ...] = ()  # labels of the nodes it moved through, nearest first
    absorbed_by: tuple[str, ...] = ()  # labels of the nodes whose constants changed
    operators: tuple[str, ...] = ()  # what these nodes are: those of `path`, then those of `absorbed_by`
    channels: int = 0  # number of distinct (scale, shift) pairs
    scales: tuple[float, ...] = ()  # |scale| per channel, at most SCALES_SHOWN values, evenly sampled after sorting
    scale_min: float = 0.0  # smallest and largest |scale|
    scale_max: float = 0.0
    shift_max: float = 0.0  # largest |shift|
    backward: Refusal | None = None  # why it did not move there (kept), both directions
    forward: Refusal | None = None


SCALES_SHOWN = 64


@dataclass(frozen=True)
class OutputError:
    """How far one graph output of the folded model is from the original's, over all samples."""

    name: str
    max_absolute: float
    max_relative: float  # relative to the largest magnitude of the original's output
    noise: float  # largest absolute difference between two legitimate executions of the original
    tolerance: float  # the absolute error that was still accepted
    ok: bool


@dataclass(frozen=True)
class Verification:
    """The verdict of `folding.verify`: figures if it ran, the reason if it did not."""

    status: VerificationStatus
    reason: str = ""  # for "failed" and "not verified": one sentence
    samples: int = 0
    inputs: str = ""  # where the samples came from, and the shapes chosen: "generated: input float32 1x3x224x224"
    outputs: tuple[OutputError, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """The whole story of one fold; `as_dict` is the JSON form and its keys are stable."""

    version: str
    source: str
    target: str | None  # None for a dry run and for `inspect`
    bn_before: int
    bn_after: int
    nodes_before: int
    nodes_after: int
    bytes_before: int  # model file and its external data
    bytes_after: int
    changed: bool
    outcomes: tuple[Outcome, ...]
    verification: Verification
    seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())  # what else a user should know, a sentence each

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-ready plain data: lists for tuples, None for a figure that is not finite."""
        plain: dict[str, Any] = json_ready(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, plain: object) -> Report:
        """The report that `as_dict` told; NaN for a figure that was not finite. Keys it does not know are ignored.

        Raises:
            ValueError: it is no report: a key is missing or has a value of another type; the message names it.
        """
        report: Report = _built(cls, plain, "report")
        return report

    def to_json(self) -> str:
        """The report as one JSON document (RFC 8259, ASCII only, so no name can reach a terminal as a command)."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n"


def json_ready(value: Any) -> Any:
    """The value with lists for tuples and None for NaN and infinity, which JSON cannot say."""
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _built(kind: Any, plain: Any, where: str) -> Any:
    """The value of an annotated type that `json_ready` made `plain` of."""
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass(kind, plain, where)
    if get_origin(kind) is UnionType:
        chosen = next(part for part in get_args(kind) if part is not NoneType)
        return None if plain is None else _built(chosen, plain, where)
    if get_origin(kind) is tuple and isinstance(plain, list):
        item = get_args(kind)[0]
        return tuple(_built(item, value, f"{where}[{index}]") for index, value in enumerate(plain))
    if get_origin(kind) is Literal and isinstance(plain, str) and plain in get_args(kind):
        return plain
    if kind is float and (plain is None or (isinstance(plain, (int, float)) and not isinstance(plain, bool))):
        return math.nan if plain is None else float(plain)
    if kind in {str, bool, int} and type(plain) is kind:
        return plain
    raise ValueError(f"{where} is {plain!r:.100}, which a report cannot hold there")


def _dataclass(kind: type, plain: Any, where: str) -> Any:
    if not isinstance(plain, dict):
        raise ValueError(f"{where} is {plain!r:.100}; it should be an object")  # noqa: TRY004  as for all that it holds
    types, values = get_type_hints(kind), {}
    for declared in fields(kind):
        if declared.name in plain:
            values[declared.name] = _built(types[declared.name], plain[declared.name], f"{where}.{declared.name}")
        elif declared.default is MISSING and declared.default_factory is MISSING:
            raise ValueError(f"{where}.{declared.name} is missing")
    return kind(**values)
