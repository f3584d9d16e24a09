"""What a target would make of a model, operator by operator. Reads the index alone: no weights, nothing is changed.

In this order, and for each operator the first that applies: it is a call of a function; the target has no such
operator, or not in this operator set; it has it, for other types; it breaks a restriction. An operator that the target
does not run falls back to the target that shares its sessions (`Target.fallback`), or fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.algebra.quantization import DEQUANTIZE, QUANTIZE
from folding.graph.idioms import IDIOMS
from folding.graph.node import STANDARD_DOMAINS
from folding.readiness.idioms import of_idioms
from folding.readiness.restrictions import broken
from folding.readiness.values import constrained, known_ahead, type_of
from folding.refusal import Refused
from folding.report.findings import SEVERITIES, Finding
from folding.targets.model import DOMAIN_MARK, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from folding.graph.index import Graph
    from folding.graph.node import Node
    from folding.report.findings import Severity
    from folding.targets.model import Operator, Target

CONSTANT = "Constant"  # ONNX Runtime makes initializers of these before it asks any provider
UNKNOWN, OTHER_OPSET, OTHER_TYPE, RESTRICTED = "operator", "operator-opset", "type", "restriction"
INT8 = "int8"
BIASES = "leave biases in floating point where the model is quantized (QuantizeBias=False of ONNX Runtime's quantizer)"
ADVICE = {
    "constant": "fix the shapes (--shape) and clean (--clean), so that it becomes a constant",
    "static": "fix the shapes of the inputs (--shape)",
    "static-axis": "fix the shapes of the inputs (--shape)",
    "fixed-loop": "fix the shapes (--shape), or export the model with the loop unrolled",
    "one-output": "remove what reads the output",
    "false": "export the model after eval()",
}


def check(graph: Graph, target: Target) -> tuple[Finding, ...]:
    """What the target would not do with the model as one expects: the worst first, then in the order of the model.

    Shapes and types are those that the index knows (`analysis.shapes.infer`). Linear in the operators.
    """
    found = [*_of_model(graph, target), *_of_functions(graph, target), *_of_operators(graph, target)]
    found += of_idioms(graph, target)
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


# --- the whole model ------------------------------------------------------------------------------


def _of_model(graph: Graph, target: Target) -> Iterator[Finding]:
    version = graph.model.ir_version
    for code, what, number, (lowest, highest), option in (
        ("opset", "operator set", graph.opset, target.opset, "opset"),
        ("ir", "IR version", version, target.ir, ""),
    ):
        if not lowest <= number <= highest and not (code == "ir" and number > highest and target.newer_ir):
            nearest = max(lowest, min(number, highest))
            sentence = f"the model has {what} {number}; {target.title} takes {lowest} to {highest}"
            advice = f"convert it with {option}={nearest}" if option else f"save it with {what} {nearest}"
            severity: Severity = "falls-back" if target.fallback and code == "opset" else "fails"
            yield Finding("", "", severity, code, sentence, target.source, advice)


def _of_functions(graph: Graph, target: Target) -> Iterator[Finding]:
    """Functions where the target has none, and what is in functions that are no scopes of the index."""
    scopes = {id(scope.proto) for scope in graph.scopes}
    for function in graph.model.functions:
        name = f"{function.domain}{DOMAIN_MARK}{function.name}"
        if not target.functions:
            sentence = f"{function.name} is a function of the model, and {target.title} takes none"
            yield Finding(name, name, "fails", "function", sentence, target.source, "inline the functions")
        elif id(function) not in scopes and not graph.reaches(function):
            versions = sorted(o.version for o in function.opset_import if o.domain in STANDARD_DOMAINS)
            outside = [v for v in versions if not target.opset[0] <= v <= target.opset[1]]
            if outside:
                sentence = f"the function {function.name} has operator set {outside[0]}; {target.title} takes "
                sentence += f"{target.opset[0]} to {target.opset[1]}"
                yield Finding(name, name, "fails", "opset", sentence, target.source, "inline the functions")


# --- operators ------------------------------------------------------------------------------------


def _of_operators(graph: Graph, target: Target) -> Iterator[Finding]:
    below = load(target.fallback) if target.fallback else None
    functions = {f"{function.domain}{DOMAIN_MARK}{function.name}" for function in graph.model.functions}
    imported = {entry.domain: entry.version for entry in graph.model.opset_import}
    # What such an idiom becomes runs better than its parts, even where the runtime expands it again.
    worthwhile = {idiom.operator for idiom in IDIOMS if target.idioms.get(idiom.name) == "operator"}
    for scope in graph.scopes:
        on_purpose = known_ahead(scope) if below is not None else set()
        for node in scope.nodes:
            if node.removed or node.op in functions or (below is not None and node.op == CONSTANT):
                continue
            version = _version(node, imported, target)
            reason = _reason(node, version, target)
            if reason is not None and not (below is not None and set(node.outputs) <= on_purpose):
                yield _judged(node, version, reason, target, below)
            elif reason is None and node.op not in worthwhile and _is_expanded(node, version, target):
                sentence = f"{target.title} has no {node.op} and runs ONNX's definition of it by smaller operators"
                yield Finding(node.label, node.op, "unfused", "expanded", sentence, target.source)


def _version(node: Node, imported: dict[str, int], target: Target) -> int:
    """The operator set that an operator belongs to: the standard one, or that of its own domain.

    What is outside the target's range counts as the nearest one inside: that the model is outside is said once.
    """
    if DOMAIN_MARK not in node.op:
        return max(target.opset[0], min(node.scope.graph.opset, target.opset[1]))
    return imported.get(node.proto.domain, 1)


def _is_expanded(node: Node, version: int, target: Target) -> bool:
    known = target.operators.get(node.op)
    span = known.span(version) if known is not None else None
    return span is not None and span.is_expanded


def _judged(node: Node, version: int, reason: tuple[str, str, str], target: Target, below: Target | None) -> Finding:
    """The finding of an operator that the target does not run itself."""
    code, sentence, advice = reason
    severity: Severity = "fails"
    if below is not None:
        if _is_expanded(node, version, below) and code in {UNKNOWN, OTHER_OPSET}:
            sentence = f"{target.title} has no {node.op}: ONNX's definition of it runs there, by smaller operators"
            return Finding(node.label, node.op, "unfused", "expanded", sentence, target.source)
        severity = "fails" if _reason(node, version, below) is not None else "falls-back"
    return Finding(node.label, node.op, severity, code, sentence, target.source, advice)


def _reason(node: Node, version: int, target: Target) -> tuple[str, str, str] | None:
    """Why a target does not run an operator: code, sentence and advice; None if it does."""
    known = target.operators.get(node.op)
    if known is None:
        return _unknown(node, target)
    span = known.span(version)
    if span is None:
        return _other_opset(node, version, known, target)
    try:
        return _other_type(node, version, target) or _restricted(node, known)
    except Refused:  # a malformed operator, or an attribute that differs between the calls of a function
        return None


def _unknown(node: Node, target: Target) -> tuple[str, str, str]:
    if DOMAIN_MARK in node.op:
        domain = node.proto.domain or "the standard domain"
        sentence = f"{node.proto.op_type} is an operator of {domain}, which {target.title} does not know"
        return UNKNOWN, sentence, "load a plugin or a library that has it, or write it with standard operators"
    return UNKNOWN, f"{target.title} has no {node.op}", "write it with other operators"


def _other_opset(node: Node, version: int, known: Operator, target: Target) -> tuple[str, str, str]:
    first, last = known.opsets
    nearest = last if version > last else first
    sentence = f"{target.title} has {node.op} of operator sets {first} to {last}, not of {version}"
    return OTHER_OPSET, sentence, f"convert it with opset={nearest}"


def _other_type(node: Node, version: int, target: Target) -> tuple[str, str, str] | None:
    span = target.operators[node.op].span(version)
    if span is None or not (span.types or target.types):
        return None
    for constraint, name in constrained(node):
        allowed = span.types.get(constraint) or target.types
        found = type_of(node.scope, name)
        if found and not target.has_type(allowed, found):
            sentence = f"{name!r} is {found}; {target.title} takes {node.op} for {_listed(allowed)}"
            return OTHER_TYPE, sentence, _in_place_of(node, found, allowed)
    return None


def _restricted(node: Node, known: Operator) -> tuple[str, str, str] | None:
    for restriction in known.restrictions:
        sentence = broken(node, restriction)
        if sentence is not None:
            full = f"{sentence}. {known.note}" if known.note else sentence
            return RESTRICTED, full, ADVICE.get(restriction.partition(":")[0], "")
    return None


def _listed(types: frozenset[str]) -> str:
    *first, last = sorted(types)
    return f"{', '.join(first)} and {last}" if first else last


def _in_place_of(node: Node, found: str, allowed: frozenset[str]) -> str:
    """What to do about a type: another one for numbers; what is quantized is no number that could be cast."""
    if node.op == CONSTANT:
        return "give clean=True: it becomes an initializer"
    is_whole = "int" in found or found == "bool"
    if node.op in {DEQUANTIZE, QUANTIZE} and is_whole:
        return BIASES if found == "int32" else f"quantize it to {INT8 if INT8 in allowed else min(allowed)}"
    wishes = ("int32", "int64", "float", "float16") if is_whole else ("float", "float16")
    return f"cast it to {next((wish for wish in wishes if wish in allowed), min(allowed))}"
