"""Failures of an export: what PyTorch says over pages, as one sentence with a way out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from folding.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator

Exporter = Literal["dynamo", "torchscript"]
QUOTED = 300  # characters of PyTorch's own message in a sentence
OTHER = {"dynamo": "torchscript", "torchscript": "dynamo"}


class Failure(NamedTuple):
    """A known failure: what PyTorch's text has in it, the sentence, and what to do; `{0}` is what the pattern found."""

    sign: re.Pattern[str]
    what: str
    advice: str


def _failure(sign: str, what: str, advice: str) -> Failure:
    return Failure(re.compile(sign, re.DOTALL), what, advice)


OPERATOR = r"([\w.:]+)"
FAILURES = (
    _failure(
        rf"(?:No ONNX function found|No decompositions registered)[^<]*<OpOverload\(op='{OPERATOR}'",
        "the exporter has no ONNX form of the operator {0}",
        "write that part with other operators, or try exporter={other!r}",
    ),
    _failure(
        rf"Exporting the operator '{OPERATOR}' to ONNX opset version (?:\d+) is not supported",
        "the exporter has no ONNX form of the operator {0}",
        "write that part with other operators, or try exporter={other!r}",
    ),
    _failure(
        r"Could not guard on data-dependent|GuardOnDataDependentSymNode|data.dependent (?:expression|branching|control)"
        r"|Dynamic control flow is not supported",
        "what the module does depends on the values of its inputs (an `if` or a slice by a tensor's value)",
        "write it with torch.where or torch.cond, tell limits with torch._check, or try exporter={other!r}, which "
        "records the way of the example inputs only",
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
        'give one entry for each argument of forward: {{"x": {{0: "batch"}}}}',
    ),
)


def told(error: Exception, exporter: Exporter) -> ExportError:
    """The sentence for what an exporter raised."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return ExportError(
            f"the exporter {exporter!r} needs the package {error.name.partition('.')[0]}, which is not installed; "
            f"pip install 'bnfold[torch]', or try exporter={OTHER[exporter]!r}"
        )
    texts = list(_texts(error))
    other = {"other": OTHER[exporter]}
    for failure in FAILURES:
        for text in texts:
            if found := failure.sign.search(text):
                name = next((part for part in found.groups() if part), "")
                what = failure.what.format(name).replace(" ()", "")
                return ExportError(f"the module cannot be exported: {what}; {failure.advice.format(**other)}")
    return ExportError(f"the module cannot be exported: {_short(texts)}; try exporter={other['other']!r}")


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
