"""Which values of a model are stored in 16 bits, by the schemas of the operators; nothing is run, no shape is needed.

A kind is a type as ONNX writes it, "tensor(float16)" or "seq(tensor(bfloat16))", and "" for all that is not of 16 bits.
"""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from onnx import TensorProto, TypeProto, defs

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from onnx import AttributeProto, NodeProto

HALVES: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
STANDARD = frozenset({"", "ai.onnx"})  # two spellings of one domain, see the ONNX IR specification
# The attributes of the standard that name a type of floating-point numbers, as a TensorProto.DataType.
TYPED = frozenset({"to", "dtype", "output_dtype", "output_datatype", "stash_type", "softmax_precision"})
# Scale and zero point follow the data; the numbers that come out have the type of the scale.
DEQUANTIZERS = frozenset({"DequantizeLinear"})
# Operators of other domains whose outputs are whole numbers, whatever they read.
WHOLE = ("QuantizeLinear", "Integer")


OPSET = 13  # for a body that imports no standard operators: it has Cast for both types


class UnknownTypeError(Exception):
    """The type of a value cannot be told; the text says of which."""


def tensor(code: int) -> str:
    """The kind of a tensor of an element type."""
    return f"tensor({HALVES[code]})" if code in HALVES else ""


def element(kind: str) -> int:
    """The 16-bit element type of a tensor; 0 for sequences, and for all else."""
    return next((code for code, name in HALVES.items() if kind == f"tensor({name})"), 0)


def declared(kind: TypeProto) -> str:
    """The kind of a declared value."""
    if kind.HasField("sequence_type"):
        return _wrapped("seq", declared(kind.sequence_type.elem_type))
    if kind.HasField("optional_type"):
        return _wrapped("optional", declared(kind.optional_type.elem_type))
    return tensor(kind.sparse_tensor_type.elem_type if kind.HasField("sparse_tensor_type") else _elements(kind))


def _elements(kind: TypeProto) -> int:
    return int(kind.tensor_type.elem_type)


def widen(kind: TypeProto) -> None:
    """Make a declared value one of float32 where it is of 16 bits."""
    if kind.HasField("sequence_type"):
        widen(kind.sequence_type.elem_type)
    elif kind.HasField("optional_type"):
        widen(kind.optional_type.elem_type)
    else:
        for one in ("tensor_type", "sparse_tensor_type"):
            if kind.HasField(one) and getattr(kind, one).elem_type in HALVES:
                getattr(kind, one).elem_type = TensorProto.FLOAT


def _wrapped(what: str, kind: str) -> str:
    return kind and f"{what}({kind})"


def unwrapped(kind: str) -> str:
    """The kind of what a sequence or an optional holds."""
    return kind.partition("(")[2].removesuffix(")") if kind.startswith(("seq(", "optional(")) else kind


def sequence(kind: str) -> str:
    """The kind of a sequence of values of this kind."""
    return _wrapped("seq", kind)


class Call(NamedTuple):
    """An operator in its place: the kinds of its inputs, its operator set, its attributes, resolved in functions."""

    node: NodeProto
    inputs: Sequence[str]
    opset: int
    attribute: Callable[[str], AttributeProto | None]

    def type_of(self, name: str) -> str | None:
        """The kind that an attribute names; None if it is absent."""
        found = self.attribute(name)
        return None if found is None else tensor(found.i)

    def at(self, place: int) -> str:
        """The kind of an input; "" if it is absent."""
        return self.inputs[place] if place < len(self.inputs) else ""


@dataclass
class Body:
    """The values of a graph or function: their kinds, the roundings on the longest path to each, and new names.

    `hints` are the kinds that the file declares, `attributes` those of the call in a function.
    """

    opsets: dict[str, int]
    kinds: MutableMapping[str, str] = field(default_factory=dict)
    depths: MutableMapping[str, int] = field(default_factory=dict)
    renamed: MutableMapping[str, str] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, AttributeProto] = field(default_factory=dict)

    def inner(self) -> Body:
        """The scope of a graph in this one."""
        kinds, depths, renamed = (ChainMap({}, names) for names in (self.kinds, self.depths, self.renamed))
        return Body(self.opsets, kinds, depths, renamed, {}, self.attributes)

    def define(self, name: str, kind: str, depth: int) -> None:
        """Record a value."""
        self.kinds[name], self.depths[name] = kind, depth
        if name in self.renamed:
            self.renamed[name] = name

    def opset(self, node: NodeProto) -> int:
        """The operator set of a node."""
        return self.opsets.get("" if node.domain in STANDARD else node.domain, OPSET)

    def attribute(self, node: NodeProto, name: str) -> AttributeProto | None:
        """An attribute of a node; in a function, of the call that it refers to."""
        found = next((one for one in node.attribute if one.name == name), None)
        return self.resolved(found) if found is not None else None

    def resolved(self, attribute: AttributeProto) -> AttributeProto | None:
        """The attribute itself, or what it refers to."""
        return self.attributes.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute

    def call(self, node: NodeProto) -> Call:
        """A node with what is known here."""
        kinds = [self.kinds.get(name, "") for name in node.input]
        return Call(node, kinds, self.opset(node), lambda name: self.attribute(node, name))


def results(call: Call) -> list[str]:
    """The kinds of the outputs of an operator that has no graphs in it and is no call of a function.

    Raises:
        UnknownTypeError: the operator gives the bits of numbers another type.
    """
    node = call.node
    if node.domain not in STANDARD:
        return _foreign(call)
    if (rule := RULES.get(node.op_type)) is not None:
        kind = rule(call)
        return [kind] * len(node.output)
    if node.op_type == "LayerNormalization":
        stash = call.type_of("stash_type") or ""
        return [call.at(0), stash, stash][: len(node.output)]
    return _by_schema(call)


def _by_schema(call: Call) -> list[str]:
    """What is bound to one type variable has one type."""
    formal = _formal(call.node.op_type, call.node.domain, call.opset)
    if formal is None:
        return _foreign(call)
    reads, makes = formal
    bound: dict[str, str] = {}
    for place, kind in enumerate(call.inputs):
        variable = reads[min(place, len(reads) - 1)] if reads else ""
        if kind:
            bound.setdefault(variable, kind)
    variables = [makes[min(place, len(makes) - 1)] if makes else "" for place in range(len(call.node.output))]
    return [bound.get(variable, "") for variable in variables]


@cache
def _formal(op: str, domain: str, opset: int) -> tuple[list[str], list[str]] | None:
    """The type variables of the inputs and of the outputs of an operator; None if onnx does not know it."""
    try:
        schema = defs.get_schema(op, opset, "" if domain in STANDARD else domain)
    except defs.SchemaError:
        return None
    return [one.type_str for one in schema.inputs], [one.type_str for one in schema.outputs]


def _foreign(call: Call) -> list[str]:
    """Of an operator that onnx does not know: its data are what it reads first, of a dequantizer the scale."""
    op, count = call.node.op_type, len(call.node.output)
    if call.node.domain not in STANDARD and _formal(op, call.node.domain, call.opset) is not None:
        return _by_schema(call)
    if op.endswith(WHOLE) and op not in DEQUANTIZERS:
        return [""] * count
    kind = call.at(1) if op in DEQUANTIZERS else next((one for one in call.inputs if element(one)), "")
    return [kind, *[""] * (count - 1)]


def _named(name: str) -> Callable[[Call], str]:
    return lambda call: call.type_of(name) or ""


def _like(name: str) -> Callable[[Call], str]:
    """An attribute, or else the type of the input."""

    def rule(call: Call) -> str:
        kind = call.type_of(name)
        return call.at(0) if kind is None else kind

    return rule


def _held(call: Call) -> str:
    """The type of the constant in an attribute."""
    for name in ("value", "sparse_value"):
        if (found := call.attribute(name)) is not None:
            return tensor(found.t.data_type or found.sparse_tensor.values.data_type)
    return ""


def _dequantized(call: Call) -> str:
    kind = call.type_of("output_dtype")
    return call.at(1) if kind is None else kind


def _reinterpreted(call: Call) -> str:
    raise UnknownTypeError(f"{call.node.op_type} reads the bits of a number, which 32 bits do not have")


# Operators whose outputs are bound to no input by their schema.
RULES: dict[str, Callable[[Call], str]] = {
    "Cast": _named("to"),
    "CastLike": lambda call: call.at(1),
    **dict.fromkeys(("Constant", "ConstantOfShape"), _held),
    **dict.fromkeys(("EyeLike", "RandomNormalLike", "RandomUniformLike", "Bernoulli"), _like("dtype")),
    **dict.fromkeys(("RandomNormal", "RandomUniform", "Multinomial"), _named("dtype")),
    **dict.fromkeys(("BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix"), _named("output_datatype")),
    "DequantizeLinear": _dequantized,
    "SequenceEmpty": lambda call: sequence(call.type_of("dtype") or ""),
    **dict.fromkeys(("SequenceConstruct", "SplitToSequence"), lambda call: sequence(call.at(0))),
    **dict.fromkeys(("SequenceAt", "ConcatFromSequence", "OptionalGetElement"), lambda call: unwrapped(call.at(0))),
    "Optional": lambda call: _wrapped("optional", call.at(0)),
    "BitCast": _reinterpreted,
}
