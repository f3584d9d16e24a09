"""fold, fold_model and inspect: read, plan, write, verify, report."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from folding import onnxfile
from folding.errors import OptionError
from folding.graph.weights import UnrepresentableError
from folding.onnxfile import Limits
from folding.options import Options, require_options
from folding.planning import fold_graph, freeze_only, offers, unrepresentable
from folding.report.errors import NothingToFoldError, VerificationError
from folding.report.model import Report, Verification
from folding.verification.parent import verify
from folding.verification.standby import prepared

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from folding.onnxfile import OnnxFile
    from folding.planning import Folded
    from folding.refusal import Refused
    from folding.report.model import Outcome

    Progress = Callable[[str, int, int], None]  # stage ("folding", "writing", "verifying"), done, total

DEFAULTS = Options()
LIMITS = Limits()


def fold(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None,
    options: Options = DEFAULTS,
    *,
    progress: Progress | None = None,
    limits: Limits = LIMITS,
) -> Report:
    """Fold the model file `source` into `target`, verify the result and return the report; None for a dry run.

    `target` appears whole or not at all, and may be `source`. Where nothing folds it is a copy of `source`.

    `limits` bounds what `source` may ask of this machine. `progress` is called with the stage ("folding", "writing",
    "verifying"), how much of it is done, and how much there is: in steps, in bytes, and of 1.

    Raises:
        ModelError: `source` is missing, corrupt or unsafe, or ONNX Runtime refuses its types.
        VerificationError: the result differs from the original; nothing was written.
        NothingToFoldError: `options.require_change`, and nothing folds; nothing was written.
        OptionError: the samples in `options.inputs` do not fit the model; a pattern matches nothing; an argument is of
            another type.
    """
    _require_paths(source, target)
    if not isinstance(limits, Limits):
        raise OptionError(f"limits is of type {type(limits).__name__}; give a folding.Limits")
    _require_samples(options)
    blocked: dict[str, Refused] = {}
    again = partial(onnxfile.read, source, limits)
    with prepared(wanted=options.verify and target is not None):
        while True:
            with again() as file:
                try:
                    return _fold_once(file, Path(source), target, options, blocked, progress, again)
                except _Unrepresentable as error:
                    blocked |= _new(error.refusals, blocked)


def inspect(source: str | os.PathLike[str], options: Options = DEFAULTS, *, limits: Limits = LIMITS) -> Report:
    """What `fold` would do with a model, and why not more; nothing is written. Raises as `fold` does."""
    return fold(source, None, options, limits=limits)


def fold_model(model: onnx.ModelProto, options: Options = DEFAULTS) -> tuple[onnx.ModelProto, Report]:
    """Fold a model in memory; `model` itself is not changed. Models over 2 GiB go through files: `fold`.

    Raises:
        As `fold`; ModelError also if the model refers to external data.
    """
    data = onnxfile.serialized(model)
    _require_samples(options)
    started = time.perf_counter()
    blocked: dict[str, Refused] = {}
    while True:
        with onnxfile.from_bytes(data) as file:
            folded = fold_graph(file, options, blocked)
            try:
                result = onnxfile.to_bytes(file) if folded.changed else data
            except UnrepresentableError:
                blocked |= _new(unrepresentable(folded, blocked), blocked)
                continue
            report = _report(folded, file, "model", "model", len(result), started)
            report = _with_offers(report, options, partial(onnxfile.from_bytes, data))
        verdict = _verify_in_memory(data, result, options, folded) if folded.changed else _same(options)
        report = _judged(_verified(report, verdict), options)
        return onnxfile.parsed(result), report


def _new(found: dict[str, Refused], known: dict[str, Refused]) -> dict[str, Refused]:
    """The refusals, of which one at least must be new: or planning again would not end."""
    assert found.keys() - known.keys(), "a blocked site does not fold again"  # noqa: S101  the loops rest on it
    return found


class _Unrepresentable(Exception):  # noqa: N818  not an error: the sites that must stay
    def __init__(self, refusals: dict[str, Refused]) -> None:
        super().__init__()
        self.refusals = refusals


def _fold_once(
    file: OnnxFile,
    source: Path,
    target: str | os.PathLike[str] | None,
    options: Options,
    blocked: dict[str, Refused],
    progress: Progress | None,
    again: Callable[[], OnnxFile],
) -> Report:
    started = time.perf_counter()
    folded = fold_graph(file, options, blocked, _stage(progress, "folding"))
    report = _report(folded, file, str(source), None if target is None else str(target), file.nbytes, started)
    if target is None:
        if refusals := unrepresentable(folded, blocked):
            raise _Unrepresentable(refusals)
        report = replace(report, verification=Verification("not verified", "nothing was written"))
        return _judged(_with_offers(report, options, again), options)
    if not folded.changed:
        report = _judged(_with_offers(report, options, again), options)
        onnxfile.copy(file, target, progress=_stage(progress, "writing"))
        return replace(report, verification=_same(options), seconds=time.perf_counter() - started)
    verified: list[Report] = []

    def judge(staged: Path) -> None:
        if progress is not None:
            progress("verifying", 0, 1)
        verdict = _verify_files(source, staged, options, folded)
        seconds = time.perf_counter() - started
        sure = _judged(replace(_verified(report, verdict), seconds=seconds), options)
        verified.append(_with_offers(sure, options, again))  # now, since the target may replace the source

    try:
        written = onnxfile.write(file, target, progress=_stage(progress, "writing"), before_commit=judge)
    except UnrepresentableError:
        raise _Unrepresentable(unrepresentable(folded, blocked)) from None
    return replace(verified[0], bytes_after=written, seconds=time.perf_counter() - started)


def _verified(report: Report, verdict: Verification) -> Report:
    """The report with the verdict, and with a note on what turning training mode off did to the results."""
    changes = (f'"{one.name}" by up to {one.max_absolute:.3g} ({one.max_relative:.2%})' for one in verdict.frozen)
    note = f"without training mode the results differ from the original's: {', '.join(changes)}, on the samples"
    return replace(report, verification=verdict, notes=(*report.notes, *([note] if verdict.frozen else [])))


def _with_offers(report: Report, options: Options, again: Callable[[], OnnxFile]) -> Report:
    """The report with what more folds with other options; `again` opens the model anew."""

    def planned(chosen: Options) -> tuple[Outcome, ...]:
        blocked: dict[str, Refused] = {}
        while True:
            with again() as file:
                folded = fold_graph(file, chosen, blocked)
                if not (refusals := unrepresentable(folded, blocked)):
                    return folded.outcomes
            blocked |= _new(refusals, blocked)

    return replace(report, offers=tuple(offers(report.outcomes, options, planned)))


def _judged(report: Report, options: Options) -> Report:
    """The report, unless it is one that must not lead to an output."""
    if options.require_change and not report.changed:
        ended = replace(report, target=None, verification=Verification("not verified", "nothing was written"))
        raise NothingToFoldError(f"{report.source}: nothing to fold; the report says why", ended)
    if report.verification.status == "failed":
        raise VerificationError(f"{report.source}: the folded model differs: {report.verification.reason}", report)
    return report


def _require_paths(source: object, target: object) -> None:
    """Refuse models in memory and other things that are no paths."""
    for name, given in (("source", source), ("target", target)):
        if not isinstance(given, (str, os.PathLike)) and not (name == "target" and given is None):
            how = "; fold_model takes models in memory" if name == "source" else ", or None for a dry run"
            raise OptionError(f"{name} is of type {type(given).__name__}; give the path of an ONNX file{how}")


def _require_samples(options: Options) -> None:
    """Refuse options of another type, and samples that are not there, before any work is done."""
    require_options(options)
    if options.inputs is not None and not Path(options.inputs).is_file():
        raise OptionError(f"inputs: there is no file {options.inputs!r}")


def _verify_files(before: Path, after: Path, options: Options, folded: Folded) -> Verification:
    if not options.verify:
        return Verification("not verified", "verification was turned off (verify=False)")
    if not folded.frozen:
        return verify(before, after, inputs=options.inputs, timeout=options.verify_timeout)
    # In training mode the original computes something else; what the fold must equal is the original in inference.
    frozen = after.with_name("inference.onnx" if after.name != "inference.onnx" else "original.onnx")
    with onnxfile.read(before) as file:
        freeze_only(file, options)
        onnxfile.write(file, frozen)
    verdict = verify(frozen, after, inputs=options.inputs, timeout=options.verify_timeout)
    change = verify(before, frozen, inputs=options.inputs, timeout=options.verify_timeout)
    return replace(verdict, frozen=change.outputs)


def _verify_in_memory(before: bytes, after: bytes, options: Options, folded: Folded) -> Verification:
    import tempfile  # noqa: PLC0415  only models in memory need it, and start-up time counts

    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        for path, data in zip(paths, (before, after), strict=True):
            path.write_bytes(data)
        return _verify_files(*paths, options, folded)


def _same(options: Options) -> Verification:
    if not options.verify:
        return Verification("not verified", "verification was turned off (verify=False)")
    return Verification("verified", "nothing was folded: the output is the input, byte for byte")


def _report(folded: Folded, file: OnnxFile, source: str, target: str | None, after: int, started: float) -> Report:
    return Report(
        version=version("bnfold"),
        source=source,
        target=target,
        bn_before=folded.bn_before,
        bn_after=folded.bn_after,
        nodes_before=folded.nodes_before,
        nodes_after=folded.nodes_after,
        bytes_before=file.nbytes,
        bytes_after=after,
        changed=folded.changed,
        outcomes=folded.outcomes,
        verification=Verification("not verified", "it has not run"),
        seconds=time.perf_counter() - started,
        notes=tuple(folded.notes),
    )


def _stage(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None

    def report(done: int, total: int) -> None:
        with suppress(ZeroDivisionError):
            progress(name, done, total)

    return report
