"""Which values of a model are stored in 16 bits, by the schemas of the operators; nothing is run, no shape is needed.

A kind is a type as ONNX writes it, "tensor(float16)" or "seq(tensor(float))", and "" for all but the types in NAMES.
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
NAMES = HALVES | {TensorProto.FLOAT: "float"}
STANDARD = frozenset({"", "ai.onnx"})  # two spellings of one domain, see the ONNX IR specification
# The attributes of the standard that name a type of floating-point numbers, as a TensorProto.DataType.
TYPED = frozenset({"to", "dtype", "output_dtype", "output_datatype", "stash_type", "softmax_precision"})
# Scale and zero point follow the data; the numbers that come out have the type of the scale.
DEQUANTIZERS = frozenset({"DequantizeLinear"})
# Operators of other domains whose outputs are whole numbers, whatever they read.
WHOLE = ("QuantizeLinear", "Integer")


OPSET = 13  # for a body that imports no standard operators: it has Cast for both types


class UnknownTypeError(Exception):
    """The type of a value cannot be determined; the text says of which."""


def tensor(code: int) -> str:
    """The kind of a tensor of an element type."""
    return f"tensor({NAMES[code]})" if code in NAMES else ""


def element(kind: str) -> int:
    """The element type of a tensor; 0 for sequences, and for types without a name here."""
    return next((code for code, name in NAMES.items() if kind == f"tensor({name})"), 0)


KINDS = frozenset(map(tensor, NAMES))


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
    """An operator in its place: the kinds of its inputs, the roundings before each, its operator set and attributes."""

    node: NodeProto
    inputs: Sequence[str]
    depths: Sequence[int]
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
        depths = [self.depths.get(name, 0) for name in node.input]
        return Call(node, kinds, depths, self.opset(node), lambda name: self.attribute(node, name))


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
        stash = call.type_of("stash_type")
        stash = tensor(TensorProto.FLOAT) if stash is None else stash
        return [call.at(0), stash, stash][: len(node.output)]
    return _by_schema(call)


def _by_schema(call: Call) -> list[str]:
    """What is bound to one type variable has one type."""
    formal = _formal(call.node.op_type, call.node.domain, call.opset)
    if formal is None:
        return _foreign(call)
    reads, makes, _ = formal
    bound: dict[str, str] = {}
    for place, kind in enumerate(call.inputs):
        variable = reads[min(place, len(reads) - 1)] if reads else ""
        if kind:
            bound.setdefault(variable, kind)
    variables = [makes[min(place, len(makes) - 1)] if makes else "" for place in range(len(call.node.output))]
    return [bound.get(variable, variable if variable in KINDS else "") for variable in variables]


def may_be_half(call: Call, place: int) -> bool:
    """Whether an operator takes an input in 16 bits, too, at its own operator set or a later one."""
    node = call.node
    formal = _formal(node.op_type, node.domain, defs.onnx_opset_version() if node.domain in STANDARD else call.opset)
    if formal is None or not formal[0]:
        return True
    variable = formal[0][min(place, len(formal[0]) - 1)]
    return variable not in KINDS and tensor(TensorProto.FLOAT16) in formal[2].get(variable, ())


@cache
def _formal(op: str, domain: str, opset: int) -> tuple[list[str], list[str], dict[str, frozenset[str]]] | None:
    """The type variables of the inputs and outputs of an operator and their types; None if onnx does not know it."""
    try:
        schema = defs.get_schema(op, opset, "" if domain in STANDARD else domain)
    except defs.SchemaError:
        return None
    allowed = {one.type_param_str: frozenset(one.allowed_type_strs) for one in schema.type_constraints}
    return [one.type_str for one in schema.inputs], [one.type_str for one in schema.outputs], allowed


def _foreign(call: Call) -> list[str]:
    """Of an operator that onnx does not know: its data are what it reads first, of a dequantizer the scale."""
    op, count = call.node.op_type, len(call.node.output)
    if call.node.domain not in STANDARD and _formal(op, call.node.domain, call.opset) is not None:
        return _by_schema(call)
    if op.endswith(WHOLE) and op not in DEQUANTIZERS:
        return [""] * count
    kind = call.at(1) if op in DEQUANTIZERS else next((one for one in call.inputs if element(one)), "")
    return [kind, *[""] * (count - 1)]


def _named(name: str, default: int = TensorProto.FLOAT) -> Callable[[Call], str]:
    """An attribute."""

    def rule(call: Call) -> str:
        kind = call.type_of(name)
        return tensor(default) if kind is None else kind

    return rule


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
    floats = call.node.op_type == "ConstantOfShape" or any(map(call.attribute, ("value_float", "value_floats")))
    return tensor(TensorProto.FLOAT if floats else TensorProto.UNDEFINED)


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
    **dict.fromkeys(("RandomNormal", "RandomUniform"), _named("dtype")),
    **dict.fromkeys(("BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix"), _named("output_datatype")),
    "DequantizeLinear": _dequantized,
    "SequenceEmpty": lambda call: sequence(_named("dtype")(call)),
    **dict.fromkeys(("SequenceConstruct", "SplitToSequence"), lambda call: sequence(call.at(0))),
    **dict.fromkeys(("SequenceAt", "ConcatFromSequence", "OptionalGetElement"), lambda call: unwrapped(call.at(0))),
    "Optional": lambda call: _wrapped("optional", call.at(0)),
    "BitCast": _reinterpreted,
}
