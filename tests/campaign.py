"""Random graphs by the thousand: each is checked as in the gates, and those that fail are kept, as they are.

``python -m tests.campaign precision --examples 10000`` draws graphs for every precision, ``ready`` for every target.
Nothing is made smaller, so the run takes as long whatever it finds; every seed is a set of graphs of its own. It prints
how many there were by precision and outcome, and writes what failed into the folder of ``--out``.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

from tests.folding import test_precision_gate as precision_gate
from tests.folding import test_ready_gate as ready_gate
from tests.support.halved import single
from tests.support.strategies.graphs import graphs, wrapped
from tests.support.strategies.stacks import stacks

CHUNK = 100  # graphs of one seed
KINDS = {"graphs": graphs, "in other clothes": wrapped, "stacks": stacks}


class Campaign:
    """Outcomes by what was asked, and the cases that failed."""

    def __init__(self, out: Path) -> None:
        self.out, self.counts, self.graphs = out, Counter(), 0
        out.mkdir(parents=True, exist_ok=True)

    def judge(self, what, drawn, judge, *given):
        """Run one check and count its outcome; a failure is written with all that repeats it."""
        try:
            outcome = judge(*given) or "as it should be"
        except HypothesisException:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, it is a finding
            outcome = f"FAILED {type(error).__name__}"
            path = self.out / f"failed-{sum(self.counts.values())}.pickle"
            path.write_bytes(pickle.dumps((what, drawn)))
            path.with_suffix(".txt").write_text(traceback.format_exc()[-20000:])
        self.counts[what, outcome] += 1

    def write(self, number, started):
        """Write the counts so far."""
        counts = {" / ".join(key): count for key, count in sorted(self.counts.items())}
        found = {"seed": number, "graphs": self.graphs, "seconds": round(time.monotonic() - started), "counts": counts}
        (self.out / "counts.json").write_text(json.dumps(found, indent=1))


def precision(campaign, kind, drawn, io_types):
    """One graph in every precision."""
    model, feeds = drawn
    model = model if kind == "stacks" else single(model)
    for one in precision_gate.PRECISIONS:
        campaign.judge(one, (model, feeds, io_types, one), precision_gate.outcome, model, feeds, io_types, one)


def ready(campaign, _kind, drawn):
    """One graph for one target, with options of every kind."""
    target = drawn[2].target or "no target"
    campaign.judge(target, drawn, ready_gate.check, *drawn)


def drawn_for(check, kind):
    """The strategies of what a check is given."""
    if check is precision:
        return KINDS[kind](), precision_gate.IO_TYPES
    return (ready_gate.with_targets(KINDS[kind]()),)


def chunk(campaign, check, kind, number):
    """Draw and check the graphs of one seed."""

    @seed(number)
    @settings(
        max_examples=CHUNK,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(*drawn_for(check, kind)))
    def run(drawn):
        campaign.graphs += 1
        check(campaign, kind, *drawn)

    run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("check", choices=["precision", "ready"])
    parser.add_argument("--examples", type=int, default=10_000, help="graphs in all")
    parser.add_argument("--seed", type=int, default=1, help="the first seed; each has 100 graphs")
    parser.add_argument("--out", type=Path, default=Path("build/campaign"))
    given = parser.parse_args()
    campaign, started, number = Campaign(given.out), time.monotonic(), given.seed
    check = {"precision": precision, "ready": ready}[given.check]
    kinds = list(KINDS) if check is precision else ["graphs", "in other clothes"]
    while campaign.graphs < given.examples:
        chunk(campaign, check, kinds[number % len(kinds)], number)
        campaign.write(number, started)
        number += 1
    sys.stdout.write((given.out / "counts.json").read_text() + "\n")
    return 1 if any(outcome.startswith("FAILED") for _, outcome in campaign.counts) else 0


if __name__ == "__main__":
    sys.exit(main())
