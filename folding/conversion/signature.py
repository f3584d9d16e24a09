"""The signature of a model: name, type and shape of what goes in and out, and whether its first axis is a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from folding.analysis import shapes
from folding.analysis.inlined import with_small_values
from folding.analysis.values import indexed
from folding.conversion.dimensions import dims_of, real_inputs
from folding.conversion.shapes import fix
from folding.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from folding.algebra.shape import Dimension, Shape
    from folding.onnxfile import OnnxFile

BATCHES = 3, 5  # lengths that the first axis is set to: odd primes, which no other length of a model follows by chance


@dataclass(frozen=True)
class Tensor:
    """One input or output.

    Attributes:
        name: its name.
        kind: its element type as ONNX names it, in lower case; "sequence", "map" and so on if it is no tensor.
        dims: its lengths, and names or None where they are open; None if its rank is unknown.
    """

    name: str
    kind: str
    dims: Shape | None


@dataclass(frozen=True)
class Signature:
    """What goes in and out.

    Attributes:
        inputs: what a caller has to give: inputs without a default value.
        outputs: what comes back.
        is_batched: whether the first axis of all of them is open, and one length: if it is set on the inputs, all
            outputs are inferred to have it.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    is_batched: bool


def signature(file: OnnxFile) -> Signature:
    """The signature of a model. A length that it declares counts, as for a runtime; others are inferred."""
    found = _inferred(file)
    given = [_tensor(value, {}) for value in real_inputs(file.model).values()]
    outputs = [_tensor(value, found) for value in file.model.graph.output]
    return Signature(tuple(given), tuple(outputs), _is_batched(file, [*given, *outputs]))


def _tensor(value: onnx.ValueInfoProto, inferred: Mapping[str, Shape]) -> Tensor:
    which = str(value.type.WhichOneof("value") or "")
    if which != "tensor_type":
        return Tensor(value.name, which.removesuffix("_type") or "undefined", None)
    kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    declared, known = dims_of(value), inferred.get(value.name)
    if declared is None or known is None or len(known) != len(declared):
        return Tensor(value.name, kind, known if declared is None else declared)
    return Tensor(value.name, kind, tuple(map(_closest, declared, known)))


def _closest(declared: Dimension, inferred: Dimension) -> Dimension:
    return inferred if isinstance(inferred, int) and not isinstance(declared, int) else declared


def _inferred(file: OnnxFile) -> Mapping[str, Shape]:
    graph = indexed(file.variant(with_small_values(file, file.model)))
    shapes.infer(graph)
    return graph.main.shapes


def _is_batched(file: OnnxFile, tensors: list[Tensor]) -> bool:
    if not all(tensor.dims and not isinstance(tensor.dims[0], int) for tensor in tensors):
        return False
    return all(_follow(file, length) for length in BATCHES)


def _follow(file: OnnxFile, length: int) -> bool:
    """Whether all inputs take this length as their first, and all outputs have it then."""
    variant = file.variant(file.model)
    try:
        fix(variant, {}, length)
    except OptionError:
        return False
    found = _inferred(variant)
    firsts = [dims_of(value) for value in real_inputs(variant.model).values()]
    firsts += [found.get(value.name) for value in variant.model.graph.output]
    return all(dims is not None and dims[:1] == (length,) for dims in firsts)
