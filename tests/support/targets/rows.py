"""One row of a target's data, and what ONNX's own schemas say about it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from onnx import defs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NEWEST = defs.onnx_opset_version()
INDICES_AND_SIZES = {  # operators whose first input is no main data
    "ConstantOfShape": "T2", "EyeLike": "T2", "OneHot": "T3", "If": "V", "Loop": "V", "MelWeightMatrix": "T3",
    "BlackmanWindow": "T2", "HammingWindow": "T2", "HannWindow": "T2", "RandomNormalLike": "T2",
    "RandomUniformLike": "T2", "QuantizeLinear": "T1", "CastLike": "T1",
}  # fmt: skip
STILL_WRITTEN = frozenset({"GroupNormalization"})  # its first version is deprecated since 21, and valid before


@dataclass(frozen=True)
class Row:
    """The types of an operator in one range of operator sets, by type constraint."""

    first: int
    last: int
    types: dict[str, frozenset[str]] = field(default_factory=dict)
    note: str = ""
    expanded: bool = False

    @property
    def meaning(self) -> tuple[object, ...]:
        return tuple(self.types.items()), self.note, self.expanded


Rows = dict[str, list[Row]]


def schemas(op: str, domain: str = "") -> list[defs.OpSchema]:
    """All versions of an operator, the oldest first."""
    found: dict[int, defs.OpSchema] = {}
    version = NEWEST if not domain else 100
    while version > 0:
        try:
            schema = defs.get_schema(op, version, domain)
        except defs.SchemaError:
            break
        found[schema.since_version] = schema
        version = schema.since_version - 1
    return [found[since] for since in sorted(found)]


def meanings(op: str, first: int, last: int, domain: str = "") -> Iterator[tuple[int, int, defs.OpSchema]]:
    """The ranges in which an operator has one meaning, cut to first ... last; none where it is deprecated."""
    known = schemas(op, domain)
    for schema, after in zip_longest(known, known[1:]):
        start, end = max(first, schema.since_version), min(last, after.since_version - 1 if after else last)
        if start <= end and (not schema.deprecated or op in STILL_WRITTEN):
            yield start, end, schema


def main_constraint(schema: defs.OpSchema) -> str:
    """The type constraint of an operator's main data; "" if no type of it is named."""
    names = [constraint.type_param_str for constraint in schema.type_constraints]
    chosen = INDICES_AND_SIZES.get(schema.name, "T")
    if chosen in names or not names:
        return chosen if names else ""
    used = [value.type_str for value in (*schema.inputs, *schema.outputs) if value.type_str in names]
    return used[0] if used else ""


def ordered(types: dict[str, frozenset[str]], main: str) -> dict[str, frozenset[str]]:
    """The same with the main data first, which is first also where its types are not limited."""
    if not types:
        return {}
    others = {name: types[name] for name in sorted(types) if name != main}
    return {main: types.get(main, frozenset()), **others} if main else others


def merged(rows: Iterable[Row]) -> list[Row]:
    """The rows of one operator in order; neighbours that say the same become one."""
    found: list[Row] = []
    for row in sorted(rows, key=lambda row: row.first):
        if found and found[-1].last + 1 == row.first and found[-1].meaning == row.meaning:
            found[-1] = replace(found[-1], last=row.last)
        else:
            found.append(row)
    return found
