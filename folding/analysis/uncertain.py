"""Lengths that inference states although a runtime may have others: by overridable initializers, by disputed rules.

An overridable initializer (a graph input too, from IR version 4 on) has a default value that a caller may replace; a
length computed from it is the default's. And for some operators onnx and the runtimes do not compute the same length:

- pools with `ceil_mode` before opset 22, from which on no window may start in the padding at the end;
- pools with auto_pad SAME_UPPER or SAME_LOWER and dilations;
- ConvTranspose with auto_pad SAME_LOWER and output_padding.

Shapes that a file records downstream of either were inferred by the same rules: their ranks hold, their lengths may
not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper

from folding.graph.node import STANDARD_DOMAINS, bodies

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

    from folding.algebra.shape import Shape
    from folding.graph.index import Graph, Scope
    from folding.graph.node import Node

POOLS = frozenset({"AveragePool", "LpPool", "MaxPool"})
DISPUTED = POOLS | {"ConvTranspose"}
RESAMPLING = frozenset({"Resize", "Upsample"})  # their scales are floating-point numbers, and give lengths
CEIL_MODE_SETTLED = 22  # opset
UNKNOWN_DOMAIN = "bnfold.unknown"  # no operator of it has a schema, so inference infers nothing


def is_disputed(proto: onnx.NodeProto, opset: int) -> bool:
    """Whether onnx's inference and the runtimes may differ in the lengths of the operator's result."""
    if proto.op_type not in DISPUTED or proto.domain not in STANDARD_DOMAINS:
        return False
    given = {a.name: helper.get_attribute_value(a) for a in proto.attribute if not a.ref_attr_name}
    same = given.get("auto_pad", b"")
    if proto.op_type == "ConvTranspose":
        return same == b"SAME_LOWER" and any(given.get("output_padding", ()))
    rounds_up = bool(given.get("ceil_mode")) and opset < CEIL_MODE_SETTLED
    return rounds_up or (same in {b"SAME_UPPER", b"SAME_LOWER"} and any(n != 1 for n in given.get("dilations", ())))


def shape_of_disputed(node: Node) -> Shape | None:
    """The shape of a disputed operator's result: batch and channels, the other lengths unknown; None if unknown."""
    shape = _shape(node, 0)
    if shape is None or len(shape) < 2:
        return None
    channels = shape[1]
    if node.op == "ConvTranspose":  # weights are (inputs, outputs / group, *kernel)
        weight, group = _shape(node, 1), node.attribute("group")
        per_group = weight[1] if weight is not None and len(weight) == len(shape) else None
        channels = per_group * int(group) if isinstance(per_group, int) else None
    return (shape[0], channels, *(None,) * (len(shape) - 2))


def _shape(node: Node, index: int) -> Shape | None:
    scope = node.scope.owner(node.inputs[index]) if node.has(index) else None
    return None if scope is None else scope.shapes.get(node.inputs[index])


def hide_disputed(copy: onnx.ModelProto, opset: int) -> None:
    """Make the disputed operators of a copy of the model operators of which inference knows nothing."""
    if _hide(copy.graph.node, opset):
        copy.opset_import.add(domain=UNKNOWN_DOMAIN, version=1)
    for function in copy.functions:
        if _hide(function.node, _opset(function)):
            function.opset_import.add(domain=UNKNOWN_DOMAIN, version=1)


def _hide(nodes: Iterable[onnx.NodeProto], opset: int) -> bool:
    hidden = False
    for node in nodes:
        if is_disputed(node, opset):
            node.domain, hidden = UNKNOWN_DOMAIN, True
        for body in bodies(node) if node.attribute else ():
            hidden |= _hide(body.node, opset)
    return hidden


def _opset(function: onnx.FunctionProto) -> int:
    return next((o.version for o in function.opset_import if o.domain in STANDARD_DOMAINS), 1)


def doubtful(graph: Graph) -> dict[int, set[str]]:
    """The values whose recorded shapes may be wrong, by the index of their scope: all that an uncertain length reaches.

    In nested graphs these are all values, as soon as there is one anywhere.
    """
    inside = any(is_disputed(node.proto, graph.opset) for scope in graph.scopes[1:] for node in scope.nodes)
    called = any(is_disputed(node, _opset(function)) for function in graph.model.functions for node in function.node)
    found = {graph.main.index: _reached(graph.main, inside=inside, called=called)}
    if inside or found[graph.main.index]:
        found |= {scope.index: {name for node in scope.nodes for name in node.outputs} for scope in graph.scopes[1:]}
    return found


def _reached(scope: Scope, *, inside: bool, called: bool) -> set[str]:
    """The values of the main graph that an uncertain length reaches.

    `inside` says that a nested graph has a disputed operator, `called` that a function has one.
    """
    reached = {name for name in scope.overridable if _gives_length(scope, name)}
    before = -1
    while before < len(reached):  # more than twice only if operators are not in order
        before = len(reached)
        for node in scope.nodes:
            nested = (inside or not reached.isdisjoint(scope.captured)) and bool(bodies(node.proto))
            call = called and node.proto.domain not in STANDARD_DOMAINS
            if nested or call or is_disputed(node.proto, scope.graph.opset) or not reached.isdisjoint(node.inputs):
                reached.update(filter(None, node.outputs))
    return reached


def _gives_length(scope: Scope, name: str) -> bool:
    """Whether a length may be computed from the value of this initializer."""
    dtype = scope.dtype(name)
    if dtype is None or dtype.kind in "iu":
        return True
    return any(edge.node.op in RESAMPLING and edge.index > 0 for edge in scope.uses.get(name, ()))
