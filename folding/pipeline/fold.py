"""Fold one model: what is done to it, in which order, until nothing changes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from folding.analysis import shapes
from folding.analysis.values import indexed
from folding.editing.functions import count, inline_where_needed
from folding.editing.writeback import write_back
from folding.graph.sites import OPERATORS
from folding.pipeline.ready import Ready
from folding.planning import leftover
from folding.planning.outcomes import out_of_reach
from folding.planning.run import Run
from folding.process.garbage import collected_rarely

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

    from folding.editing.functions import Count
    from folding.graph.index import Graph
    from folding.onnxfile import OnnxFile
    from folding.options import Options
    from folding.refusal import Refused
    from folding.report.model import Outcome

ROUNDS = 8  # of folding and cleaning; each makes the graph smaller, and most need one
ONE_BY_ONE = 16  # unrepresentable sites, after which more than one site of a constant is refused at once


@dataclass
class Folded:
    """A model after folding; if `changed`, `graph` was written back to `graph.model`."""

    graph: Graph
    outcomes: tuple[Outcome, ...]
    changed: bool
    before: Count
    after: Count
    notes: list[str] = field(default_factory=list)
    frozen: int = 0  # normalizations whose training mode was turned off
    folds: dict[str, str] = field(default_factory=dict)  # what changed, by the keys that `blocked` takes; and labels
    clamped: frozenset[str] = frozenset()  # the folds that gave a clamp a bound per channel
    ready: Ready | None = None  # what was done besides folding


@collected_rarely()
def fold_graph(
    file: OnnxFile,
    options: Options,
    blocked: Mapping[str, Refused],
    progress: Callable[[int, int], None] | None = None,
    *,
    guesses: bool = False,
) -> Folded:
    """Fold everything that folds in a model, except the sites whose keys are in `blocked`.

    With `guesses`, large constants that become 16 bits are not read before they are written; see `precision.lower`.

    Raises:
        OptionError: a pattern of `options.keep` or `options.only` matches no operator.
    """
    before, ready = count(file.model), Ready(options, blocked, guesses=guesses)
    options = ready.options
    ready.before(file)
    graph = indexed(file, freeze_initializers=options.freeze_initializers)
    notes = []
    ready.tidy(graph)
    if graph.model.functions:
        staying = [node for node in graph.nodes() if options.keeps(node.label)]
        kept = {name for node in staying for name in (node.scope.prefix[:-1], node.proto.op_type)}
        if options.freeze_training == "samples":  # what trains in a function keeps its mode
            kept |= {node.scope.prefix[:-1] for node in graph.nodes() if leftover.trains(node)}
        file.model, inlined = inline_where_needed(file.model, kept, partial(_fold_variant, file, options, blocked))
        if inlined:
            made = count(file.model)  # a normalization for each call
            before = before._replace(normalizations=made.normalizations) if options.clean else made
            ready.convert(file)  # what has no form of its own in a function may have one now
            graph = indexed(file, freeze_initializers=options.freeze_initializers)
            ready.tidy(graph)
            notes = [f"functions were inlined, which their normalizations needed to fold: {', '.join(inlined)}"]
    run = Run(graph, options, blocked)
    run.notes += notes
    if any(node.op in OPERATORS for node in graph.nodes()):
        run.everything(progress)
    for _ in range(ROUNDS):
        if not ready.after(graph):
            break
        again = Run(graph, options, blocked)
        again.everything(None)
        if not again.changed:
            break
        run.join(again)
    ready.equalize(graph)
    if run.changed or ready.changes or options.lowers:
        write_back(graph)
    ready.lower(graph)
    changed = run.changed or bool(ready.changes)
    if changed:
        write_back(graph)
        ready.finish(graph)
    outcomes = (*run.ended.values(), *out_of_reach(graph))
    folds = {key: end.node for key, end in run.ended.items() if end.status != "kept"} | run.others | ready.keys
    after, clamping = count(graph.model), frozenset(run.clamping)
    return Folded(graph, outcomes, changed, before, after, run.notes, run.frozen, folds, clamping, ready)


def _fold_variant(file: OnnxFile, options: Options, blocked: Mapping[str, Refused], model: onnx.ModelProto) -> None:
    """Fold a variant of the file's model, as `fold_graph` does."""
    graph = indexed(file.variant(model), freeze_initializers=options.freeze_initializers)
    Run(graph, replace(options, leftover="keep"), blocked).everything(None)
    write_back(graph)


def freeze_only(file: OnnxFile, options: Options) -> None:
    """Turn training mode off as `fold_graph` does with these options, and fold nothing."""
    graph = indexed(file, freeze_initializers=options.freeze_initializers)
    shapes.infer(graph)
    leftover.freeze_training((node for node in graph.nodes() if options.selects(node.label)), options)
    write_back(graph)


def unrepresentable(folded: Folded, blocked: Mapping[str, Refused]) -> dict[str, Refused]:
    """Evaluate every constant that folds made; return the sites after which one is unrepresentable, and why.

    If `blocked` is already long, later sites that such a constant cannot represent are included too, because each
    refusal requires another plan of the whole model.
    """
    count = 1 if len(blocked) < ONE_BY_ONE else None
    weights = (weight for scope in folded.graph.scopes for weight in scope.weights.values())
    return {site: error.refusal() for weight in weights for site, error in islice(weight.straws(), count)}
