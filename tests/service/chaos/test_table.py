"""The table of chaos has the last record of each run, and their sums."""

from __future__ import annotations

from dataclasses import replace

from tests.service.chaos import record
from tests.service.chaos.record import Record, read
from tests.service.chaos.table import COUNTS, markdown


def test_the_last_record_of_a_run_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "OUT", str(tmp_path / "out"))
    first = Record("cluster", "kills", 0, "Kills.", accepted=10, done=7, lost=3, recovery=9.0, error="AssertionError: ")
    again = replace(first, done=10, lost=0, recovery=2.0, error="")
    records = [first, replace(again, seed=1, recovery=4.0), again, replace(again, setup="one machine", how="by hand")]
    for one in records:
        one.write()
    assert read(tmp_path / "out") == [again, records[1], records[3]]
    text = markdown(read(tmp_path / "out"))
    sums = {"accepted": 20, "done": 20}
    counts = " | ".join(str(sums.get(name, 0)) for name in COUNTS)
    assert f"| kills | 2 | {counts} | 0 | 3.0 s | 4.0 s |" in text
    assert "- kills: Kills. (by hand)" in text
