"""Carry a decision out on the graph: Casts, constants in each type that is read, types that attributes name."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from folding.analysis import constants
from folding.editing import retyping, surgery
from folding.editing.surgery import remove
from folding.graph.narrowed import Narrowed
from folding.graph.node import Edge
from folding.precision.compensation import shifted
from folding.precision.constants import Fit
from folding.precision.decide import decide
from folding.precision.groups import CONSTANT, LOW, Result
from folding.precision.kinds import FLOAT32, KINDS
from folding.precision.types import retype
from folding.report.changes import EXAMPLES, Change
from folding.report.types import Placed, Rounded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    import numpy as np

    from folding.graph.index import Graph, Scope
    from folding.graph.node import Node
    from folding.precision.decide import Decision
    from folding.precision.groups import Reader, Value
    from folding.precision.kinds import Kind, Precision
    from folding.verification.ranges import Means, Range

HALVES = frozenset({"bfloat16", "float16"})
USUAL_ERROR = 1e-2  # relative, of a model in float16; a smaller one asked for makes fp32 worth more


class Takes(Protocol):
    """What a target says of an operator; `folding.targets.model.Target` does."""

    def takes(self, op: str, opset: int, dtype: str | None = None) -> bool:
        """Whether the target runs the operator of this operator set on this type."""
        ...


@dataclass(frozen=True)
class Lowered:
    """What lowering did: changes, the type of every operator that computes in floats, and how constants fit.

    `reason` says why nothing was lowered; "" if something was, or there was nothing to lower.
    """

    changes: tuple[Change, ...] = ()
    nodes: tuple[Placed, ...] = ()
    constants: tuple[Stored, ...] = ()
    reason: str = ""

    def rounded(self) -> tuple[Rounded, ...]:
        """What constants lost; of those that were guessed, as far as they were evaluated."""
        found = (one.rounded() for one in self.constants)
        return tuple(one for one in found if one.clamped or one.subnormal or one.flushed)


class Stored(NamedTuple):
    """A constant that is stored in 16 bits."""

    name: str
    size: int
    fit: Fit
    weight: Narrowed | None = None

    def rounded(self) -> Rounded:
        """What it lost."""
        loss = self.fit.loss if self.weight is None or not self.fit.is_guess else self.weight.counted()
        bound = self.fit.bound if loss.clamped else 0.0
        return Rounded(self.name, self.size, loss.clamped, loss.subnormal, loss.flushed, bound)


def lower(
    graph: Graph,
    precision: Precision,
    *,
    target: Takes | None = None,
    ranges: Mapping[str, Range] | None = None,
    means: Means | None = None,
    io_types: str = "keep",
    keep_fp32: Callable[[str], bool] = lambda _: False,
    max_error: float | None = None,
    guesses: bool = False,
) -> Lowered:
    """Lower a graph to 16 bits where that is right, in place; nothing changes if nothing can be lowered.

    "fp16" and "bf16" lower all that fits; "mixed" is fp16 and leaves in float32 what is delicate, or what the `ranges`
    show to need it. Graph inputs and outputs stay float32 unless `io_types` is "lower". `keep_fp32` answers for labels
    of operators. `means` of what products read, over samples that show what is usual, let their biases make up for the
    rounding of their weights. The smaller `max_error` is, the more is left in float32. A target that does not take an
    operator in the 16-bit type keeps it. With `guesses`, large constants are read once, when they are written: what
    they lose is known then, and `UnrepresentableError` of one that `is_guessed` asks for another try without guesses.
    """
    kind = KINDS[precision]
    if reason := _refusal(graph, kind):
        return Lowered(reason=reason)
    name = kind.name
    decision = decide(
        graph,
        kind,
        everything=precision != "mixed",
        takes=lambda op: target is None or target.takes(op, graph.opset, name),
        keep=keep_fp32,
        ranges=ranges or {},
        lower_io=io_types == "lower",
        caution=max(1.0, USUAL_ERROR / max_error) if max_error else 1.0,
        guesses=guesses,
    )
    run = _Run(graph, decision, means or {})
    nodes = tuple(run.placed())
    if not run.is_needed():
        return Lowered(nodes=nodes, reason="nothing can be lowered" if nodes else "")
    run.carry_out()
    return Lowered(tuple(run.changes()), nodes, tuple(run.constants))


def is_lowerable(graph: Graph) -> bool:
    """Whether anything of a model can become float16: not of one that has bfloat16, or functions."""
    return not _refusal(graph, KINDS["fp16"])


def _refusal(graph: Graph, kind: Kind) -> str:
    """Why a model as a whole is not lowered."""
    if graph.model.functions:
        names = ", ".join(sorted({f.name for f in graph.model.functions}))
        return f"it has model-local functions, which are inlined first: {names}"
    others = {kind.name} ^ HALVES
    for scope in graph.scopes:
        for name in (*scope.producers, *scope.initializers, *scope.inputs):
            dtype = scope.dtype(name)
            if dtype is not None and dtype.itemsize == kind.dtype.itemsize and dtype.name in others:
                return f"{name!r} is {dtype.name} already, which {kind.name} beside it would not make better"
    return ""


class _Run:
    """One decision, carried out."""

    def __init__(self, graph: Graph, decision: Decision, means: Means) -> None:
        self.graph, self.decision, self.kind = graph, decision, decision.groups.kind
        self.groups = decision.groups
        self.casts: list[str] = []
        self.dropped: list[str] = []
        self.copied: list[str] = []
        self.lowered: dict[str, list[str]] = defaultdict(list)  # labels by operator
        self.constants: list[Stored] = []
        self.types: dict[int, dict[str, np.dtype[np.generic]]] = defaultdict(dict)  # by scope
        self.nbytes = 0
        self.shifted = shifted(decision, means)
        self._sides = decision.sides

    def is_low(self, number: int) -> bool:
        """Whether a group is stored in 16 bits."""
        return self._sides[number] == LOW

    def is_needed(self) -> bool:
        """Whether any operator, input or output changes its type."""
        return any(self.is_low(number) for number in range(LOW + 1, len(self.decision.sides))) or any(
            value.maker == LOW or any(number == LOW for number, _ in value.readers)
            for value in self.groups.values.values()
        )

    def placed(self) -> Iterator[Placed]:
        """The type of every operator that touches float32, and the reason where it stays so."""
        for node, own in self.groups.of.items():
            numbers = list(own.values())
            high = [number for number in numbers if not self.is_low(number)]
            if len(high) < len(numbers):
                yield Placed(node.label, node.op, self.kind.name)
            else:
                yield Placed(node.label, node.op, FLOAT32.name, self.decision.reason(high[0]))

    # --- carrying out -------------------------------------------------------------------------------------

    def carry_out(self) -> None:
        """Change the graph; the types of values that stay are declared at the end."""
        casts = [node for node in self.groups.of if node.op == "Cast"]
        for key, value in list(self.groups.values.items()):
            if value.maker == CONSTANT:
                self._settle_constant(key, value)
            else:
                if key in self.decision.fits and self.is_low(value.maker):  # what ConstantOfShape makes
                    self.constants.append(Stored(value.name, 1, self.decision.fits[key]))
                self._settle(value)
        for node, own in self.groups.of.items():
            if any(map(self.is_low, own.values())):
                retype(node, {str(key): self.is_low(number) for key, number in own.items()}, self.kind)
                self.lowered[node.op].append(node.label)
        self._declare()
        for node in casts:
            self._drop_idle(node)

    def _settle(self, value: Value) -> None:
        """Put a Cast behind a value for its readers of the other type; an output of the model keeps its name."""
        is_low = self.is_low(value.maker)
        others = [reader for number, reader in value.readers if self.is_low(number) != is_low]
        if not others:
            return
        scope, name = value.scope, value.name
        own, dtype = (self.kind.dtype, FLOAT32) if is_low else (FLOAT32, self.kind.dtype)
        if any(isinstance(r, Result) and r.scope is self.graph.main for r in others):
            inner = self.graph.fresh_name(f"{name}_{own.name}")
            self._rename(value, inner)
            retyping.insert_cast(scope, inner, name, dtype)
            for number, reader in value.readers:
                if self.is_low(number) == is_low:
                    self._connect(reader, inner, scope)
            value.name = inner
        else:
            other = self.graph.fresh_name(f"{name}_{dtype.name}")
            retyping.insert_cast(scope, name, other, dtype)
            for reader in others:
                self._connect(reader, other, scope)
        self.casts.append(name)

    def _rename(self, value: Value, inner: str) -> None:
        producer = value.scope.producers[value.name]
        retyping.rename_output(producer, producer.outputs.index(value.name), inner)

    def _connect(self, reader: Reader, name: str, owner: Scope) -> None:
        """Let a reader read another name of a scope that may enclose its own."""
        scope = reader.node.scope if isinstance(reader, Edge) else reader.scope
        if isinstance(reader, Edge):
            surgery.connect(reader.node, reader.index, name)
        else:
            retyping.set_body_output(reader.scope, reader.number, name)
        if scope is not owner:
            owner.captured.add(name)

    # --- constants ----------------------------------------------------------------------------------------

    def _settle_constant(self, key: tuple[int, str], value: Value) -> None:
        """Round a constant for its readers in 16 bits: in place if there are no others, else a copy."""
        low = [reader for number, reader in value.readers if self.is_low(number)]
        if not low:
            return
        scope, name = value.scope, value.name
        fit, other = self.decision.fits[key], self.shifted.get(key)
        exact = constants.weight(scope, name) if other is None else other.bias
        narrow = Narrowed.of_weight(exact, self.kind.dtype, fit.bound, is_guessed=fit.is_guess)
        self.constants.append(Stored(name, narrow.size, fit if other is None else Fit(narrow.loss()), narrow))
        if len(low) == len(value.readers) and not self._is_seen(scope, name):
            self._replace(scope, name, narrow)
            scope.types[name] = retyping.code_of(self.kind.dtype)
            self.types[scope.index][name] = self.kind.dtype
            self.nbytes -= narrow.nbytes
            return
        copy = self.graph.fresh_name(f"{name}_{self.kind.name}")
        home = scope
        if name in scope.sparse and name not in scope.weights:
            retyping.copy_sparse(scope, name, copy)
            retyping.set_sparse(scope, copy, self._places(scope, copy, narrow))
        else:
            home = surgery.home(scope)
            home.weights[copy] = narrow
        for reader in low:
            self._connect(reader, copy, home)
        self.copied.append(name)
        self.nbytes += narrow.nbytes

    def _is_seen(self, scope: Scope, name: str) -> bool:
        return name in scope.pinned or name in scope.annotated

    def _replace(self, scope: Scope, name: str, narrow: Narrowed) -> None:
        node = scope.producers.get(name)
        if node is not None:
            retyping.set_constant_node(node, narrow)
        elif name in scope.sparse and name not in scope.weights:
            retyping.set_sparse(scope, name, self._places(scope, name, narrow))
        else:
            scope.weights[name] = narrow

    def _places(self, scope: Scope, name: str, narrow: Narrowed) -> Narrowed:
        """The values of a sparse constant that are stored, instead of all."""
        stored = constants.of_tensor(scope, scope.sparse[name].values)
        return Narrowed.of_weight(constants.as_weight(stored), self.kind.dtype, narrow.bound)

    # --- what is left to say -------------------------------------------------------------------------------

    def _declare(self) -> None:
        """State the new types of values in the message: of results and constants, in nested graphs, too."""
        for value in self.groups.values.values():
            if value.maker != CONSTANT and self.is_low(value.maker):
                self.types[value.scope.index][value.name] = self.kind.dtype
            for number, reader in value.readers:
                if isinstance(reader, Result):
                    dtype = self.kind.dtype if self.is_low(number) else FLOAT32
                    self.types[reader.scope.index][reader.scope.proto.output[reader.number].name] = dtype
        for scope in self.graph.scopes:
            if not scope.prefix:
                retyping.declare(scope, self.types[scope.index])

    def _drop_idle(self, node: Node) -> None:
        """Remove a Cast of the model from 16 bits to the same 16 bits."""
        scope, name = node.scope, node.output
        dtypes = [scope.dtype(one) for one in (node.inputs[0], name)]
        if dtypes != [self.kind.dtype] * 2 or scope.is_seen(name):
            return
        source = node.inputs[0]
        for edge in list(scope.uses.get(name, ())):
            surgery.connect(edge.node, edge.index, source)
        remove(node, source)
        self.dropped.append(node.label)

    def changes(self) -> Iterator[Change]:
        """One change for each kind."""
        labels = [label for found in self.lowered.values() for label in found]
        yield _change(f"operators in {self.kind.name}", labels, nbytes=self.nbytes)
        yield from _some("Casts inserted", self.casts)
        yield from _some(f"Casts to {self.kind.name} that nothing needs any more", self.dropped)
        yield from _some(f"constants copied, of which some readers stay in {FLOAT32.name}", self.copied)
        compensated = [one.node.label for one in self.shifted.values()]
        yield from _some("biases that make up for the rounding of weights, on the mean of the samples", compensated)
        clamped = [one.name for one in self.constants if one.fit.loss.clamped]
        yield from _some(f"constants clamped to the range of {self.kind.name}", clamped)


def flushes(rounded: Collection[Rounded]) -> tuple[Change, ...]:
    """Constants of which elements became zero, as a change."""
    lost = Counter({one.name: one.flushed for one in rounded if one.flushed})
    return tuple(_some(f"constants in which {sum(lost.values()):,} small elements became zero", list(lost)))


def _some(kind: str, labels: list[str]) -> Iterator[Change]:
    if labels:
        yield _change(kind, labels)


def _change(kind: str, labels: list[str], nbytes: int = 0) -> Change:
    return replace(Change("lowered", kind, len(labels), tuple(labels[:EXAMPLES])), nbytes=nbytes)
