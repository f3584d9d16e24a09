"""Everything that options and target ask for besides folding, in its order: before the fold, after it, at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from folding.analysis import shapes
from folding.analysis.values import indexed
from folding.editing.writeback import write_back
from folding.errors import OptionError
from folding.graph.schemas import newest_opset
from folding.targets.model import load

if TYPE_CHECKING:
    from collections.abc import Collection

    from folding.graph.index import Graph
    from folding.onnxfile import OnnxFile
    from folding.options import Options
    from folding.precision.lower import Lowered
    from folding.report.changes import Change
    from folding.report.equalized import Equalized
    from folding.report.findings import Finding
    from folding.report.types import Placed, Rounded
    from folding.targets.model import Target
    from folding.verification.ranges import Ranges

# ruff: noqa: PLC0415  most folds ask for none of this, and start-up time counts


class Ready:
    """What one model gets besides folding; `changes` is what was done to it so far."""

    def __init__(self, options: Options, blocked: Collection[str], *, guesses: bool = False) -> None:
        self.target = None if options.target is None else load(options.target)
        self.options = self._settled(options)
        # A bound per channel pays where a normalization goes for it; here it is there only where it was asked for.
        self._clamps = options.clamp == "always"
        self._blocked, self._guesses = blocked, guesses
        self.changes: list[Change] = []
        self.notes: list[str] = []
        self.equalized: tuple[Equalized, ...] = ()
        self.types: tuple[Placed, ...] = ()
        self._lowered: Lowered | None = None

    @property
    def rounded(self) -> tuple[Rounded, ...]:
        """What constants lost by rounding; of those that were guessed, as far as they were written."""
        return () if self._lowered is None else self._lowered.rounded()

    @property
    def all_changes(self) -> list[Change]:
        """The changes, and what became zero by them, as far as that is known."""
        if not (rounded := self.rounded):
            return self.changes
        from folding.precision.lower import flushes

        return [*self.changes, *flushes(rounded)]

    @property
    def keys(self) -> dict[str, str]:
        """The changes that can be left out: what `blocked` calls each, and what it is called in a report."""
        return {change.key: change.kind for change in self.changes if change.key}

    def _settled(self, options: Options) -> Options:
        """The options with what the target implies, as far as they leave it open."""
        if self.target is None:
            return options
        pays = options.clamp == "auto" and self.target.clamp == "always"
        return replace(options, clean=True, fuse=True, clamp="always" if pays else options.clamp)

    def before(self, file: OnnxFile) -> None:
        """Change what the model declares: shapes, functions, training leftovers, opset, types.

        Raises:
            OptionError: a pattern of the options matches no operator of the model as it is, or it cannot be changed so.
        """
        options, target = self.options, self.target
        if options.names:
            options.require_matches(node.label for node in indexed(file).nodes())
        if options.shape or options.batch:
            from folding.conversion.dimensions import parse_shape
            from folding.conversion.shapes import fix

            self.changes += fix(file, dict(map(parse_shape, options.shape)), options.batch)
        if options.name_axes:
            from folding.conversion.record import name_axes

            self.changes += name_axes(file)
        if target is not None:
            from folding.conversion import leftovers

            self.changes += leftovers.strip(file)
        if (target is not None and not target.functions) or options.lowers:
            from folding.conversion import functions

            self.changes += functions.inline(file)
        self._narrow(file, "double")  # before: operators that do not take it keep a model from other operator sets
        self.convert(file)
        self._narrow(file, "int64")  # after: the operator set decides which operators take int32

    def _narrow(self, file: OnnxFile, wide: str) -> None:
        if self.target is not None and wide in self.target.narrow:
            from folding.conversion.types import narrow

            self.changes += narrow(file, {wide: self.target.narrow[wide]})

    def tidy(self, graph: Graph) -> None:
        """Clean before the fold, but for what gives a value two readers, which no map passes."""
        if self.options.clean:
            self._clean(graph, {"clean:equal", "clean:equal-constants"})

    def _infer(self, graph: Graph) -> None:
        """Record what is known of shapes now; inference reads the message, so that is brought up to date."""
        write_back(graph)
        shapes.infer(graph)

    def _clean(self, graph: Graph, spared: Collection[str] = ()) -> None:
        from folding.cleaning.driver import clean

        self._infer(graph)
        self.changes += clean(graph, {*self._blocked, *spared}, keeps=self.options.keeps)
        write_back(graph)

    def after(self, graph: Graph) -> bool:
        """Clean the folded graph and write its idioms as operators; return whether anything changed."""
        options, before = self.options, len(self.changes)
        if options.clean:
            self._clean(graph)
        elif options.fuse or options.fold_norms:
            self._infer(graph)
        fused = len(self.changes)
        if options.fold_norms:
            from folding.planning.norms import fold_norms

            self.changes += fold_norms(graph, options, self._blocked)
        if options.fuse:
            from folding.fusing.fuse import fuse

            self.changes += fuse(graph, self.target, self._blocked, options.keeps)
        if self.target is not None:
            from folding.fusing.forms import write_out

            self.changes += write_out(graph, self.target, self._blocked, options.keeps)
        if len(self.changes) > fused and options.clean:
            self._clean(graph)
        return len(self.changes) > before

    def equalize(self, graph: Graph) -> None:
        """Scale channels between weights, as the options ask; the graph was folded."""
        if not self.options.equalize:
            return
        from folding.scaling.equalize import equalize

        self._infer(graph)
        done, self.equalized = equalize(graph, self.options, self._blocked, clamps=self._clamps)
        self.changes += done

    def lower(self, graph: Graph) -> None:
        """Store values in 16 bits, as the options ask; the graph was written back, and is to be written back again."""
        options = self.options
        if not options.lowers:
            return
        from folding.precision.kinds import KINDS
        from folding.precision.lower import lower
        from folding.precision.ranges import measure

        assert options.precision in ("fp16", "bf16", "mixed")  # noqa: S101  it lowers
        shapes.infer(graph)
        inputs = None if options.inputs is None else str(options.inputs)
        ranges = measure(graph, inputs, seconds=options.verify_timeout)
        if options.precision != "bf16" and self._balance(graph, ranges):
            write_back(graph)
            ranges = measure(graph, inputs, seconds=options.verify_timeout)
        lowered = lower(
            graph,
            options.precision,
            target=self.target,
            ranges=ranges.values,
            means=ranges.means,
            io_types=options.io_types,
            keep_fp32=options.keeps_fp32,
            max_error=options.max_error,
            guesses=self._guesses,
        )
        self.changes += lowered.changes
        if lowered.changes and self.options.clean:  # what were outputs of the model is no longer, and may be equal
            self._clean(graph)
        self.types, self._lowered = lowered.nodes, lowered
        self.notes += [f"nothing was lowered: {lowered.reason}"] if lowered.reason else []
        self.notes += [f"the ranges of values are unknown: {ranges.refusal}"] if ranges.refusal else []
        if ranges.described:
            self.notes.append(f"the ranges of values are those on samples, {ranges.described}")
        if lowered.changes and self.target is not None:
            self.notes += _widened(self.target, KINDS[options.precision].name)

    def _balance(self, graph: Graph, ranges: Ranges) -> bool:
        """Scale values by powers of two where float16 needs it; return whether any were, so that ranges changed."""
        from folding.precision.lower import is_lowerable
        from folding.scaling.balance import balance

        if not is_lowerable(graph):
            return False
        balanced = balance(graph, self.options, ranges.values, self._blocked)
        self.changes += balanced.changes
        self.notes += balanced.notes
        return bool(balanced.changes)

    def finish(self, graph: Graph) -> None:
        """Write the shapes that are known, and the IR version that the target takes, into the model."""
        if self.target is None and not (self.options.shape or self.options.batch or self.options.name_axes):
            return
        from folding.conversion import ir
        from folding.conversion.record import record

        if self.target is not None:
            self.changes += ir.fit(graph.file, *self.target.ir)
        shapes.infer(graph)
        self.changes += record(graph, graph.model)

    def findings(self, graph: Graph) -> tuple[Finding, ...]:
        """What the target refuses, leaves to the CPU or runs in parts."""
        if self.target is None:
            return ()
        from folding.readiness.check import check

        return check(graph, self.target)

    def convert(self, file: OnnxFile) -> None:
        """Convert to the operator set of the options, or to the one that the target or the precision gains most by.

        Raises:
            OptionError: an operator has no form in that set; where only a gain is lost, the model keeps its own set.
        """
        from folding.conversion.opset import convert

        if self.options.opset is not None:
            self.changes += convert(file, self.options.opset)
            return
        if self.target is None and self.options.precision != "bf16":
            return
        graph = self._tidied(file)
        lowest, highest = (graph.opset, graph.opset) if self.target is None else self.target.opset
        try:
            best = self._inlined_best(file, graph)
            self.changes += convert(file, best)
        except OptionError:
            if not lowest <= graph.opset <= highest:
                self.changes += convert(file, min(max(graph.opset, lowest), highest))

    def _tidied(self, file: OnnxFile) -> Graph:
        """The graph as operator sets are chosen by it: what goes anyway needs no other set."""
        graph = indexed(file, freeze_initializers=self.options.freeze_initializers)
        if self.options.clean:
            self.tidy(graph)
        shapes.infer(graph)
        return graph

    def _inlined_best(self, file: OnnxFile, graph: Graph) -> int:
        """The best operator set with functions inlined, as the fold may do where it gains; the file stays as it is."""
        if not file.model.functions:
            return self._best_opset(graph)
        from folding.conversion import functions

        model, changes = file.model, self.changes
        self.changes = []
        try:
            functions.inline(file)
            return self._best_opset(self._tidied(file))
        except OptionError:  # two versions of a custom operator set
            return self._best_opset(graph)
        finally:
            file.model, self.changes = model, changes

    def _best_opset(self, graph: Graph) -> int:
        """The operator set that the target, or else the precision, gains most by."""
        from folding.precision.opsets import wanted_opset
        from folding.readiness.opsets import best_opset

        best = graph.opset if self.target is None else best_opset(graph, self.target, self.options.keeps)
        if self.options.precision != "bf16":
            return best
        highest = newest_opset() if self.target is None else self.target.opset[1]
        return max(best, min(wanted_opset(graph, "bf16"), highest))

    def recipe(self, graph: Graph, path: str) -> tuple[str, ...]:
        """How to hand the file at `path` to the target."""
        if self.target is None:
            return ()
        from folding.conversion.dimensions import declared_inputs
        from folding.conversion.recipe import recipe

        return recipe(self.target.name, path, declared_inputs(graph.model))


def _widened(target: Target, dtype: str) -> list[str]:
    """What to know of a target that computes a 16-bit type in a wider one, as a CPU does."""
    wide = target.casts.get(dtype)
    if wide is None:
        return []
    cost = f"its Casts there and back cost more than {dtype} saves, but for the size of the file"
    return [f"{target.title} computes {dtype} as {wide}: {cost}"]


def as_it_is(file: OnnxFile, options: Options, remaining: Collection[Finding]) -> tuple[Finding, ...]:
    """What the target does not run of a model as it is; of what folding mends, the advice is to fold.

    `remaining` is what it does not run of the folded model.
    """
    assert options.target is not None  # noqa: S101  the caller asks for a target only
    graph = indexed(file, freeze_initializers=options.freeze_initializers)
    shapes.infer(graph)
    stay = {(finding.node, finding.code) for finding in remaining}
    mended = f'fold with target="{options.target}", which mends it'
    return tuple(
        finding if (finding.node, finding.code) in stay else replace(finding, advice=mended)
        for finding in Ready(options, ()).findings(graph)
    )
