"""What the schemas of two operator sets say of one operator: when it changed, and whether a node fits."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, checker, defs, helper

from folding.conversion.adapters.node import NoFormError, drop
from folding.conversion.omitted import require_given
from folding.graph.node import STANDARD_DOMAINS, bodies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from folding.conversion.here import Here

HINTS = frozenset({"consumed_inputs"})  # which inputs a runtime might overwrite, in opset 1
NEVER = 1 << 30  # the first version of an operator that onnx does not know


@cache
def versions(op: str) -> tuple[int, ...]:
    """The opsets in which the schema of a standard operator changed, oldest first; () if onnx does not know it."""
    found: list[int] = []
    at = defs.onnx_opset_version()
    while at >= 1:
        try:
            found.append(int(defs.get_schema(op, at, "").since_version))
        except defs.SchemaError:
            break
        at = found[-1] - 1
    return tuple(reversed(found))


def first_version(op: str) -> int:
    """The opset with which an operator came; NEVER if onnx does not know it."""
    return versions(op)[0] if versions(op) else NEVER


def boundaries(op: str, start: int, stop: int) -> list[int]:
    """The opsets in which an operator changed on the way from one opset to another, in the order of the way."""
    between = [v for v in versions(op) if min(start, stop) < v <= max(start, stop)]
    return between if stop > start else between[::-1]


@cache
def _schema(op: str, opset: int) -> defs.OpSchema | None:
    try:
        return defs.get_schema(op, opset, "")
    except defs.SchemaError:
        return None


@cache
def only_widens(op: str, start: int, stop: int) -> bool:
    """Whether the schema of a newer opset takes whatever the older one takes: more types, attributes, inputs."""
    old, new = _schema(op, start), _schema(op, stop)
    if old is None or new is None or new.deprecated or stop < start:
        return False
    same = all(
        name in new.attributes
        and attribute.default_value.SerializeToString() == new.attributes[name].default_value.SerializeToString()
        for name, attribute in old.attributes.items()
    )
    few = new.min_input <= old.min_input and new.min_output <= old.min_output
    many = new.max_input >= old.max_input and new.max_output >= old.max_output
    return same and few and many and _takes(old.inputs, new.inputs) and _takes(old.outputs, new.outputs)


def _takes(old: Sequence[defs.OpSchema.FormalParameter], new: Sequence[defs.OpSchema.FormalParameter]) -> bool:
    """Whether the newer parameters have all types of the older ones, and share no more of them."""
    return (
        len(new) >= len(old)
        and all(set(one.types) <= set(two.types) for one, two in zip(old, new, strict=False))
        and len({one.type_str for one in new[: len(old)]}) >= len({one.type_str for one in old})
    )


def is_deprecated(op: str, opset: int) -> bool:
    """Whether an operator set still has an operator, but not for new models."""
    schema = _schema(op, opset)
    return schema is not None and bool(schema.deprecated)


def settle(node: onnx.NodeProto, here: Here, op: str, crossed: int, *, up: bool) -> None:
    """Drop what the schema on the other side does not have, if its absence means the same.

    Raises:
        NoFormError: it means something else; which attribute, input or output it is.
    """
    older, newer = _schema(op, crossed - 1), _schema(op, crossed)
    if older is None or newer is None or node.op_type != op:
        return  # the adapter has renamed it
    left, entered = (older, newer) if up else (newer, older)
    for one in list(node.attribute):
        if one.name in entered.attributes or one.name not in left.attributes:
            continue
        default = left.attributes[one.name].default_value
        is_default = bool(default.type) and not one.ref_attr_name
        if one.name not in HINTS and not (
            is_default and helper.get_attribute_value(one) == helper.get_attribute_value(default)
        ):
            raise NoFormError(f"its attribute {one.name} has no counterpart there")
        drop(node, one.name)
    if any(node.input[entered.max_input :]):
        raise NoFormError(f"its input {next(filter(None, node.input[entered.max_input :]))!r} has no counterpart there")
    del node.input[entered.max_input :]
    for name in node.output[entered.max_output :]:
        if name and here.is_read(name):
            raise NoFormError(f"its output {name!r} has no counterpart there")
    del node.output[entered.max_output :]


def require_fit(node: onnx.NodeProto, here: Here, opset: int, before: int, *, is_new: bool) -> None:
    """Refuse a node that the schema of its new opset does not allow; one that was not changed had to be right before.

    Raises:
        NoFormError: why.
    """
    if node.domain not in STANDARD_DOMAINS:
        return
    schema = _schema(node.op_type, opset)
    if schema is None or schema.deprecated:
        raise NoFormError(f"opset {opset} has no {node.op_type}")
    _require_types(node, here, schema)
    formal = zip(node.input, schema.inputs, strict=False)
    require_given((name for name, one in formal if one.option == defs.OpSchema.FormalParameterOption.Single), here)
    refers = any(attribute.ref_attr_name for attribute in node.attribute)
    if refers or any(True for _ in bodies(node)):
        return  # the checker takes neither alone
    why = _malformed(node, opset)
    if why and (is_new or not _malformed(node, before)):
        raise NoFormError(why)


def _malformed(node: onnx.NodeProto, opset: int) -> str:
    """Why a node breaks its schema; "" if it does not."""
    context = checker.C.CheckerContext()
    context.ir_version = onnx.IR_VERSION
    context.opset_imports = {"": opset}
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    plain.domain = ""  # the checker does not know the spelling "ai.onnx"
    try:
        checker.check_node(plain, context)
    except checker.ValidationError as error:
        return str(error).strip().splitlines()[0]
    return ""


def _require_types(node: onnx.NodeProto, here: Here, schema: defs.OpSchema) -> None:
    """Refuse types that the schema does not have; unknown ones pass, since a runtime refuses those itself."""
    variables: dict[str, int] = {}
    for names, formals in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for index, name in enumerate(names):
            code = here.code(name) if name and formals else None
            if not name or not formals:
                continue
            formal = formals[min(index, len(formals) - 1)]
            if code is None:
                if (other := here.other(name)) and not any(kind.startswith(f"{other}(") for kind in formal.types):
                    raise NoFormError(f"{name!r} is no tensor, which it does not take there")
                continue
            kind = f"tensor({TensorProto.DataType.Name(code).lower()})"
            if formal.types and kind not in formal.types:
                raise NoFormError(f"{name!r} has the type {kind[7:-1]}, which it does not take there")
            if formal.is_homogeneous and variables.setdefault(formal.type_str, code) != code:
                raise NoFormError(f"its inputs have different types, which it does not take there ({name!r})")
