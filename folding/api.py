"""fold, fold_model and inspect: read, plan, write, verify, report."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folding import onnxfile
from folding.delivery import Card, placed
from folding.errors import OptionError
from folding.graph.weights import UnrepresentableError
from folding.onnxfile import Limits
from folding.options import Options, require_options
from folding.pipeline import Attempts, as_it_is, before, freeze_only, with_offers
from folding.report.errors import NothingToFoldError, TargetError, VerificationError
from folding.report.model import Report, Verification
from folding.report.ready import is_refused, merged, readiness
from folding.verification.parent import verify
from folding.verification.standby import prepared
from folding.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import onnx

    from folding.delivery import Place
    from folding.onnxfile import OnnxFile
    from folding.pipeline import Folded
    from folding.report.model import VerificationStatus

    Progress = Callable[[str, int, int], None]  # stage ("folding", "writing", "verifying"), done, total
    Stage = Callable[[int, int], None] | None

DEFAULTS = Options()
LIMITS = Limits()
READY = "ready.onnx"  # stands for the file in what to do with it, where none is written yet


def fold(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None,
    options: Options = DEFAULTS,
    *,
    progress: Progress | None = None,
    limits: Limits = LIMITS,
) -> Report:
    """Fold the model file `source` into `target`, verify the result and return the report; None for a dry run.

    `target` appears whole or not at all, and may be `source`. Where nothing folds it is a copy of `source`. With
    `options.triton` it is the folder of a Triton model repository, which is created where it does not exist.

    `limits` bounds what `source` may ask of this machine. `progress` is called with the stage ("folding", "writing",
    "verifying"), how much of it is done, and how much there is: in bytes while writing, else in steps.

    Where verification finds an error, the folds that caused it are found and taken back, as the report lists;
    with `options.strict` that is an error.

    Raises:
        ModelError: `source` is missing, corrupt or unsafe, or ONNX Runtime refuses its types.
        VerificationError: the result differs from the original, and no fold remains without which it does not, or
            `options.strict`; nothing was written.
        NothingToFoldError: `options.require_change`, and nothing folds; nothing was written.
        TargetError: `options.target` does not run the result as a whole, and not `options.allow_fallback`; nothing was
            written.
        FoldingError: `target` cannot be written, or holds what would be lost.
        OptionError: the samples in `options.inputs` do not fit the model; a pattern matches nothing; an argument is of
            another type.
    """
    _require_paths(source, target)
    if not isinstance(limits, Limits):
        raise OptionError(f"limits is of type {type(limits).__name__}; give a folding.Limits")
    _require_samples(options)
    again = partial(onnxfile.read, source, limits)
    card = Card(options) if options.has_card else None

    def upstream(values: Collection[str]) -> set[str]:
        with again() as file:
            return before(file, values)

    def settled(place: Place | None) -> Report:
        def once(attempts: Attempts) -> Report:
            with again() as file:
                return _fold_once(file, Path(source), place, attempts, again, card)

        with prepared(wanted=options.verify and place is not None):
            return Attempts(options, progress).settle(once, upstream)

    if target is None:
        return settled(None)
    with placed(target, source, options) as place:
        report = settled(place)
        place.finish()
        return place.reported(report)


def inspect(source: str | os.PathLike[str], options: Options = DEFAULTS, *, limits: Limits = LIMITS) -> Report:
    """What `fold` would do with a model, and why not more; nothing is written.

    With `options.target`, the findings are about the model as it is, and say what folding mends.

    Raises:
        As `fold` does.
    """
    try:
        report = fold(source, None, options, limits=limits)
    except TargetError as error:
        report = error.report
    if options.target is None:
        return report
    with onnxfile.read(source, limits) as file:
        report = replace(report, findings=as_it_is(file, options, report.findings))
    return _accepted(report, options)


def fold_model(model: onnx.ModelProto, options: Options = DEFAULTS) -> tuple[onnx.ModelProto, Report]:
    """Fold a model in memory; `model` itself is not changed. Models over 2 GiB go through files: `fold`.

    Raises:
        As `fold`; ModelError also if the model refers to external data.
    """
    data = onnxfile.serialized(model)
    _require_samples(options)
    if options.triton is not None or options.digest:
        raise OptionError(f"{'triton' if options.triton else 'digest'}: it is about files; use folding.fold")
    card = Card(options) if options.has_card else None
    results: list[bytes] = []
    again = partial(onnxfile.from_bytes, data)

    def once(attempts: Attempts) -> Report:
        started = time.perf_counter()
        with again() as file:
            folded = attempts.plan(file)
            report = _report(folded, file, "model", "model", len(data), started)
            if not folded.changed:
                is_carded = card is not None and not card.is_on(file)
                results.append(_only_carded(again, card, report) if card is not None and is_carded else data)
                report = replace(report, bytes_after=len(results[-1]), verification=_same(options, is_carded=is_carded))
                return with_offers(_judged(_accepted(report, options), options), options, again)
            if card is not None:
                card.put(file, report, _expected(options))
            try:
                results.append(onnxfile.to_bytes(file))
            except UnrepresentableError:
                attempts.require_representable(folded)
                raise
            report = _accepted(replace(report, bytes_after=len(results[-1])), options)
            verdict = attempts.verdict(partial(_verify_in_memory, data, results[-1], folded))
            if card is not None and verdict.status != _expected(options):
                card.put(file, report, verdict.status)
                results[-1] = onnxfile.to_bytes(file)
        return with_offers(_judged(_verified(report, verdict), options), options, again)

    def upstream(values: Collection[str]) -> set[str]:
        with again() as file:
            return before(file, values)

    report = Attempts(options).settle(once, upstream)
    return onnxfile.parsed(results[-1]), report


def _only_carded(again: Callable[[], OnnxFile], card: Card, report: Report) -> bytes:
    with again() as file:
        card.put(file, report, report.verification.status)
        return onnxfile.to_bytes(file)


def _fold_once(
    file: OnnxFile,
    source: Path,
    place: Place | None,
    attempts: Attempts,
    again: Callable[[], OnnxFile],
    card: Card | None,
) -> Report:
    started, options = time.perf_counter(), attempts.options
    folded = attempts.plan(file, is_written=place is not None)
    names = str(source), None if place is None else place.shown
    report = _accepted(_report(folded, file, *names, file.nbytes, started), options)
    if place is None:
        attempts.require_representable(folded)
        report = replace(report, verification=Verification("not verified", "nothing was written"))
        return _judged(with_offers(report, options, again), options)
    if not folded.changed:
        is_carded = card is not None and not card.is_on(file)
        report = replace(report, verification=_same(options, is_carded=is_carded))
        report = _judged(with_offers(report, options, again), options)
        with again() as untouched:
            if card is not None and is_carded:
                card.put(untouched, report, report.verification.status)
            put = onnxfile.write if is_carded else onnxfile.copy
            written = put(untouched, place.model, progress=attempts.stage("writing"), beside=place.beside)
        return replace(report, bytes_after=written, seconds=time.perf_counter() - started)
    verified: list[Report] = []
    if card is not None:
        card.put(file, report, _expected(options))

    def judge(staged: Path) -> None:
        nonlocal report
        report = replace(report, **_changes(folded))  # what constants lost is known now
        verdict = attempts.verdict(partial(_verify_files, source, staged, folded))
        sure = _judged(replace(_verified(report, verdict), seconds=time.perf_counter() - started), options)
        if card is not None and verdict.status != _expected(options):
            card.put(file, report, verdict.status)
            onnxfile.write(file, staged)
        verified.append(with_offers(sure, options, again))  # now, since the target may replace the source

    stage = attempts.stage("writing")
    try:
        written = onnxfile.write(file, place.model, progress=stage, before_commit=judge, beside=place.beside)
    except UnrepresentableError as error:
        attempts.require_right_guess(error)
        attempts.require_representable(folded)
        raise
    return replace(verified[0], bytes_after=written, seconds=time.perf_counter() - started)


def _verified(report: Report, verdict: Verification) -> Report:
    """The report with the verdict, and with a note on what turning training mode off did to the results."""
    changes = (f'"{one.name}" by up to {one.max_absolute:.3g} ({one.max_relative:.2%})' for one in verdict.frozen)
    note = f"without training mode the results differ from the original's: {', '.join(changes)}, on the samples"
    return replace(report, verification=verdict, notes=(*report.notes, *([note] if verdict.frozen else [])))


def _judged(report: Report, options: Options) -> Report:
    """The report, unless it is one that must not lead to an output."""
    if options.require_change and not report.changed:
        ended = replace(report, target=None, verification=Verification("not verified", "nothing was written"))
        raise NothingToFoldError(f"{report.source}: nothing to fold; the report says why", ended)
    if report.verification.status == "failed":
        raise VerificationError(f"{report.source}: the folded model differs: {report.verification.reason}", report)
    return report


def _accepted(report: Report, options: Options) -> Report:
    """The report, unless the target does not run the file as a whole and that is not allowed."""
    if options.allow_fallback or not is_refused(report.findings):
        return report
    ended = replace(report, target=None, verification=Verification("not verified", "nothing was written"))
    why = f"{readiness(report)}; allow_fallback=True writes it all the same"
    raise TargetError(f"{report.source}: {why}", ended)


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


def _verify_files(before: Path, after: Path, folded: Folded, options: Options, progress: Stage) -> Verification:
    if not options.verify:
        return Verification("not verified", "verification was turned off (verify=False)")
    compare = partial(
        verify, inputs=options.inputs, timeout=options.verify_timeout, max_error=options.max_error, progress=progress
    )
    target = None if options.allow_fallback else options.target
    if not folded.frozen:
        return compare(before, after, target=target)
    # In training mode the original computes something else; what the fold must equal is the original in inference.
    frozen = after.with_name("inference.onnx" if after.name != "inference.onnx" else "original.onnx")
    with onnxfile.read(before) as file:
        freeze_only(file, options)
        onnxfile.write(file, frozen)
    change = compare(before, frozen)
    return replace(compare(frozen, after, target=target), frozen=change.outputs)


def _verify_in_memory(before: bytes, after: bytes, folded: Folded, options: Options, progress: Stage) -> Verification:
    import tempfile  # noqa: PLC0415  only models in memory need it, and start-up time counts

    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        for path, data in zip(paths, (before, after), strict=True):
            path.write_bytes(data)
        return _verify_files(*paths, folded, options, progress)


def _same(options: Options, *, is_carded: bool) -> Verification:
    if not options.verify:
        return Verification("not verified", "verification was turned off (verify=False)")
    how = "with a card" if is_carded else "byte for byte"
    return Verification("verified", f"nothing was folded: the output is the input, {how}")


def _expected(options: Options) -> VerificationStatus:
    """The status of a verification, as a card has it before that runs; another one is rare, and written then."""
    return "verified" if options.verify else "not verified"


def _report(folded: Folded, file: OnnxFile, source: str, target: str | None, after: int, started: float) -> Report:
    return Report(
        version=VERSION,
        source=source,
        target=target,
        bn_before=folded.before.normalizations,
        bn_after=folded.after.normalizations,
        nodes_before=folded.before.nodes,
        nodes_after=folded.after.nodes,
        bytes_before=file.nbytes,
        bytes_after=after,
        changed=folded.changed,
        outcomes=folded.outcomes,
        verification=Verification("not verified", "it has not run"),
        seconds=time.perf_counter() - started,
        notes=(*folded.notes, *(folded.ready.notes if folded.ready is not None else ())),
        **_readied(folded, target or (READY if folded.changed else source)),
    )


def _readied(folded: Folded, path: str) -> dict[str, Any]:
    """What a report says beyond folding."""
    if (ready := folded.ready) is None:
        return {}
    runtime = "" if ready.target is None else ready.target.title
    findings, recipe = ready.findings(folded.graph), ready.recipe(folded.graph, path)
    done = {"types": ready.types, "equalized": ready.equalized, **_changes(folded)}
    return {"runtime": runtime, "findings": findings, "recipe": recipe, **done}


def _changes(folded: Folded) -> dict[str, Any]:
    """What was changed besides folding, and what constants lost by it."""
    ready = folded.ready
    return {} if ready is None else {"changes": merged(ready.all_changes), "rounded": ready.rounded}
