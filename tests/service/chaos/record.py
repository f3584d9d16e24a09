"""A record: what one run of chaos counted, as a line of JSON in the file that CHAOS_OUT names."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

OUT = os.environ.get("CHAOS_OUT", "")


@dataclass
class Record:
    """The counts of one run; see `MEANINGS` in `tests.service.chaos.table` for what they are."""

    setup: str
    scenario: str
    seed: int
    what: str = ""  # happened, in words
    how: str = ""  # it was made, where there are several ways
    accepted: int = 0
    done: int = 0
    failed: int = 0
    again: int = 0
    lost: int = 0
    condemned: int = 0
    different: int = 0
    refused: int = 0
    recovery: float = 0.0
    error: str = ""  # that broke the run off
    date: str = ""

    def write(self) -> None:
        """Append it to the file, if there is one."""
        self.date = f"{datetime.now(UTC):%Y-%m-%d}"
        print(self)  # noqa: T201  `pytest -rP` shows it
        if OUT:
            with Path(OUT).open("a") as file:
                file.write(json.dumps(asdict(self)) + "\n")


def read(path: Path) -> list[Record]:
    """The records in a file: of each set-up, scenario and seed the last one."""
    known = {field.name for field in fields(Record)}
    found: dict[tuple[str, str, int], Record] = {}
    for line in path.read_text().splitlines():
        record = Record(**{name: value for name, value in json.loads(line).items() if name in known})
        found[record.setup, record.scenario, record.seed] = record
    return list(found.values())
