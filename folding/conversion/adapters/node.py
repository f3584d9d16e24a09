"""What an adapter does to one operator: read, set and take attributes and inputs; and how it says that it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx import helper

from folding.editing.surgery import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from folding.conversion.here import Here

    # Changes the operator in place, or returns what takes its place, in order; both in the form of the next opset.
    Adapter = Callable[[onnx.NodeProto, Here], list[onnx.NodeProto] | None]
    Table = dict[tuple[str, int], Adapter]  # by operator and the opset in which its meaning changed


class NoFormError(Exception):
    """The operator has no equal form on the other side of a change; the text says why: "its axes are computed"."""


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of an attribute.

    Raises:
        NoFormError: each call of a function sets its value.
    """
    for one in node.attribute:
        if one.name == name:
            if one.ref_attr_name:
                raise NoFormError(f"its {name} is the attribute {one.ref_attr_name!r} of a function")
            return helper.get_attribute_value(one)
    return default


def text(node: onnx.NodeProto, name: str, default: str = "") -> str:
    """The value of an attribute that is text."""
    value = attribute(node, name, default)
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def put(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Set an attribute; what else the message of an old one holds stays."""
    made = helper.make_attribute(name, value)
    for one in node.attribute:
        if one.name == name:
            one.CopyFrom(made)
            return
    node.attribute.append(made)


def drop(node: onnx.NodeProto, *names: str) -> None:
    """Remove attributes."""
    if any(one.name in names for one in node.attribute):
        replace(node.attribute, [one for one in node.attribute if one.name not in names])


def take(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of an attribute, which is removed."""
    value = attribute(node, name, default)
    drop(node, name)
    return value


def given(node: onnx.NodeProto, index: int) -> str:
    """The name of an input, "" if it is absent."""
    return node.input[index] if index < len(node.input) else ""


def connect(node: onnx.NodeProto, index: int, name: str) -> None:
    """Let an input read `name`; absent ones at the end are left out."""
    while len(node.input) <= index:
        node.input.append("")
    node.input[index] = name
    while node.input and not node.input[-1]:
        del node.input[-1]


def leave(node: onnx.NodeProto, first: int) -> None:
    """Remove the inputs from index `first` on."""
    del node.input[first:]


def label(node: onnx.NodeProto) -> str:
    """What a message calls the operator."""
    return next((name for name in (node.name, *node.output) if name), node.op_type)


def always(why: str) -> Adapter:
    """An adapter that has no form for any operator."""

    def refuse(node: onnx.NodeProto, here: Here) -> None:
        raise NoFormError(why)

    return refuse
