"""from_torch: export a module with its normalizations apart, fold the file, and let PyTorch judge it."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folding import api, onnxfile
from folding.delivery import placed
from folding.errors import ExportError, FoldingError, OptionError
from folding.execution.facts import read_facts
from folding.options import Options, require_options
from folding.report.digest import counted, verdict
from folding.report.errors import ReportedError, VerificationError
from folding.report.model import Verification
from folding.torch.examples import Example
from folding.torch.export import export, require_open
from folding.torch.modules import Names, require_inference, selecting
from folding.torch.reference import Reference64
from folding.verification import samples
from folding.verification.emulated import emulated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import torch

    from folding.report.model import Report
    from folding.torch.failures import Exporter

    Progress = Callable[[str, int, int], None]

DEFAULTS = Options()
EXPORTED, STAGED = "exported.onnx", "folded.onnx"


def from_torch(
    module: torch.nn.Module,
    example_inputs: Any,
    target: str | os.PathLike[str] | None,
    options: Options = DEFAULTS,
    *,
    dynamic_shapes: Any = None,
    exporter: Exporter = "dynamo",
    progress: Progress | None = None,
) -> Report:
    """Export a PyTorch module to a folded ONNX file at `target`, verify it against PyTorch and return the report.

    The module is exported with every BatchNormalization as a node of its own, and folded as `folding.fold` folds a
    file. The result is then compared with the module itself, in float64 and in its own type, on the example inputs and
    on generated ones of the same shapes. `options.keep` and `options.only` may name modules, too: ``keep=["head.*"]``.

    `example_inputs` is a tensor, a tuple of arguments, or a dict of named ones. `dynamic_shapes` leaves axes open, as
    in `torch.onnx.export`: ``{"x": {0: "batch"}}``. `exporter` is "dynamo" (through torch.export) or "torchscript".
    `target` appears whole or not at all; None for a dry run. The module is not changed.

    Raises:
        ExportError: PyTorch cannot export the module; the text says why, and what to do.
        VerificationError: the file does not compute what the module computes; nothing was written.
        OptionError: the module is in training mode, or an argument does not fit.
        As `folding.fold` for the rest.
    """
    started = time.perf_counter()
    require_options(options)
    require_inference(module)
    example, names = Example.of(module, example_inputs), Names(module)
    calls = calls_of(example, options)
    name = f"{type(module).__module__}.{type(module).__qualname__}"
    with nullcontext() if target is None else placed(_path(target), type(module).__name__, options) as place:
        parent = None if place is None else onnxfile.resolve(place.model).parent
        with tempfile.TemporaryDirectory(prefix=".bnfold-", dir=parent) as folder:
            exported, staged = (
                Path(folder, EXPORTED),
                Path(folder, STAGED if place is None else f"folded-{place.model.name}"),
            )
            notes = export(module, example, exported, exporter, dynamic_shapes, names)
            with onnxfile.read(exported) as file:
                modules = names.labels(file.model)
                require_open(file.model, dynamic_shapes, example.names)
            paths = {str(exported): name, str(staged): "None" if place is None else place.shown}
            with _named(paths, modules):
                chosen = replace(selecting(options, modules), card=options.has_card, digest=False, triton=None)
                report = api.fold(exported, None if place is None else staged, chosen, progress=progress)
                report = replace(report, notes=(*report.notes, *notes))
                if place is not None and options.verify:
                    report = _judged(report, module, calls, exported, staged, options)
            if place is not None:
                with onnxfile.read(staged) as file:
                    onnxfile.copy(file, place.model, beside=place.beside)
        final = _renamed(report, paths, modules)
        if place is not None:
            place.finish()
            final = place.reported(final)
    return replace(final, seconds=time.perf_counter() - started)


def _path(target: object) -> str | os.PathLike[str]:
    if not isinstance(target, (str, os.PathLike)):
        raise OptionError(f"target is of type {type(target).__name__}; give a path, or None for a dry run")
    return target


def calls_of(example: Example, options: Options) -> list[Example]:
    """The calls to compare on: the example, and those of `options.inputs` or generated ones."""
    if options.inputs is None:
        return [example, *example.more()]
    return [example, *example.read(os.fspath(options.inputs))]


def described(calls: list[Example], options: Options, *, exact: bool) -> str:
    """What was compared with what: "against PyTorch in float64, the example inputs: ..."."""
    what = f"against PyTorch{' in float64' if exact else ''}, the example inputs"
    kind = "generated" if options.inputs is None else "given"
    more = counted(len(calls) - 1, f"{kind} sample")
    return f"{samples.describe(what, calls[0].feeds(), generated=False)}, and {more}"


def _judged(
    report: Report, module: torch.nn.Module, calls: list[Example], exported: Path, staged: Path, options: Options
) -> Report:
    """The report with PyTorch's verdict in place of the runtime's, which becomes a note.

    Raises:
        VerificationError: the file differs; the text says whether it did so before folding.
    """
    try:
        reference = Reference64(module, calls, options.max_error)
    except Exception as error:
        raise ExportError(f"the module does not run on the example inputs: {error}") from error
    inputs = described(calls, options, exact=reference.is_exact)
    found = _verdict(reference, exported, staged, inputs)
    runtime = report.verification
    found = replace(_sensitive(found, runtime), notes=(*found.notes, f"against the exported file: {verdict(runtime)}"))
    report = replace(report, verification=found)
    if found.status == "failed":
        before = reference.verdict(exported, inputs)
        whose = (
            "the folded file" if before.status == "verified" else "the exported file differs before it is folded; it"
        )
        raise VerificationError(f"{whose} does not compute what the module computes: {found.reason}", report)
    return report


def _verdict(reference: Reference64, exported: Path, staged: Path, inputs: str) -> Verification:
    """How the folded file compares; one that was lowered to 16 bits runs as an emulation that rounds as a GPU does."""
    known = read_facts(exported), read_facts(staged)
    if known[0].half or not known[1].half:  # the module's own types
        return reference.verdict(staged, inputs)
    with emulated(exported, staged, known, exported.parent) as files:
        if files.refused:
            return Verification("not verified", f"against PyTorch: {files.refused}", inputs=inputs)
        before = reference.verdict(exported, inputs)
        if before.status == "failed":  # no rounding of it would say what a correct file may be off by
            return before
        return reference.lowered(known[1].epsilon, exported, files.rough).verdict(files.after, inputs)


def _sensitive(found: Verification, runtime: Verification) -> Verification:
    """The verdict with what the runtime's comparison found out about the sensitivity of each output."""
    known = {output.name: output for output in runtime.outputs}
    outputs = tuple(
        replace(one, sensitivity=known[one.name].sensitivity, bias_sensitivity=known[one.name].bias_sensitivity)
        if one.name in known
        else one
        for one in found.outputs
    )
    return replace(found, outputs=outputs)


@contextmanager
def _named(paths: Mapping[str, str], modules: Mapping[str, str]) -> Iterator[None]:
    """Errors that name the module and the target where they name files that are gone afterwards."""
    try:
        yield
    except ReportedError as error:
        raise type(error)(_replaced(str(error), paths), _renamed(error.report, paths, modules)) from error
    except FoldingError as error:
        raise type(error)(_replaced(str(error), paths)) from error


def _renamed(report: Report, paths: Mapping[str, str], modules: Mapping[str, str]) -> Report:
    """The report with the module and the target for temporary files, and with the module of every outcome."""
    outcomes = tuple(replace(one, module=modules.get(one.node, "")) for one in report.outcomes)
    target = None if report.target is None else paths.get(report.target, report.target)
    stems = {path.removesuffix(".onnx"): shown.removesuffix(".onnx") for path, shown in paths.items()}
    recipe = tuple(_replaced(line, stems) for line in report.recipe)
    source = paths.get(report.source, report.source)
    return replace(report, source=source, target=target, outcomes=outcomes, recipe=recipe)


def _replaced(text: str, paths: Mapping[str, str]) -> str:
    for path, name in paths.items():
        text = text.replace(path, name)
    return text
