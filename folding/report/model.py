"""Report: what was folded where, what stayed and why, and how the result compares. Plain data, and its forms."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from html import escape
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from folding.options import as_flags
from folding.report import forms
from folding.report.changes import Change  # noqa: TC001  `from_dict` reads the types at run time
from folding.report.equalized import Equalized  # noqa: TC001
from folding.report.findings import Finding  # noqa: TC001
from folding.report.types import FileDigest, Placed, Rounded  # noqa: TC001

Status = Literal["folded", "split", "merged", "kept", "removed"]
VerificationStatus = Literal["verified", "failed", "not verified"]

BATCH_NORMALIZATION = "BatchNormalization"
_Refused = TypeVar("_Refused", "Outcome", "Leftover")


@dataclass(frozen=True)
class Refusal:
    """Why an affine map did not move one way.

    Attributes:
        code: the stable name of the reason, see docs/codes.md.
        reason: the reason in one sentence.
        at: the label of the node that refused; "" where it is the affine itself.
        hint: what to do about it; "" where nothing can be done.
    """

    code: str
    reason: str
    at: str
    hint: str


@dataclass(frozen=True)
class Leftover:
    """The operator that is left of a map that folded in part.

    Attributes:
        node: the name of the operator.
        operator: Mul or Add.
        after: the name of the operator whose result it reads; "" where that is an input of the graph.
        backward: why it does not move backward.
        forward: why it does not move forward.
    """

    node: str
    operator: str
    after: str
    backward: Refusal | None = None
    forward: Refusal | None = None


SCALES_SHOWN = 64


@dataclass(frozen=True)
class Outcome:
    """The outcome of one affine map: a BatchNormalization, or a decomposed one such as Mul or Add.

    Attributes:
        node: the name of its node, or the node's first output where it has no name.
        operator: BatchNormalization, Mul, Add, Sub, Div or Neg.
        status: folded (into weights), split (one Mul or Add is left of it), merged (with another map), removed
            (no other node had to change) or kept.
        direction: backward or forward; "" where it did not move.
        path: labels of the nodes that it moved through, nearest first.
        absorbed_by: labels of the nodes whose constants changed.
        operators: the operators of the nodes in `path`, then of those in `absorbed_by`.
        channels: the number of (scale, shift) pairs.
        scales: |scale| of every channel, sorted; of more than 64 channels 64 values, evenly sampled.
        scale_min: the smallest |scale|.
        scale_max: the largest |scale|.
        shift_max: the largest |shift|.
        backward: why it did not move backward, where it was kept.
        forward: why it did not move forward, where it was kept.
        left: the operators that are left of it, where it was split; several maps may share one.
        module: the name of the PyTorch module that it comes from; "" where that is unknown.
    """

    node: str
    operator: str
    status: Status
    direction: Literal["backward", "forward", ""] = ""
    path: tuple[str, ...] = ()
    absorbed_by: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    channels: int = 0
    scales: tuple[float, ...] = field(default=(), repr=False)
    scale_min: float = 0.0
    scale_max: float = 0.0
    shift_max: float = 0.0
    backward: Refusal | None = None
    forward: Refusal | None = None
    left: tuple[Leftover, ...] = ()
    module: str = ""


@dataclass(frozen=True)
class OutputError:
    """How far one graph output of the folded model is from the original's, over all samples.

    Attributes:
        name: the name of the output.
        max_absolute: the largest absolute error.
        max_relative: the same relative to the largest magnitude of the original's output.
        noise: the largest absolute difference between two legitimate executions of the original.
        tolerance: the absolute error that is still accepted.
        ok: whether the error is within the tolerance.
        sensitivity: the smallest change of folded weights, relative to themselves, that verification notices in this
            output: 0.001, 0.01 or 0.1; 1 where not even a change by 0.1 is noticed, 0 where it was not measured.
        bias_sensitivity: the same of folded biases.
        mean_relative: the mean absolute error, relative to the mean magnitude of the original's output; of integers,
            booleans and strings the share of elements that differ.
    """

    name: str
    max_absolute: float
    max_relative: float
    noise: float
    tolerance: float
    ok: bool
    sensitivity: float = 0.0
    bias_sensitivity: float = 0.0
    mean_relative: float = 0.0


@dataclass(frozen=True)
class Verification:
    """The verdict of `folding.verify`: figures where it ran, the reason where it did not.

    Attributes:
        status: verified, failed or not verified.
        reason: one sentence, where it is not verified, or verified without having run.
        samples: the number of samples that both models ran on.
        inputs: where the samples came from and the shapes chosen: "generated: input float32 1x3x224x224".
        outputs: the error of every graph output.
        seconds: how long it took, in seconds.
        notes: what else a user should know of it, a sentence each.
        frozen: by how much every graph output changed because training mode was turned off, over the same samples; that
            depends on the batch, and is no error of the fold.
    """

    status: VerificationStatus
    reason: str = ""
    samples: int = 0
    inputs: str = ""
    outputs: tuple[OutputError, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    frozen: tuple[OutputError, ...] = ()

    def with_flags(self) -> Verification:
        """The same verdict for a command line: its reason names flags, not Python's options."""
        return replace(self, reason=as_flags(self.reason))


@dataclass(frozen=True)
class Offer:
    """What more folds with another option: found out by planning again, with it and those of the offers before it.

    Attributes:
        option: the option, as Python writes it: ``clamp="always"``.
        more: how many more BatchNormalizations fold, none of them only in part; other maps, where the model has none.
    """

    option: str
    more: int


@dataclass(frozen=True, repr=False)
class Report:
    """The report of one fold; `as_dict` is the JSON form and its keys are stable.

    Attributes:
        version: the version of bnfold.
        source: the path of the model.
        target: the path of the folded model; None for a dry run and for `inspect`.
        bn_before: BatchNormalization nodes before, in all graphs and functions.
        bn_after: BatchNormalization nodes after.
        nodes_before: nodes before, in all graphs and functions.
        nodes_after: nodes after.
        bytes_before: bytes of the model and its external data before.
        bytes_after: bytes of the model and its external data after.
        changed: whether anything was folded or rewritten.
        outcomes: the outcome of every affine map.
        verification: the comparison of both models.
        seconds: how long it took, in seconds.
        notes: what else a user should know, a sentence each.
        offers: what more folds with other options; each adds to those before it.
        runtime: the title of the runtime that was named as the target: "TensorRT 11"; "" if there is none.
        changes: what else was done: cleaned, fused, converted.
        findings: what the runtime refuses, leaves to the CPU or runs in parts.
        equalized: with `equalize`, for each value between weights, whether its channels were scaled, and if not, why.
        types: with a precision, the type in which each operator computes, and why it stays in float32.
        rounded: with a precision, the constants of which rounding lost more than digits.
        recipe: how to hand the file to the runtime: a command line first, then Python, a line each.
        digests: with a digest, that of every file that was written.
    """

    version: str
    source: str
    target: str | None
    bn_before: int
    bn_after: int
    nodes_before: int
    nodes_after: int
    bytes_before: int
    bytes_after: int
    changed: bool
    outcomes: tuple[Outcome, ...]
    verification: Verification
    seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())
    offers: tuple[Offer, ...] = ()
    runtime: str = ""
    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()
    equalized: tuple[Equalized, ...] = ()
    types: tuple[Placed, ...] = ()
    rounded: tuple[Rounded, ...] = ()
    recipe: tuple[str, ...] = ()
    digests: tuple[FileDigest, ...] = ()

    def __repr__(self) -> str:
        return forms.line(self)

    def _repr_html_(self) -> str:
        """The page in a frame of its own, as a notebook shows it: neither takes the other's styles."""
        frame = f'<iframe srcdoc="{escape(self.to_html())}" sandbox="" title="bnfold report"'
        return f'{frame} style="width: 100%; height: 40em; border: 0"></iframe>'

    def to_text(self, width: int = 100) -> str:
        """The report as plain text for a terminal of `width` columns; long names and lists are cut, which it says."""
        return forms.text(self, width)

    def to_html(self) -> str:
        """The report as one self-contained HTML page: no script, no request."""
        return forms.html(self)

    def to_markdown(self) -> str:
        """The report as GitHub-flavoured Markdown."""
        return forms.markdown(self)

    def to_json(self) -> str:
        """The report as one JSON document (RFC 8259, ASCII only, so no name can reach a terminal as a command)."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-ready plain data: lists for tuples, None for a figure that is not finite."""
        plain: dict[str, Any] = json_ready(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, plain: object) -> Report:
        """The report that `as_dict` returned; NaN for a figure that was not finite. Unknown keys are ignored.

        Raises:
            ValueError: it is no report: a key is missing or has a value of another type; the message names it.
        """
        report: Report = _built(cls, plain, "report")
        return report

    def with_flags(self) -> Report:
        """The same report for a command line: hints, notes, offers and reasons name flags, not Python's options."""
        outcomes = tuple(
            replace(_with_flags(outcome), left=tuple(map(_with_flags, outcome.left))) for outcome in self.outcomes
        )
        notes = tuple(map(as_flags, self.notes))
        offers = tuple(replace(offer, option=as_flags(offer.option)) for offer in self.offers)
        findings = tuple(replace(finding, advice=as_flags(finding.advice)) for finding in self.findings)
        with_flags = replace(self, outcomes=outcomes, notes=notes, offers=offers, findings=findings)
        return replace(with_flags, verification=self.verification.with_flags())


def _with_flags(refused: _Refused) -> _Refused:
    """The same map or leftover for a command line."""
    backward, forward = (met and replace(met, hint=as_flags(met.hint)) for met in (refused.backward, refused.forward))
    return replace(refused, backward=backward, forward=forward)


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
