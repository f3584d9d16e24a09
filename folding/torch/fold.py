"""fold_module: the algebra of a fold on an `nn.Module`, through the graph of torch.export; and inspect_module."""

from __future__ import annotations

import time
from dataclasses import replace
from glob import escape
from typing import TYPE_CHECKING, Any

from folding import api
from folding.errors import ExportError, OptionError
from folding.options import Options, require_options
from folding.report.errors import NothingToFoldError, VerificationError
from folding.torch.capture import capture
from folding.torch.carry import Carry, InexpressibleError
from folding.torch.convert import calls_of, described
from folding.torch.examples import Example
from folding.torch.modules import Names, require_inference, selecting
from folding.torch.operators import translate
from folding.torch.reference import Reference64
from folding.torch.skeleton import Skeleton

if TYPE_CHECKING:
    import torch

    from folding.report.model import Report

DEFAULTS = Options()
REPORT = "bnfold"  # the key of the report in a folded module's `meta`
# What folding does only if an option asks for it, or by default: without it, all that it leaves has a form in PyTorch.
PLAIN = {"clamp": "never", "merge_branches": False, "leftover": "keep"}
# What is said of a file, and has no meaning for a module.
OF_FILES = (
    *("target", "allow_fallback", "clean", "fuse", "opset", "shape", "batch", "name_axes"),
    *("precision", "io_types", "keep_fp32"),
)


def fold_module(
    module: torch.nn.Module, example_inputs: Any, options: Options = DEFAULTS, *, dynamic_shapes: Any = None
) -> torch.nn.Module:
    """Fold the normalizations of a PyTorch module into its weights; return a new module, the original is not changed.

    The module is captured with torch.export, which runs no code of yours afterwards: the result is a graph
    (`torch.fx.GraphModule`) of layers under their old names and of PyTorch's functions, and its `state_dict` has the
    folded weights and no normalization that folded. Every weight is computed in float64 and rounded once. The result is
    compared with the module on the example inputs and on generated ones; its report is in ``result.meta["bnfold"]``.

    It can be compiled, exported, trained further and quantized. Axes of the inputs are open where the module allows it
    (those of length 1 in the example are not), or as `dynamic_shapes` says, as in `torch.export.export`; inputs of
    other shapes are refused when it is called.

    Raises:
        ExportError: torch.export cannot capture the module; the text says why, and what to do.
        VerificationError: the result does not compute what the module computes.
        NothingToFoldError: `options.require_change`, and nothing folds.
        OptionError: the module is in training mode, an argument does not fit, or an option is for files.
    """
    started = time.perf_counter()
    skeleton, example, name = _skeleton(module, example_inputs, options, dynamic_shapes)
    folded, report = _folded(skeleton, options)
    report = _named(report, skeleton, name, f"{type(module).__name__} in memory")
    if options.require_change and not report.changed:
        raise NothingToFoldError(f"{name}: nothing to fold; the report says why", replace(report, target=None))
    if options.verify:
        report = _judged(report, module, folded, calls_of(example, options), options)
    folded.meta[REPORT] = replace(report, seconds=time.perf_counter() - started)
    return folded


def inspect_module(
    module: torch.nn.Module, example_inputs: Any, options: Options = DEFAULTS, *, dynamic_shapes: Any = None
) -> Report:
    """What `fold_module` would do with a module, and why not more. Raises as `fold_module` does."""
    skeleton, _, name = _skeleton(module, example_inputs, options, dynamic_shapes)
    _, report = _folded(skeleton, options)
    return _named(report, skeleton, name, None)


def _skeleton(module: torch.nn.Module, inputs: Any, options: Options, shapes: Any) -> tuple[Skeleton, Example, str]:
    """The module as a skeleton, its example and its name."""
    require_options(options)
    given = [name for name in OF_FILES if getattr(options, name) != getattr(DEFAULTS, name)]
    if given:
        raise OptionError(f"{', '.join(given)}: for an ONNX file; a module has none of it, from_torch writes a file")
    require_inference(module)
    example = Example.of(module, inputs)
    skeleton = Skeleton(capture(module, example, shapes), Names(module))
    translate(skeleton)
    return skeleton, example, f"{type(module).__module__}.{type(module).__qualname__}"


def _folded(skeleton: Skeleton, options: Options) -> tuple[torch.fx.GraphModule, Report]:
    """The folded module and the report on its skeleton; PyTorch judges the result, not the runtime.

    Where folding makes what has no form in PyTorch, it is done again without the options that make new operators, and
    if that is not enough, without changing the operators that have none.

    Raises:
        ExportError: not even so.
    """
    chosen = selecting(replace(options, verify=False, inputs=None, require_change=False), skeleton.modules)
    is_plain = False
    while True:
        model, report = api.fold_model(skeleton.model(), chosen)
        try:
            return Carry(skeleton, model).module(), report
        except InexpressibleError as error:
            label = escape(error.label)
            if is_plain and (error.label not in skeleton.modules or label in chosen.keep):
                raise ExportError(f"what folding makes of {error} has no form in PyTorch; please report it") from error
            kept = {"keep": (*chosen.keep, label)} if is_plain else PLAIN
            chosen, is_plain = replace(chosen, **kept), True


def _named(report: Report, skeleton: Skeleton, source: str, target: str | None) -> Report:
    """The report with the names of modules; its sizes are those of the weights that folding looked at."""
    outcomes = tuple(replace(one, module=skeleton.modules.get(one.node, "")) for one in report.outcomes)
    notes = (*report.notes, *_notes(skeleton))
    return replace(report, source=source, target=target, outcomes=outcomes, notes=notes)


def _notes(skeleton: Skeleton) -> list[str]:
    """What stays without being an operator of the skeleton that folding could report on."""
    batch = [name for name, node in skeleton.opaque_nodes() if "batch_norm" in str(node.target)]
    inner = [name for name, node in skeleton.opaque_nodes() if any(map(skeleton.is_inner, node.all_input_nodes))]
    notes = []
    if batch:
        notes.append(f"with the statistics of the batch, which are no fixed map, these stay: {', '.join(batch)}")
    if inner:
        notes.append(f"what is inside torch.cond, a loop or a scan stays as it is: {', '.join(inner)}")
    return notes


def _judged(
    report: Report, module: torch.nn.Module, folded: torch.fx.GraphModule, calls: list[Example], options: Options
) -> Report:
    """The report with PyTorch's verdict.

    Raises:
        VerificationError: the folded module computes something else.
    """
    try:
        reference = Reference64(module, calls, options.max_error)
    except Exception as error:
        raise ExportError(f"the module does not run on the example inputs: {error}") from error
    verdict = reference.verdict_of(folded, described(calls, options, exact=reference.is_exact))
    report = replace(report, verification=verdict)
    if verdict.status == "failed":
        raise VerificationError(f"{report.source}: the folded module differs: {verdict.reason}", report)
    return report
