"""The table of all patterns in ``docs/patterns.md`` says what folding does today."""

from __future__ import annotations

from tests import patterns


def test_the_table_of_patterns_is_up_to_date():
    assert patterns.DOCUMENT.read_text() == patterns.document(), "run `make patterns`"


def test_pattern_names_are_unique():
    names = [line.split(" | ")[0] for line in patterns.document().splitlines() if line.startswith("| ")]
    rows = [name for name in names if name not in {"| pattern", "| ---"}]
    assert len(rows) == len(set(rows))
