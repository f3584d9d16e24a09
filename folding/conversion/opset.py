"""Convert a model to another operator set, operator by operator.

Operators that mean the same in both sets stay as they are, byte for byte, with all that the message holds beside them.
The others go through the adapter of each opset in which their meaning changed. onnx.version_converter is not used: its
own representation loses what it does not know (metadata, functions, sparse initializers, names), it needs the weights,
and for many changes, most of those downwards, it has no adapter.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import onnx
from onnx import defs

from folding.conversion.adapters import DOWN, UP, NoFormError, expanded
from folding.conversion.adapters.node import label
from folding.conversion.dimensions import all_graphs
from folding.conversion.here import INT64, Here, Known
from folding.conversion.omitted import omitted, require_given
from folding.conversion.schemas import boundaries, first_version, is_deprecated, only_widens, require_fit, settle
from folding.conversion.unread import remove_unread
from folding.editing.surgery import replace
from folding.errors import OptionError
from folding.graph.node import STANDARD_DOMAINS, bodies
from folding.report.changes import EXAMPLES, Change

if TYPE_CHECKING:
    from folding.conversion.here import Body
    from folding.graph.index import Scope
    from folding.onnxfile import OnnxFile

FIRST_INTEGERS = 9  # the opset from which on a Constant node holds integers
HOW = "choose another opset, or export the model again with the one that is needed"


def convert(file: OnnxFile, opset: int) -> list[Change]:
    """Convert `file.model` to an operator set, older or newer; on an error it is as it was.

    Raises:
        OptionError: onnx does not know the operator set, or an operator has no equal form in it; which, and why.
    """
    versions = {version for body in (file.model, *file.model.functions) if (version := _version(body)) is not None}
    if versions <= {opset}:
        return []
    for version in (opset, *versions):
        _require_known(version)
    changed = onnx.ModelProto()
    changed.CopyFrom(file.model)
    run = _Run(file, changed, opset)
    if (version := _version(changed)) is not None:
        run.convert(None, changed.graph, version)
    for number, function in enumerate(changed.functions):
        if (own := _version(function)) is not None:
            run.convert(number, function, own)
    for body in (changed, *changed.functions):
        for entry in body.opset_import:
            if entry.domain in STANDARD_DOMAINS:
                entry.version = opset
    remove_unread(changed, run.released)
    before = _version(file.model) or min(versions)
    file.model = changed
    return [Change("converted", f"operator set {before} to {opset}"), *run.changes()]


def _version(body: onnx.ModelProto | onnx.FunctionProto) -> int | None:
    """The version of the standard operator set that a model or function imports, None if it imports none."""
    return next((int(entry.version) for entry in body.opset_import if entry.domain in STANDARD_DOMAINS), None)


def _require_known(version: int) -> None:
    newest = defs.onnx_opset_version()
    if not 1 <= version <= newest:
        raise OptionError(f"opset: {version} is not known; the installed onnx knows 1 to {newest}")


class _Run:
    """One conversion of one model: what was changed, and the names that changed operators read no more."""

    def __init__(self, file: OnnxFile, changed: onnx.ModelProto, opset: int) -> None:
        self._known, self._opset, self._ir = Known(file), opset, changed.ir_version
        self._overridden = {f.name for f in changed.functions if f.domain in STANDARD_DOMAINS}
        self._omitted = omitted(changed)
        self._labels: dict[str, list[str]] = {}
        self.released: list[str] = []

    def changes(self) -> list[Change]:
        """What was changed, by operator."""
        counts = Counter({op: len(labels) for op, labels in self._labels.items()})
        return [
            Change("converted", f"{op} in the form of opset {self._opset}", count, tuple(self._labels[op][:EXAMPLES]))
            for op, count in sorted(counts.items())
        ]

    def convert(self, function: int | None, body: Body, version: int) -> None:
        """Convert the main graph or a function, and what is nested in it."""
        if version == self._opset:
            return
        inner = [graph for node in body.node for one in bodies(node) for graph in all_graphs(one)]
        # Inner ones first: an operator that is put into a list anew is copied with its bodies.
        for number, proto in reversed([*enumerate([body, *inner])]):
            scope = partial(self._scope, function, number)
            absent = set() if function is None else self._omitted[function]
            here = Here(proto, scope, self._known, self._ir, is_function=function is not None, omitted=absent)
            self._convert_nodes(proto, here, version)

    def _scope(self, function: int | None, number: int) -> Scope | None:
        scopes = self._known.scopes(function)
        return scopes[number] if number < len(scopes) else None

    def _convert_nodes(self, proto: Body, here: Here, version: int) -> None:
        nodes: list[onnx.NodeProto] = []
        renewed = False
        for node in proto.node:
            made = self._converted(node, here, version) if self._may_change(node, version) else [node]
            renewed |= len(made) != 1 or made[0] is not node
            nodes += made
        if self._opset < FIRST_INTEGERS and any(node.attribute[0].t.data_type == INT64 for node in here.constants):
            what = f"opset: opset {self._opset} has no constants of integers in IR version {self._ir}"
            raise OptionError(f"{what}, which this conversion needs; {HOW}")
        if here.constants or renewed:
            replace(proto.node, [*here.constants, *nodes])

    def _may_change(self, node: onnx.NodeProto, version: int) -> bool:
        op = node.op_type
        if node.domain not in STANDARD_DOMAINS or op in self._overridden:
            return False
        crossed = boundaries(op, version, self._opset)
        if not crossed:
            return first_version(op) > min(version, self._opset)
        return any((op, one) in UP for one in crossed) or not only_widens(op, version, self._opset)

    def _converted(self, node: onnx.NodeProto, here: Here, version: int) -> list[onnx.NodeProto]:
        before, op, name, inputs = node.SerializeToString(), node.op_type, label(node), list(node.input)
        try:
            made = self._carried(node, here, version)
            if len(made) == 1 and made[0].SerializeToString() == before:
                require_fit(node, here, self._opset, version, is_new=False)
                return made
            require_given(inputs, here)
            for one in made:
                require_fit(one, here, self._opset, version, is_new=True)
        except NoFormError as error:
            what = f"opset: {op} {name!r} has no equal form in opset {self._opset} (the model has {version})"
            raise OptionError(f"{what}: {error}; {HOW}") from None
        self._labels.setdefault(op, []).append(name)
        self.released += set(inputs) - {source for one in made for source in one.input}
        return made

    def _carried(self, node: onnx.NodeProto, here: Here, version: int) -> list[onnx.NodeProto]:
        """The operator in the form of the new opset, through all changes in between."""
        up = self._opset > version
        while True:
            op = node.op_type
            missing = self._opset < first_version(op) and (op, first_version(op)) not in DOWN
            if not up and (missing or is_deprecated(op, self._opset)):
                return self._expanded(node, here, version)
            crossed = next(iter(boundaries(op, version, self._opset)), None)
            if crossed is None:
                return [node]
            adapter = (UP if up else DOWN).get((op, crossed))
            made = adapter(node, here) if adapter is not None else None
            version = crossed if up else crossed - 1
            if made is None or (len(made) == 1 and made[0] is node):
                settle(node, here, op, crossed, up=up)
                continue
            return [result for one in made for result in self._carried(one, here, version)]

    def _expanded(self, node: onnx.NodeProto, here: Here, version: int) -> list[onnx.NodeProto]:
        made = expanded(node, here, version)
        if made is None:
            raise NoFormError(f"it came with opset {first_version(node.op_type)}")
        for graph in (graph for one in made for body in bodies(one) for graph in all_graphs(body)):
            replace(graph.node, [result for one in graph.node for result in self._carried(one, here, version)])
        return [result for one in made for result in self._carried(one, here, version)]
