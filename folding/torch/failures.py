"""Failures of an export: what PyTorch says over pages, as one sentence with a way out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from folding.errors import ExportError, how_to_install

if TYPE_CHECKING:
    from collections.abc import Iterator

Exporter = Literal["dynamo", "torchscript"]
QUOTED = 300  # characters of PyTorch's own message in a sentence
OTHER = {"dynamo": "torchscript", "torchscript": "dynamo"}


class Failure(NamedTuple):
    """A known failure: what PyTorch's text has in it, the sentence, and what to do; `{0}` is what the pattern found.

    `other` says whether the other exporter may do it, and what it would do.
    """

    sign: re.Pattern[str]
    what: str
    advice: str
    other: str | None = None


def _failure(sign: str, what: str, advice: str, other: str | None = None) -> Failure:
    return Failure(re.compile(sign, re.DOTALL), what, advice, other)


OPERATOR = r"([\w.:]+)"
FAILURES = (
    _failure(
        rf"(?:No ONNX function found|No decompositions registered)[^<]*<OpOverload\(op='{OPERATOR}'",
        "the exporter has no ONNX form of the operator {0}",
        "write that part with other operators",
        "",
    ),
    _failure(
        rf"Exporting the operator '{OPERATOR}' to ONNX opset version (?:\d+) is not supported",
        "the exporter has no ONNX form of the operator {0}",
        "write that part with other operators",
        "",
    ),
    _failure(
        r"Unsupported: ONNX export of (\w+) for unknown",
        "the exporter does not know how many channels a {0} has (behind a padding or a slice with computed bounds)",
        "write the bounds as plain numbers",
        "",
    ),
    _failure(
        r"Could not guard on data-dependent|GuardOnDataDependentSymNode|data.dependent (?:expression|branching|control)"
        r"|Dynamic control flow is not supported",
        "what the module does depends on the values of its inputs (an `if` or a slice by a tensor's value)",
        "write it with torch.where or torch.cond, state limits with torch._check",
        ", which records the way of the example inputs only",
    ),
    _failure(
        r"Constraints violated \(([^)]*)\)|(?:ConstraintViolation|UserErrorType\.CONSTRAINT_VIOLATION)"
        r"|marked .{1,80} as dynamic but your code specialized",
        "the module fixes an axis that dynamic_shapes leaves open ({0})",
        "leave that axis out of dynamic_shapes, or give torch.export.Dim with the bounds that the module allows",
    ),
    _failure(
        r"(?:When `dynamic_shapes` is specified as|dynamic_shapes.{0,200}(?:must match|mismatch|expected)"
        r"|Detected mismatch between the structure of `inputs` and `dynamic_shapes`)",
        "dynamic_shapes does not fit the inputs of the module",
        'give one entry for each argument of forward: {"x": {0: "batch"}}',
    ),
)


def as_export_error(error: Exception, exporter: Exporter | None) -> ExportError:
    """The ExportError for what an exporter raised, or torch.export alone (None), beside which there is no other one."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return ExportError(
            f"the exporter {exporter!r} needs the package {error.name.partition('.')[0]}, which is not installed; "
            + how_to_install("torch")
            + (f"; or try exporter={OTHER[exporter]!r}" if exporter else "")
        )
    texts = list(_texts(error))
    other = f"try exporter={OTHER[exporter]!r}" if exporter else ""
    for failure in FAILURES:
        for text in texts:
            if found := failure.sign.search(text):
                name = next((part for part in found.groups() if part), "")
                what = failure.what.format(name).replace(" ()", "")
                also = "" if failure.other is None or not other else f", or {other}{failure.other}"
                return ExportError(f"the module cannot be exported: {what}; {failure.advice}{also}")
    return ExportError("; ".join(filter(None, (f"the module cannot be exported: {_short(texts)}", other))))


def _texts(error: BaseException) -> Iterator[str]:
    """The texts of an error and of what caused it, the cause first: the exporters wrap each error several times."""
    chain: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in chain:
        chain.append(step)
        step = step.__cause__
    return (f"{type(one).__name__}: {one}" for one in reversed(chain))


def _short(texts: list[str]) -> str:
    """The beginning of the first cause, on one line."""
    line = " ".join(re.sub(r"\x1b\[[\d;]*m", "", texts[0]).split())
    return line if len(line) <= QUOTED else f"{line[:QUOTED]}..."
