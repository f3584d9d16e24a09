"""Narrow types for a target that asks for it: double to float, and int64 to int32 where the values are known to fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, defs

from folding.conversion.dimensions import all_graphs
from folding.conversion.doubles import to_float
from folding.conversion.here import Here, Known
from folding.conversion.unread import remove_unread
from folding.editing.surgery import replace
from folding.errors import OptionError
from folding.graph.node import STANDARD_DOMAINS
from folding.report.changes import EXAMPLES, Change

if TYPE_CHECKING:
    from collections.abc import Mapping

    from folding.conversion.here import Array
    from folding.onnxfile import OnnxFile

INT32 = np.iinfo(np.int32)
LARGEST = 1 << 20  # elements of a constant of indices that is rewritten; larger ones are data
# The inputs that hold indices, whatever they are computed from: below a length, so below 2**31 if that is known to be
INDICES = {"Gather": 1, "GatherElements": 1, "ScatterElements": 1}
BOUNDS = ("Slice", 1, 2)  # an end far behind the last element means the last element, in either type


def narrow(file: OnnxFile, types: Mapping[str, str]) -> list[Change]:
    """Write `file.model` in narrower types: `{"double": "float"}`, `{"int64": "int32"}`, or both.

    Graph inputs and outputs keep their types; a Cast is put behind or before them. int64 becomes int32 only where an
    operator takes either and the result does not depend on it: constants in range, and inputs of the graph that are
    indices into an axis of known length. Whatever the standard wants as int64 (the sizes of a Reshape) stays.

    Raises:
        OptionError: another pair of types is asked for, or a number is out of the range of the narrower type.
    """
    known = {"double": "float", "int64": "int32"}
    for wide, narrower in types.items():
        if known.get(wide) != narrower:
            raise OptionError(f"{wide} cannot be narrowed to {narrower}; known are double to float and int64 to int32")
    changes = to_float(file) if "double" in types else []
    return [*changes, *_to_int32(file)] if "int64" in types else changes


def _to_int32(file: OnnxFile) -> list[Change]:
    opset = next((int(o.version) for o in file.model.opset_import if o.domain in STANDARD_DOMAINS), 0)
    if not 0 < opset <= defs.onnx_opset_version():
        return []
    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    run = _Indices(file, model, opset)
    run.everything()
    if not run.labels:
        return []
    remove_unread(model, run.released)
    file.model = model
    return [Change("converted", "indices from int64 to int32", len(run.labels), tuple(run.labels[:EXAMPLES]))]


class _Indices:
    """One pass over the graphs of a model, and what it changed."""

    def __init__(self, file: OnnxFile, model: onnx.ModelProto, opset: int) -> None:
        self._known, self._model, self._opset = Known(file), model, opset
        self._inputs = {value.name for value in model.graph.input}
        self.labels: list[str] = []
        self.released: list[str] = []

    def everything(self) -> None:
        """Narrow what can be in the main graph and its bodies."""
        scopes = self._known.scopes(None)
        for number, proto in reversed([*enumerate(all_graphs(self._model.graph))]):
            here = Here(proto, lambda n=number: scopes[n], self._known, self._model.ir_version, is_function=False)  # type: ignore[misc]
            casts: dict[str, str] = {}
            nodes: list[onnx.NodeProto] = []
            for node in proto.node:
                nodes += [*self._narrowed(node, here, casts), node]
            if here.constants or len(nodes) != len(proto.node):
                replace(proto.node, [*here.constants, *nodes])

    def _narrowed(self, node: onnx.NodeProto, here: Here, casts: dict[str, str]) -> list[onnx.NodeProto]:
        """Narrow the inputs of an operator; return the Casts to put before it."""
        if node.domain not in STANDARD_DOMAINS:
            return []
        before, made = list(node.input), []
        for indices in _free(node, self._opset):
            given = [i for i in indices if i < len(node.input) and here.code(node.input[i]) == TensorProto.INT64]
            arrays = [_fitting(here.array(node.input[i]), bounds=(node.op_type, i) in _bounds()) for i in given]
            for index, array in zip(given, arrays, strict=True) if all(a is not None for a in arrays) else ():
                node.input[index] = here.constant(array, f"{node.input[index]}_int32")
            if any(a is None for a in arrays) and len(given) == 1:
                made += self._cast(node, given[0], here, casts)
        if list(node.input) != before:
            self.labels.append(node.name or node.output[0])
            self.released += set(before) - set(node.input)
        return made

    def _cast(self, node: onnx.NodeProto, index: int, here: Here, casts: dict[str, str]) -> list[onnx.NodeProto]:
        """A Cast behind a graph input that holds indices below a known length."""
        name, axis = node.input[index], next((a.i for a in node.attribute if a.name == "axis"), 0)
        length = here.length(node.input[0], axis)
        is_index = INDICES.get(node.op_type) == index and name in self._inputs
        if not is_index or length is None or length > INT32.max or here.array(name) is not None:
            return []
        if name in casts:
            node.input[index] = casts[name]
            return []
        cast = here.new("Cast", [name], f"{name}_int32", here.shape(name), TensorProto.INT32, to=TensorProto.INT32)
        node.input[index] = casts[name] = cast.output[0]
        return [cast]


def _bounds() -> set[tuple[str, int]]:
    op, *inputs = BOUNDS
    return {(op, index) for index in inputs if isinstance(index, int)}


def _free(node: onnx.NodeProto, opset: int) -> list[list[int]]:
    """The inputs that may be int64 or int32, together if they have to be of one type, and that no result shares."""
    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return []
    results = {formal.type_str for formal in schema.outputs}
    groups: dict[str, list[int]] = {}
    for index, formal in enumerate(schema.inputs):
        fits = {"tensor(int64)", "tensor(int32)"} <= set(formal.types)
        if fits and formal.type_str not in results and formal.option != defs.OpSchema.FormalParameterOption.Variadic:
            groups.setdefault(formal.type_str, []).append(index)
    return list(groups.values())


def _fitting(array: Array | None, *, bounds: bool) -> Array | None:
    """The values as int32; None if they are computed, many, or out of range."""
    if array is None or array.size > LARGEST:
        return None
    if bounds:
        array = np.clip(array, INT32.min, INT32.max)
    fits = not array.size or (array.min() >= INT32.min and array.max() <= INT32.max)
    return array.astype(np.int32) if fits else None
