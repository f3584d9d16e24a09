"""Emulate 16-bit types: the same model in float32, in which every value that is stored in 16 bits is rounded to them.

ONNX Runtime on a CPU computes float16 in float32, leaves out Casts, and has no bfloat16: it calls right what overflows
on a GPU. Explicit pairs of Casts, to 16 bits and back, it keeps at every level of optimisation. So each 16-bit result
passes such a pair; operators compute in float32, as tensor cores accumulate:

    y = Op(x)  in float16    ->    raw = Op(x); half = Cast(raw, float16); y = Cast(half, float)

1. 16-bit constants become float32 constants with the same values, inputs and outputs are declared as float32.
2. An input is rounded by a pair, and its readers read what comes out of it.
3. Casts and CastLike to 16 bits become the pair; attributes that name a 16-bit type name float32.
4. Values that only move (Reshape, Concat, Relu, ...) are rounded already and need no pair.
5. Bodies of If, Loop and Scan are rewritten in place; a function once for each combination of types it is called with.

Not emulated: what an operator keeps in 16 bits inside (the state of an LSTM between two steps).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from onnx import NodeProto, TensorProto, helper

from folding.execution.angles import angles
from folding.execution.halves import HALVES, STANDARD, TYPED, UnknownTypeError, declared, element, may_be_half, widen
from folding.execution.rewriting import Rewriting
from folding.execution.widened import widen_tensor
from folding.onnxfile import read, write

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from onnx import AttributeProto, ModelProto, ValueInfoProto

    from folding.execution.halves import Body, Call
    from folding.onnxfile import OnnxFile

FLOAT = TensorProto.FLOAT
CAST_BY_NUMBER = 6  # the opset from which Cast takes a type as a number
CLIP_OF_INPUTS, BROADCASTING = 11, 7  # the opsets from which Clip takes its bounds as inputs, and Mul any shapes
# What remains of float32's 24 bits after the rounding of Veltkamp with 2 ** n + 1 are 24 - n.
SPLIT: dict[int, float] = {TensorProto.FLOAT16: 2.0**13 + 1, TensorProto.BFLOAT16: 2.0**16 + 1}
# Numbers whose product with that is finite, far beyond those of a model. Infinities become them: they are masks.
BOUND = 1e30


class EmulationError(Exception):
    """A model cannot be emulated; the text says why."""


class Emulation(NamedTuple):
    """The 16-bit inputs and outputs of the graph by their types, the roundings on the longest path to an output."""

    inputs: dict[str, str]
    outputs: dict[str, str]
    depth: int
    nbytes: int


def emulate(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> Emulation:
    """Write the emulation of the model file `source` to `target`; its weights are not loaded.

    Raises:
        EmulationError: the type of a value cannot be determined, or an operator is not the same in float32.
        ModelError, FoldingError: as `read` and `write`.
    """
    with read(source) as file:
        graph = file.model.graph
        held = {tensor.name for tensor in graph.initializer}
        inputs = {name: kind for name, kind in _halves(graph.input).items() if name not in held}
        outputs = _halves(graph.output)
        depth = _depth(_Emulator(file))
        return Emulation(inputs, outputs, depth, write(file, target))


def roughen(source: str | os.PathLike[str], target: str | os.PathLike[str], kind: str) -> Emulation:
    """Write the model file `source`, of float32, with every number rounded to the digits of a 16-bit type.

    The range stays that of float32: no number overflows, vanishes or becomes subnormal, so what differs is rounding
    alone. It is what any correct conversion to that type may show.

    Raises:
        As `emulate`.
    """
    code = next(code for code, name in HALVES.items() if name == kind)
    with read(source) as file:
        depth = _depth(_Rougher(file.model, code))
        return Emulation({}, {}, depth, write(file, target))


def _depth(rewriting: Rewriting) -> int:
    try:
        return rewriting.run()
    except UnknownTypeError as error:
        raise EmulationError(str(error)) from None
    except RecursionError:
        raise EmulationError("graphs or functions are nested too deep") from None


def _halves(values: Iterable[ValueInfoProto]) -> dict[str, str]:
    return {value.name: HALVES[code] for value in values if (code := element(declared(value.type))) in HALVES}


class _Emulator(Rewriting):
    """Values of 16 bits pass a pair of Casts."""

    def __init__(self, file: OnnxFile) -> None:
        super().__init__(file.model)
        self._file = file
        _require_opset(file.model, CAST_BY_NUMBER)

    def rounds(self, code: int) -> bool:
        return code in HALVES

    def rounding(self, raw: str, rounded: str, code: int) -> list[NodeProto]:
        half = self.fresh()
        return [_cast(raw, half, code), _cast(half, rounded, FLOAT)]

    def rounded_cast(self, cast: NodeProto, code: int) -> list[NodeProto]:
        name, half = cast.output[0], self.fresh()
        kept = [one for one in cast.attribute if one.name != "to"]
        del cast.attribute[:], cast.input[1:]
        cast.op_type, cast.output[0] = "Cast", half
        cast.attribute.extend([*kept, helper.make_attribute("to", code)])
        return [_cast(half, name, FLOAT)]

    def constant(self, held: TensorProto) -> bool:
        widen_tensor(self._file, held)
        return False

    def declaration(self, value: ValueInfoProto) -> None:
        widen(value.type)

    def attributes(self, node: NodeProto, body: Body) -> None:
        """Widen the constants in the attributes of a node, and the types that they name."""
        for attribute in node.attribute:
            found = body.resolved(attribute)
            if attribute.name in TYPED and found is not None and found.i in HALVES:
                attribute.CopyFrom(helper.make_attribute(attribute.name, FLOAT))
            self.default(attribute)

    def default(self, attribute: AttributeProto) -> None:
        if attribute.HasField("t"):
            widen_tensor(self._file, attribute.t)
        if attribute.HasField("sparse_tensor"):
            widen_tensor(self._file, attribute.sparse_tensor.values)
        for held in (*attribute.tensors, *(one.values for one in attribute.sparse_tensors)):
            widen_tensor(self._file, held)


class _Rougher(Rewriting):
    """Values of float32 are rounded to fewer digits, where a 16-bit value could stand in their place.

    None could where an angle is made, see `angles`.

    With c = 2**n + 1 and t = c*x, all rounded, t - (t - x) is x rounded to 24 - n bits (Veltkamp 1968; Dekker, "A
    floating-point technique for extending the available precision", 1971).
    """

    moving = Rewriting.moving - {"Constant"}

    def __init__(self, model: ModelProto, code: int) -> None:
        super().__init__(model)
        _require_opset(model, max(CLIP_OF_INPUTS, BROADCASTING))
        self._values = {self.fresh(): value for value in (SPLIT[code], -BOUND, BOUND)}
        self._exact = angles(model.graph)

    def rounds(self, code: int) -> bool:
        return code == FLOAT

    def preamble(self) -> list[NodeProto]:
        return [helper.make_node("Constant", [], [name], value_float=value) for name, value in self._values.items()]

    def rounding(self, raw: str, rounded: str, code: int) -> list[NodeProto]:  # noqa: ARG002
        factor, low, high = self._values
        x, t, rest = (self.fresh() for _ in range(3))
        return [
            helper.make_node("Clip", [raw, low, high], [x]),
            helper.make_node("Mul", [x, factor], [t]),
            helper.make_node("Sub", [t, x], [rest]),
            helper.make_node("Sub", [t, rest], [rounded]),
        ]

    def constant(self, held: TensorProto) -> bool:
        return held.data_type == FLOAT

    def reads_rounded(self, call: Call, place: int) -> bool:
        return may_be_half(call, place) and self._exact.isdisjoint(call.node.output)

    def _rounded(self, node: NodeProto, place: int, code: int) -> list[NodeProto]:
        return [] if node.output[place] in self._exact else super()._rounded(node, place, code)


def _require_opset(model: ModelProto, least: int) -> None:
    version = next((one.version for one in model.opset_import if one.domain in STANDARD), least)
    if version < least:
        raise EmulationError(f"the model is of operator set {version}, and this takes {least} or newer")


def _cast(source: str, target: str, code: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], to=code)
