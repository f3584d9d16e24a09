"""Model-local functions: inlined only where a normalization needs the constants of its caller to fold.

A function that contains its constants is folded like any graph, for all its callers at once. If the callers pass the
constants, the calls must be inlined first.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import onnx
from onnx import inliner

from folding.editing.rewiring import forget
from folding.graph.node import STANDARD_DOMAINS, bodies
from folding.graph.sites import NORMALIZATION
from folding.onnxfile import function_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from folding.graph.index import Graph, Scope
    from folding.graph.node import Node

TRIALS = 24  # how often a model is folded to find the functions to inline

FunctionKey = tuple[str, str, str]  # domain, name, overload
Name = tuple[str, str]  # domain and name: all overloads of a function are inlined together


def inline_where_needed(
    model: onnx.ModelProto, kept: Collection[str], fold: Callable[[onnx.ModelProto], None]
) -> tuple[onnx.ModelProto, list[str]]:
    """Inline only the functions that are needed to fold the most normalizations; return the model and their names.

    `fold` folds a model in place. Functions named in `kept` stay.
    """
    known = dict.fromkeys((f.domain, f.name) for f in model.functions if f.name not in kept)
    names = [name for name in known if all(_can_inline(model, f) for f in model.functions if _name(f) == name)]

    tried = 0

    def left(chosen: list[Name]) -> int:
        """The number of normalizations that are left; those of a function count once for every call."""
        nonlocal tried
        tried += 1
        candidate = inlined(model, chosen)
        fold(candidate)
        return count(inlined(candidate, names)).normalizations

    if not (count(model).normalizations and _has_one_version_each(model)):
        return model, []
    most = left([])
    fewest = left(names) if most and names else most
    if fewest >= most:
        return model, []
    # Each trial folds the whole model. With too many functions for that, more are inlined than needed.
    needed = _needed(names, [], lambda chosen: tried < TRIALS and left(chosen) <= fewest)
    return inlined(model, needed), sorted(name for _, name in needed)


def _needed(names: list[Name], others: list[Name], suffices: Callable[[list[Name]], bool]) -> list[Name]:
    """A minimal subset of `names` that suffices together with `others`, found by bisection."""
    if suffices(others):
        return []
    if len(names) == 1:
        return names
    first, second = names[: len(names) // 2], names[len(names) // 2 :]
    of_second = _needed(second, others + first, suffices)
    return _needed(first, others + of_second, suffices) + of_second


def inlined(model: onnx.ModelProto, names: Collection[Name]) -> onnx.ModelProto:
    """A copy of the model with all calls of these functions inlined."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if not names:
        return copy
    functions = {function_key(f.domain, f.name, f.overload): f for f in copy.functions if _name(f) in names}
    for node in _nodes(copy):
        function = functions.get(function_key(node.domain, node.op_type, node.overload))
        if function is not None:  # onnx's inliner loses the defaults of attributes, and the operator sets
            given = {attribute.name for attribute in node.attribute}
            node.attribute.extend(a for a in function.attribute_proto if a.name not in given)
    imported = {o.domain for o in copy.opset_import}
    for function in functions.values():
        copy.opset_import.extend(o for o in function.opset_import if o.domain not in imported)
        imported |= {o.domain for o in function.opset_import}
    return inliner.inline_selected_functions(copy, list(names))


def drop_uncalled(graph: Graph) -> list[str]:
    """Remove functions that no operator calls, directly or through others; return their names."""
    model, kept = graph.model, set[FunctionKey]()
    by_key = {function_key(f.domain, f.name, f.overload): f for f in model.functions}
    indexed = {id(scope.proto): scope for scope in graph.scopes if scope.is_function and scope.parent is None}
    waiting = [node.proto for scope in graph.scopes if not _root(scope).is_function for node in _left(scope)]
    while waiting:
        proto = waiting.pop()
        key = function_key(proto.domain, proto.op_type, proto.overload)
        if key in by_key and key not in kept:
            kept.add(key)
            inside = indexed.get(id(by_key[key]))
            scopes = [] if inside is None else [scope for scope in graph.scopes if _root(scope) is inside]
            waiting += [node.proto for scope in scopes for node in _left(scope)]
            waiting += [] if inside is not None else _nodes_of(by_key[key].node)
    gone = [index for index, f in enumerate(model.functions) if function_key(f.domain, f.name, f.overload) not in kept]
    names = [model.functions[index].name for index in gone]
    dropped = {id(model.functions[index]) for index in gone}
    forget(graph, [scope for scope in graph.scopes if id(_root(scope).proto) in dropped])
    for index in reversed(gone):
        del model.functions[index]
    return names


def _root(scope: Scope) -> Scope:
    """The main graph or the function that a scope is in."""
    while scope.parent is not None:
        scope = scope.parent
    return scope


def _left(scope: Scope) -> Iterator[Node]:
    return (node for node in scope.nodes if not node.removed)


def _has_one_version_each(model: onnx.ModelProto) -> bool:
    """Whether the model and all functions import the same operator set versions, as onnx's inliner requires."""
    imported = [o for body in (model, *model.functions) for o in body.opset_import]
    return len({(_domain(o), o.version) for o in imported}) == len({_domain(o) for o in imported})


def _can_inline(model: onnx.ModelProto, function: onnx.FunctionProto) -> bool:
    """Whether it redefines no standard operator, and every call shows which attributes have their defaults."""
    if _domain(function) == "":
        return False
    key, defaults = function_key(*_name(function), function.overload), {a.name for a in function.attribute_proto}
    calls = (node for node in _nodes(model) if function_key(node.domain, node.op_type, node.overload) == key)
    return not any(a.ref_attr_name and a.name in defaults for node in calls for a in node.attribute)


def _domain(proto: onnx.OperatorSetIdProto | onnx.FunctionProto | onnx.NodeProto) -> str:
    """The domain, with "" for the standard domain."""
    return function_key(proto.domain, "", "")[0]


def _name(function: onnx.FunctionProto) -> Name:
    return function.domain, function.name


class Count(NamedTuple):
    """The operators in all graphs and functions of a model, and the standard BatchNormalizations among them."""

    nodes: int
    normalizations: int


def count(model: onnx.ModelProto) -> Count:
    """Count the operators of a model."""
    kinds = Counter((node.op_type, node.domain) for node in _nodes(model))
    normalizations = (kinds[NORMALIZATION, domain] for domain in STANDARD_DOMAINS)
    return Count(kinds.total(), sum(normalizations))


def is_normalization(node: onnx.NodeProto) -> bool:
    """Whether the node is a BatchNormalization of the standard domain."""
    return node.op_type == NORMALIZATION and _domain(node) == ""


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The operators of all graphs and functions."""
    return _nodes_of((*model.graph.node, *(node for function in model.functions for node in function.node)))


def _nodes_of(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """These operators and those in their bodies."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        if node.attribute:
            for body in bodies(node):
                waiting += body.node
