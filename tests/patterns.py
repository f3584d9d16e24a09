"""The table of all patterns: what becomes of the affine in every row of the rule tables, as a fold of today says it.

``python -m tests.patterns`` writes ``docs/patterns.md``; a test holds that it is up to date.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING

from tests.support import ROOT, TESTS
from tests.support.models import NO_VERIFY, SITE, Model, fold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from folding import Outcome

DOCUMENT = ROOT / "docs" / "patterns.md"
TABLES = sorted(path.stem for path in (TESTS / "support" / "rows").glob("[!_]*.py") if path.stem != "row")
OPSET = 17
HEAD = """# Every pattern, and what becomes of it

One line is one model of the tests with one affine in it (a BatchNormalization unless the name says otherwise) and
nonlinear operators around. `make patterns` writes this table by folding them all; nothing here is typed. The same
models are compared before and after in float64, in three operator sets. Codes are described in [codes.md](codes.md).

"""


def document() -> str:
    return HEAD + "\n".join(line for table in TABLES for line in _section(table))


def _section(table: str) -> Iterator[str]:
    module = import_module(f"tests.support.rows.{table}")
    options = getattr(module, "OPTIONS", NO_VERIFY)
    yield f"## {(inspect.getdoc(module) or '').splitlines()[0].removeprefix('Rows of ').rstrip('.')}\n"
    yield "| pattern | becomes |"
    yield "| --- | --- |"
    for name, build, _ in module.ROWS:
        m = Model(OPSET)
        build(m)
        before = m.build()
        after, report = fold(before, options)
        operators = {n.name: n.op_type for n in (*before.graph.node, *after.graph.node)}
        outcome = next(o for o in report.outcomes if o.node == SITE)
        yield f"| {name} | {_becomes(outcome, operators)} |".replace("|x|", "\\|x\\|")
    yield ""


def _becomes(outcome: Outcome, operators: dict[str, str]) -> str:
    if outcome.backward is not None and outcome.forward is not None:
        return f"kept: `{outcome.backward.code}` backward, `{outcome.forward.code}` forward"
    absorbers = " and ".join(operators[label] for label in outcome.absorbed_by)
    through = ", ".join(operators[label] for label in outcome.path)
    return " ".join(
        [f"**{outcome.status}**", *([outcome.direction] if outcome.direction else [])]
        + ([f"into {absorbers}"] if absorbers else [])
        + ([f"through {through}"] if through else [])
    )


if __name__ == "__main__":
    DOCUMENT.write_text(document())
