"""PyTorch as the judge of an ONNX file: the module in float64 says what is right, and in its own type how it rounds.

For every output: `value` is that of the module's float64 twin, the noise is how far the module in its own type is from
it, as it is and with inputs rounded otherwise. The file may be off by as much, as `folding.verification.judge` says.
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from folding.report.model import OutputError, Verification
from folding.torch.examples import Example, array
from folding.verification import judge, samples
from folding.verification.judge import Reference, Rounding
from folding.verification.originals import DRIFT
from folding.verification.runtime import UNOPTIMISED, Interpreted, Runner, RuntimeRefusalError
from folding.verification.samples import UnverifiableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from folding.report.model import VerificationStatus
    from folding.verification.judge import Array, Finding

    Run = Callable[[Example], list[Array]]

NO_KERNEL = "could not find an implementation"  # how ONNX Runtime says that it has none for a type
UNJUDGED: Final = "not verified"
ATTRIBUTES = 2.0**-23  # ONNX's attributes are float32, also the epsilon of a normalization in float64
INTERPRETED_SECONDS = 600.0  # for a model that NumPy computes, as float64 ones


class Reference64:
    """A module, its float64 twin, and what both return on the samples."""

    def __init__(self, module: torch.nn.Module, calls: Sequence[Example], max_error: float | None = None) -> None:
        self._module, self.calls, self.notes = module, calls, list[str]()
        self.rounding = Rounding(_epsilon(module, calls), max_error=max_error)
        self.own = [_arrays(call.run(module)) for call in calls]
        twin = self._twin()
        exact = twin or (lambda call: _arrays(call.run(module)))
        self._references = [list(self._judged(exact, call, own)) for call, own in zip(calls, self.own, strict=True)]
        self.is_exact = twin is not None

    def _twin(self) -> Run | None:
        """The module in float64; None where it does not run in it."""
        try:
            with torch.no_grad():
                twin = copy.deepcopy(self._module).double()
            _arrays(self.calls[0].map(_double).run(twin))
        except Exception as error:  # noqa: BLE001  a module may do anything
            reason = " ".join(str(error).split())[:100]
            self.notes.append(f"the module does not run in float64 ({reason}): it was compared in its own type only")
            return None
        return lambda call: _arrays(call.map(_double).run(twin))

    def _judged(self, exact: Run, call: Example, own: list[Array]) -> Iterator[Reference]:
        """What is right for every output of a call, and the noise of the module itself."""
        references = [Reference.of("", _float64(value)) for value in exact(call)]
        _widen(references, own)
        self._perturb(references, call)
        return iter(references)

    def _perturb(self, references: Sequence[Reference], call: Example) -> None:
        """Widen by what the module does with inputs that are rounded otherwise, and with inputs off by several."""
        for relative, drift, amplified in ((self.rounding.epsilon, 0.0, False), (self.rounding.swing, DRIFT, True)):
            moved = call.map(lambda t, r=relative, d=drift: _moved(t, r, d))
            _widen(references, _arrays(moved.run(self._module)), amplified=amplified)

    def lowered(self, epsilon: float, exported: Path, rough: Path | None) -> Reference64:
        """The same for a file with numbers of fewer digits, `epsilon` apart, which runs as an emulation.

        A correct conversion may be off by what `rough` is from `exported`, the same file with every number rounded to
        these digits; where that does not run, by what the module shows with its inputs rounded so.
        """
        lower = copy.copy(self)
        lower.rounding = replace(self.rounding, epsilon=epsilon, is_emulated=True)
        lower._references = [
            [replace(one, jitter=one.jitter.copy(), swing=one.swing.copy()) for one in of] for of in self._references
        ]
        found = None if rough is None else _roughened(exported, rough, self.calls, epsilon)
        for place, references in enumerate(lower._references):
            if found is None:
                lower._perturb(references, self.calls[place])
            for reference, apart in zip(references, found[place] if found else [], strict=found is not None):
                np.maximum(reference.jitter, apart, out=reference.jitter)
        lower.rounding = replace(lower.rounding, is_measured=found is not None)
        return lower

    def verdict(self, path: Path, described: str) -> Verification:
        """How an ONNX file compares; "not verified" where ONNX Runtime does not run it."""
        began = time.monotonic()
        try:
            model = _loaded(path)
            names = [name for name, *_ in model.inputs]
            outputs = [model.run(fed(call, names)) for call in self.calls]
        except (RuntimeRefusalError, UnverifiableError) as error:
            return Verification(UNJUDGED, f"against PyTorch: {error}", inputs=described)
        return self._compared(outputs, described, began)

    def verdict_of(self, folded: torch.nn.Module, described: str) -> Verification:
        """How another module compares."""
        began = time.monotonic()
        outputs = [dict(enumerate(_arrays(call.run(folded)))) for call in self.calls]
        named = [{f"output {place}": value for place, value in one.items()} for one in outputs]
        return self._compared(named, described, began)

    def _compared(self, outputs: list[dict[str, Array]], described: str, began: float) -> Verification:
        """The verdict on the outputs of every call, by name and in order."""
        counts = {len(one) for one in outputs} | {len(one) for one in self._references}
        if len(counts) > 1:
            numbers = f"the file has {len(outputs[0])} outputs, and the module returns {len(self._references[0])}"
            return Verification(UNJUDGED, f"against PyTorch: {numbers}", inputs=described)
        found = [self._findings(one, place) for place, one in enumerate(outputs)]
        findings = [finding for one in found for finding, _ in one]
        bad, unsettled = ([f.reason for f in findings if f.judgement == kind] for kind in ("bad", "unsettled"))
        status: VerificationStatus = "failed" if bad else UNJUDGED if unsettled else "verified"
        apart = max((float(distance) for one in found for _, distance in one), default=0.0)
        notes = [*self.notes, f"against the module in its own type, the largest error is {apart:.3g}"]
        return Verification(
            status,
            next(iter(bad + unsettled), ""),
            len(self.calls),
            described,
            _merged(finding.error for finding in findings),
            time.monotonic() - began,
            tuple(notes),
        )

    def _findings(self, outputs: dict[str, Array], place: int) -> list[tuple[Finding, float]]:
        """The judgement of every output of one call, and its distance from the module in its own type."""
        references, own = self._references[place], self.own[place]
        result = []
        for (name, value), reference, expected in zip(outputs.items(), references, own, strict=True):
            finding = judge.judge(replace(reference, name=name), _float64(value), self.rounding)
            apart = judge.difference(_float64(expected), _float64(value)) if value.shape == expected.shape else np.inf
            result.append((finding, float(np.max(apart, initial=0.0))))
        return result


def _widen(references: Sequence[Reference], outputs: Sequence[Array], *, amplified: bool = False) -> None:
    """Record a legitimate execution, of which these are the outputs in order."""
    for reference, value in zip(references, outputs, strict=True):
        reference.widen(_float64(value), amplified=amplified)


def fed(call: Example, names: Sequence[str]) -> dict[str, Array]:
    """The arrays for the inputs of a file, which an exporter may have renamed, or dropped where nothing reads them.

    Raises:
        UnverifiableError: it cannot be determined which is which.
    """
    feeds = call.feeds()
    if set(names) <= set(feeds):
        return {name: feeds[name] for name in names}
    if len(names) == len(feeds):
        return dict(zip(names, feeds.values(), strict=True))
    raise UnverifiableError(f"the file's inputs are {', '.join(names)}, the module's tensors {', '.join(feeds)}")


def _roughened(exported: Path, rough: Path, calls: Sequence[Example], epsilon: float) -> list[list[Array]] | None:
    """How far a rounded file, as it is and with rounded inputs, is from the file itself; None where it does not run."""
    try:
        files = _loaded(exported), _loaded(rough)
        names = [[name for name, *_ in file.inputs] for file in files]
        found = []
        for call in calls:
            exact = files[0].run(fed(call, names[0])).values()
            moved = call.map(lambda tensor: _moved(tensor, epsilon, 0.0))
            runs = [files[1].run(fed(one, names[1])).values() for one in (call, moved)]
            found.append([_largest(one, others) for one, *others in zip(exact, *runs, strict=True)])
    except (RuntimeRefusalError, UnverifiableError):
        return None
    return found


def _largest(exact: Array, others: Sequence[Array]) -> Array:
    """The largest difference of each element."""
    largest: Array = np.maximum.reduce([judge.difference(_float64(exact), _float64(one)) for one in others])
    return largest


def _loaded(path: Path) -> Runner | Interpreted:
    try:
        return Runner(path, UNOPTIMISED)
    except RuntimeRefusalError as error:
        if NO_KERNEL not in str(error).lower():
            raise
        return Interpreted(path, INTERPRETED_SECONDS)


def _epsilon(module: torch.nn.Module, calls: Sequence[Example]) -> float:
    """The relative spacing of the narrowest floating type among weights and inputs, at least that of attributes."""
    tensors = [*module.parameters(), *module.buffers(), *(t for call in calls for t in call.tensors)]
    kinds = {tensor.dtype for tensor in tensors if tensor.dtype.is_floating_point} or {torch.float32}
    return max(ATTRIBUTES, *(float(torch.finfo(kind).eps) for kind in kinds))


def _moved(tensor: torch.Tensor, relative: float, drift: float) -> torch.Tensor:
    """A tensor with every value rounded otherwise."""
    if not tensor.is_floating_point():
        return tensor
    wide = {"": tensor.detach().double().cpu().numpy()}
    return torch.as_tensor(samples.rounded(wide, relative, drift)[""]).to(tensor)


def _double(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _arrays(tensors: list[torch.Tensor]) -> list[Array]:
    return [array(tensor) for tensor in tensors]


def _float64(value: Array) -> Array:
    """Floating values in float64, which holds each of them; whole numbers in int64."""
    if judge.is_float(value):
        return value.astype(np.float64)
    return value.astype(np.int64) if np.issubdtype(value.dtype, np.integer) else value


def _merged(errors: Iterator[OutputError] | Any) -> tuple[OutputError, ...]:
    """The worst of the errors of every output."""
    worst: dict[str, OutputError] = {}
    for error in errors:
        known = worst.get(error.name)
        if known is None or (known.ok, -known.max_absolute) > (error.ok, -error.max_absolute):
            worst[error.name] = error
    return tuple(worst.values())
