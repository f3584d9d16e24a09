"""The data files, written: what a person decided stays, what a source says is written anew."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

from folding.targets.model import FOLDER

if TYPE_CHECKING:
    from tests.support.targets.rows import Row, Rows

MARK = "# What follows is written by `python -m tests.targets` from the source; what is above is decided by hand.\n"


def write(name: str, rows: Rows) -> None:
    """Replace what a source says in the data file of a target."""
    path = FOLDER / f"{name}.toml"
    path.write_text(path.read_text().partition(MARK)[0] + MARK + text(rows))


def text(rows: Rows) -> str:
    lines = [f"{_key(op)} = {_operator(rows[op])}" for op in sorted(rows, key=lambda op: ("::" in op, op))]
    return "\n[operators]\n" + "\n".join(lines) + "\n"


def _operator(rows: list[Row]) -> str:
    tables = [_table(row) for row in rows]
    return tables[0] if len(tables) == 1 else "[\n" + "".join(f"    {table},\n" for table in tables) + "]"


def _table(row: Row) -> str:
    parts = [f"opsets = [{row.first}, {row.last}]"]
    if row.types:  # literal strings, which Python reads several times faster than those with escapes
        listed = ", ".join(f"{name} = '{' '.join(sorted(types))}'" for name, types in row.types.items())
        parts.append(f"types = {{ {listed} }}")
    if row.expanded:
        parts.append("expanded = true")
    if row.note:
        parts.append(f"note = {json.dumps(row.note, ensure_ascii=False)}")
    return f"{{ {', '.join(parts)} }}"


def _key(op: str) -> str:
    return op if op.isalnum() else json.dumps(op)


def stored(name: str) -> dict[str, object]:
    """The operators of a data file as the file has them."""
    operators: dict[str, object] = tomllib.loads((FOLDER / f"{name}.toml").read_text())["operators"]
    return operators
