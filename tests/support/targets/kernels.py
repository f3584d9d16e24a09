"""The kernels of ONNX Runtime, as rows: which meanings of an operator they are for, and which types."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from onnx import helper

from tests.support.targets.rows import NEWEST, Row, Rows, main_constraint, meanings, merged, ordered, schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from onnx import defs

INTERNAL = ("com.ms.internal", "com.microsoft.nchwc")  # no file has operators of these domains
COMPLEX = frozenset({"complex64", "complex128"})  # ONNX Runtime has neither
SEQUENCES = frozenset({"SequenceMap"})  # it holds a graph, of which a probe knows nothing


class Kernel(NamedTuple):
    """What one kernel is registered for: from a version to another one, None for those that are to come."""

    first: int
    last: int | None
    types: dict[str, frozenset[str]]
    note: str = ""

    def computes(self, since: int) -> bool:
        """Whether ONNX Runtime gives it an operator whose meaning is of this version.

        A kernel that is registered "from 13 on" is for the meaning of version 13 alone: nobody knows the next one.
        """
        return self.first == since or (self.last is not None and self.first <= since <= self.last)


def rows(kernels: dict[tuple[str, str], list[Kernel]]) -> Rows:
    """The rows of a provider's kernels, which are listed by domain ("" for the standard one) and operator."""
    found: Rows = {}
    for (domain, op), listed in kernels.items():
        if not domain.startswith(INTERNAL) and (of_op := merged(_rows(op, domain, listed))):
            found[f"{domain}::{op}" if domain else op] = of_op
    return found


def expanded(known: Rows, runs: Callable[[defs.OpSchema, int, dict[str, str]], bool]) -> Rows:
    """The same with the operators and types that ONNX Runtime has no kernel for, and runs as ONNX defines them.

    `runs` asks it, since a definition may need an operator that it does not have.
    """
    found = dict(known)
    for op in sorted({schema.name for schema in _newest() if not schema.domain} - SEQUENCES):
        rows_of: list[Row] = []
        for first, last, schema in meanings(op, 1, NEWEST):
            row = next((row for row in known.get(op, ()) if row.first <= first and last <= row.last), None)
            is_defined = schema.has_function or schema.has_context_dependent_function
            if row is not None:
                types = _more(row.types, schema, last, runs) if is_defined else row.types
                rows_of.append(replace(row, first=first, last=last, types=types))
            elif is_defined:
                running = (opset for opset in range(first, last + 1) if runs(schema, opset, {}))
                rows_of += [Row(opset, opset, expanded=True) for opset in running]
        if rows_of:
            found[op] = merged(rows_of)
    return found


def _more(
    types: dict[str, frozenset[str]],
    schema: defs.OpSchema,
    opset: int,
    runs: Callable[[defs.OpSchema, int, dict[str, str]], bool],
) -> dict[str, frozenset[str]]:
    """The types of kernels, with those of the main data that run as ONNX defines the operator."""
    main = main_constraint(schema)
    allowed = next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == main), ())
    names = {tensor[len("tensor(") : -1]: tensor for tensor in allowed if tensor.startswith("tensor(")}
    others = names.keys() - types.get(main, names.keys()) - COMPLEX
    found = frozenset(name for name in others if runs(schema, opset, {main: names[name]}))
    return types | {main: types[main] | found} if found else types


def _newest_version(domain: str) -> int:
    """The newest version of a domain that the installed onnx knows."""
    known = (version for name, version in helper.OP_SET_ID_VERSION_MAP if name == (domain or "ai.onnx"))
    return max(known, default=1)


def _newest() -> Iterable[defs.OpSchema]:
    from onnx import defs  # noqa: PLC0415  the module's name is a type above

    return defs.get_all_schemas()


def _rows(op: str, domain: str, kernels: list[Kernel]) -> Iterator[Row]:
    if not schemas(op, domain):  # ONNX knows nothing of it: its domain has the versions that the kernels say
        last = max(kernel.first if kernel.last is None else kernel.last for kernel in kernels)
        types = ordered(_joined([kernel.types for kernel in kernels]), "")
        yield Row(min(kernel.first for kernel in kernels), last, types, kernels[0].note)
        return
    for start, end, schema in meanings(op, 1, _newest_version(domain), domain):
        fitting = [kernel for kernel in kernels if kernel.computes(schema.since_version)]
        if fitting:
            types = {_constraint(schema, name): listed for name, listed in _joined([k.types for k in fitting]).items()}
            known = {constraint.type_param_str for constraint in schema.type_constraints}
            limited = {name: listed for name, listed in types.items() if name in known}
            yield Row(start, end, ordered(limited, main_constraint(schema)), fitting[0].note)


def _constraint(schema: defs.OpSchema, name: str) -> str:
    """The type constraint that a kernel means, which may name an input or an output instead."""
    known = {constraint.type_param_str for constraint in schema.type_constraints}
    values = {value.name: value.type_str for value in (*schema.outputs, *schema.inputs)}
    return name if name in known else values.get(name, name)


def _joined(listed: list[dict[str, frozenset[str]]]) -> dict[str, frozenset[str]]:
    """The types that any of the kernels takes, which may be all. Which of them go together is not kept."""
    names = sorted(set(listed[0]).intersection(*listed))
    return {name: frozenset().union(*(types[name] for types in listed)) for name in names}
