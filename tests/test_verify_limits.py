"""verify keeps within its time and memory: what is free is asked, and slow models get fewer samples."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from folding import compare
from folding.samples import UnverifiableError
from folding.verification import Job, _default_memory
from tests.verification_models import saved

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30
MEMINFO = "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n"
RELU = "(float[N,4] x) => (float[N,4] y) { y = Relu(x) }"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"MEMINFO": MEMINFO}, 7 * GIB, id="a machine"),
        pytest.param({"MEMINFO": MEMINFO, "CGROUP_LIMIT": "max\n", "CGROUP_USED": "5\n"}, 7 * GIB, id="no limit"),
        pytest.param(
            {"MEMINFO": MEMINFO, "CGROUP_LIMIT": f"{5 * GIB}", "CGROUP_USED": f"{GIB}"}, 4 * GIB, id="a limit"
        ),
        pytest.param({}, None, id="nobody tells"),
    ],
)
def test_the_default_is_a_share_of_what_is_free(
    files: dict[str, str], expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MEMINFO", "CGROUP_LIMIT", "CGROUP_USED"):
        monkeypatch.setattr(sys.modules["folding.verification"], name, tmp_path / name)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert _default_memory() == expected


@pytest.mark.parametrize(("runs", "samples"), [(compare.RUNS, 3), (10**9, 1)])
def test_a_slow_model_gets_fewer_samples(
    runs: int, samples: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "RUNS", runs)
    before, after = saved(tmp_path, RELU)
    job = Job(str(before), str(after), inputs=None, label="", seconds=100.0, memory=None)
    verdict = compare.Comparison(job, tmp_path).verdict()
    assert (verdict.status, verdict.samples) == ("verified", samples)


def test_guessing_ends_when_its_share_of_the_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def refused(*arguments: object) -> None:
        tried.append(arguments)
        raise UnverifiableError("too large")

    monkeypatch.setattr(compare, "SHARE_OF_TIME_GUESSING", 0.0)
    monkeypatch.setattr("folding.samples.generate", refused)
    before, after = saved(tmp_path, RELU)
    job = Job(str(before), str(after), inputs=None, label="", seconds=100.0, memory=None)
    assert compare.Comparison(job, tmp_path).verdict().status == "not verified"
    assert len(tried) == 1
