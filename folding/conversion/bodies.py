"""Copies of a function's body in the place of a call: with new names, and with the attributes of the call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from folding.graph.node import bodies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


@dataclass(frozen=True)
class Renaming:
    """What the names of a body become: `names` those that are known, all others fresh ones with `prefix`.

    `attributes` are those of the call, and the defaults of others. `names` grows while the body is copied.
    """

    names: dict[str, str]
    attributes: Mapping[str, onnx.AttributeProto]
    prefix: str
    fresh: Callable[[str], str]

    def of(self, name: str) -> str:
        """The new name of a value; "" stays, as an absent input or output."""
        if name and name not in self.names:
            self.names[name] = self.fresh(f"{self.prefix}.{name}")
        return self.names.get(name, "")


def copied(nodes: Iterable[onnx.NodeProto], renaming: Renaming) -> list[onnx.NodeProto]:
    """The operators of a body with new names; payloads, metadata and unknown fields stay with them."""
    made = []
    for node in nodes:
        one = onnx.NodeProto()
        one.CopyFrom(node)
        _rename(one, renaming)
        made.append(one)
    return made


def _rename(node: onnx.NodeProto, renaming: Renaming) -> None:
    node.name = renaming.fresh(f"{renaming.prefix}.{node.name or node.op_type.lower()}")
    for field in (node.input, node.output):
        for index, name in enumerate(field):
            field[index] = renaming.of(name)
    _settle_attributes(node, renaming.attributes)
    for graph in bodies(node):
        inner = Renaming(dict(renaming.names), renaming.attributes, renaming.prefix, renaming.fresh)
        own = [value.name for value in graph.input]
        own += [t.name for t in graph.initializer] + [s.values.name for s in graph.sparse_initializer]
        own += [name for nested in graph.node for name in nested.output]
        inner.names.update({name: renaming.fresh(f"{renaming.prefix}.{name}") for name in dict.fromkeys(own) if name})
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.name = inner.names.get(value.name, value.name)
        for sparse in graph.sparse_initializer:
            sparse.values.name = inner.names[sparse.values.name]
        for nested in graph.node:
            _rename(nested, inner)


def _settle_attributes(node: onnx.NodeProto, attributes: Mapping[str, onnx.AttributeProto]) -> None:
    """Give attributes that refer to one of the call its value, or its default; without either it goes."""
    for index in reversed(range(len(node.attribute))):
        proto = node.attribute[index]
        if not proto.ref_attr_name:
            continue
        name, found = proto.name, attributes.get(proto.ref_attr_name)
        if found is None:
            del node.attribute[index]
            continue
        proto.CopyFrom(found)
        proto.name = name
