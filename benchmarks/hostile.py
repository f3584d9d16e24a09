"""Every hostile upload, what the service answers and what it takes, while a neighbour folds good models.

`python -m benchmarks.hostile` starts a server of its own on loopback, in a temporary folder, sends the rows of
`tests/support/hostile/uploads.py` and writes `results/hostile.md`; `--only WORDS` sends some of them and prints the
table.
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.hostile.run import SETTINGS, TOGETHER, run
from tests.support.hostile.uploads import UPLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.hostile.run import Outcome, Table

RESULT = Path(__file__).with_name("results") / "hostile.md"
MIB = 1 << 20
LONGEST = 150  # characters of a message in the table, at most
GROUPS = {
    "reader": "Files that are no sound model",
    "archive": "Archives",
    "model": "Models that are sound to a reader",
    "request": "Requests",
}
COLUMNS = "| family | status | type | seconds | memory, MiB | what it says |\n|---|--:|---|--:|--:|---|"
HEAD = """\
# Hostile uploads

Written by `python -m benchmarks.hostile`. Each row is an upload to a real server: bubblewrap {sandbox}, {workers} folds
at a time, {fold_seconds} s for a fold, {memory} GiB of address space for one process. {together} hostile uploads come
at a time, while a neighbour folds good models. `memory` is the most that the processes of the fold had resident
together, the server not counted; a dash where no process was needed. A 200 is a report: what it says of the
verification, or that the output is the input. onnx {onnx}, onnxruntime {onnxruntime}.

| | |
|---|---|
| uploads | {count}, of which {unexpected} were not answered as their rows say |
| answers of 500 and above | {errors} |
| the neighbour's folds meanwhile | {folds}, of which {wrong} were not 200 with the library's bytes and verified |
| the server's resident memory | {before} MiB before, {after} MiB after, {most} MiB at most |
| processes and files left behind | {left} |
"""


def main() -> int:
    """Send the uploads; return 1 if any of the figures that should be 0 is not."""
    parser = argparse.ArgumentParser("python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--only", default="", help="send the uploads whose names match this expression; write nothing")
    parser.add_argument("--sandbox", default="auto", choices=["auto", "require", "off"])
    given = parser.parse_args()
    chosen = {name: upload for name, upload in UPLOADS.items() if re.search(given.only, name)}
    table = run(chosen, sandbox=given.sandbox)
    text = "\n".join([_head(table), *_groups(table)])
    if given.only:
        print(text)
    else:
        RESULT.write_text(text)
    wrong = [name for name in table.outcomes if not _as_expected(name, table)]
    print(*(f"{name}: {table.outcomes[name]}" for name in wrong), *table.wrong, *table.left, sep="\n")
    return int(bool(wrong or table.wrong or table.left))


def _as_expected(name: str, table: Table) -> bool:
    upload, outcome = UPLOADS[name], table.outcomes[name]
    return bool(re.match(upload.ends, outcome.ends) and re.search(upload.says, outcome.says))


def _head(table: Table) -> str:
    return HEAD.format(
        sandbox="on" if table.sandbox else "off",
        memory=SETTINGS["child_memory_bytes"] >> 30,
        together=TOGETHER,
        onnx=version("onnx"),
        onnxruntime=version("onnxruntime"),
        count=len(table.outcomes),
        unexpected=sum(not _as_expected(name, table) for name in table.outcomes),
        errors=sum(outcome.status >= 500 for outcome in table.outcomes.values()),
        folds=table.folds,
        wrong=len(table.wrong),
        left=len(table.left),
        **{name: f"{getattr(table, name) / MIB:.0f}" for name in ("before", "after", "most")},
        **{name: SETTINGS[name] for name in ("workers", "fold_seconds")},
    )


def _groups(table: Table) -> Iterator[str]:
    for group, title in GROUPS.items():
        rows = {name: outcome for name, outcome in table.outcomes.items() if UPLOADS[name].group == group}
        if rows:
            yield f"## {title}\n\n{COLUMNS}"
            yield from (_row(name, outcome) for name, outcome in rows.items())
            yield ""


def _row(name: str, outcome: Outcome) -> str:
    says = outcome.says.replace("|", "\\|")
    says = says if len(says) <= LONGEST else f"{says[:LONGEST]} ..."
    kind = outcome.ends.partition(":")[0].replace(str(outcome.status), "")
    peak = f"{outcome.peak / MIB:.0f}" if outcome.peak else "-"
    return f"| {name} | {outcome.status or 'closed'} | {kind} | {outcome.seconds:.1f} | {peak} | {says} |"


if __name__ == "__main__":
    sys.exit(main())
