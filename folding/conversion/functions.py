"""Inline model-local functions, for a runtime that has none.

Not by onnx's inliner: it loses the defaults of attributes, and it needs the same operator sets everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from folding.conversion.bodies import Renaming, copied
from folding.conversion.dimensions import all_graphs
from folding.conversion.opset import convert
from folding.editing.surgery import replace
from folding.errors import OptionError
from folding.graph.node import STANDARD_DOMAINS, bodies
from folding.onnxfile import function_key
from folding.report.changes import EXAMPLES, Change

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from folding.conversion.here import Body
    from folding.onnxfile import OnnxFile


def inline(file: OnnxFile, names: Collection[str] | None = None) -> list[Change]:
    """Put the body of functions in the place of each call: of those with these names, or of all.

    Values and operators of a body get new names that begin with the call's; weights in it stay in the file. Functions
    of another operator set than the model's are converted first.

    Raises:
        OptionError: a function imports another version of a custom operator set than the model.
    """
    chosen = {_key(f): f for f in file.model.functions if names is None or f.name in names}
    if not chosen:
        return []
    changes = _converted(file, chosen.values())
    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    functions = {_key(f): f for f in model.functions if _key(f) in chosen}
    _import(model, functions.values())
    inlining = _Inlining(functions, set(_all_names(model)))
    for body in _outer_bodies(model, functions):
        inlining.run(body)
    _remove(model, functions)
    file.model = model
    counts = inlining.counts
    done = [name for name in counts if counts[name]]
    return [*changes, Change("converted", "function inlined", len(functions), tuple(done[:EXAMPLES]))]


FunctionKey = tuple[str, str, str]


def _key(function: onnx.FunctionProto) -> FunctionKey:
    return function_key(function.domain, function.name, function.overload)


def _converted(file: OnnxFile, functions: Collection[onnx.FunctionProto]) -> list[Change]:
    own = next((o.version for o in file.model.opset_import if o.domain in STANDARD_DOMAINS), None)
    others = {o.version for f in functions for o in f.opset_import if o.domain in STANDARD_DOMAINS} - {own}
    return convert(file, int(own if own is not None else max(others))) if others and own is not None else []


def _import(model: onnx.ModelProto, functions: Collection[onnx.FunctionProto]) -> None:
    """Import what the functions import."""
    known = {o.domain if o.domain not in STANDARD_DOMAINS else "": o.version for o in model.opset_import}
    for function in functions:
        for entry in function.opset_import:
            domain = "" if entry.domain in STANDARD_DOMAINS else entry.domain
            if domain not in known:
                model.opset_import.add(domain=domain, version=entry.version)
            if known.setdefault(domain, entry.version) != entry.version:
                raise OptionError(
                    f"the function {function.name!r} imports {domain or 'ai.onnx'} {entry.version}, and the model "
                    f"{known[domain]}; a function can be inlined only where both are the same"
                )


class _Inlining:
    """The functions to inline, all names of the model, and how often each was inlined."""

    def __init__(self, functions: dict[FunctionKey, onnx.FunctionProto], names: set[str]) -> None:
        self._functions, self._names = functions, names
        self._numbers: dict[str, int] = {}
        self.counts = {function.name: 0 for function in functions.values()}

    def run(self, body: Body) -> None:
        """Inline all calls in a graph or function, and in what is nested in it."""
        for node in body.node:
            for inner in bodies(node):
                self.run(inner)
        if any(self._callee(node) for node in body.node):
            replace(body.node, [made for node in body.node for made in self._inlined(node)])

    def _callee(self, node: onnx.NodeProto) -> onnx.FunctionProto | None:
        return self._functions.get(function_key(node.domain, node.op_type, node.overload))

    def _inlined(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        function = self._callee(node)
        if function is None:
            yield node
            return
        self.counts[function.name] += 1
        names = {name: node.input[i] if i < len(node.input) else "" for i, name in enumerate(function.input)}
        attributes = {a.name: a for a in (*function.attribute_proto, *node.attribute)}
        prefix = next(name for name in (node.name, *node.output, node.op_type) if name)
        copies: list[onnx.NodeProto] = []
        for name, output in zip(function.output, node.output, strict=False):
            if output and name in names:  # an input handed on, or an output that is listed twice
                copies.append(onnx.NodeProto(op_type="Identity", input=[names[name]], output=[output]))
            elif output:
                names[name] = output
        made = [*copied(function.node, Renaming(names, attributes, prefix, self._fresh)), *copies]
        holder = onnx.GraphProto()
        holder.node.extend(made)
        self.run(holder)
        yield from holder.node

    def _fresh(self, wish: str) -> str:
        name, number = wish, self._numbers.get(wish, 1)
        while name in self._names:
            number += 1
            name = f"{wish}_{number}"
        self._numbers[wish] = number
        self._names.add(name)
        return name


def _outer_bodies(model: onnx.ModelProto, inlined: Collection[FunctionKey]) -> Iterator[Body]:
    """The graphs and functions that stay."""
    yield model.graph
    yield from (function for function in model.functions if _key(function) not in inlined)
    for info in model.training_info:
        yield from (info.initialization, info.algorithm)


def _remove(model: onnx.ModelProto, inlined: Collection[FunctionKey]) -> None:
    """Remove the functions, and the imports of domains that had nothing else."""
    domains = {domain for domain, _, _ in inlined}
    replace(model.functions, [function for function in model.functions if _key(function) not in inlined])
    used = {function.domain for function in model.functions} | {""}
    for body in _outer_bodies(model, ()):
        used |= {node.domain for node in _nodes(body)}
    kept = [o for o in model.opset_import if o.domain not in domains or o.domain in used]
    if len(kept) < len(model.opset_import):
        replace(model.opset_import, kept)


def _nodes(body: Body) -> Iterator[onnx.NodeProto]:
    for node in body.node:
        yield node
        for inner in bodies(node):
            yield from _nodes(inner)


def _all_names(model: onnx.ModelProto) -> Iterator[str]:
    for body in _outer_bodies(model, ()):
        for node in _nodes(body):
            yield from (node.name, *node.input, *node.output)
    for graph in all_graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            yield value.name
        yield from (sparse.values.name for sparse in graph.sparse_initializer)
