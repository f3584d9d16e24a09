"""The measurements of a cluster: what the page says of figures, trends, the logs that are read."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.cluster.cluster import Ended, ended
from benchmarks.cluster.fleet import _requests
from benchmarks.cluster.namespaces import Network
from benchmarks.cluster.table import MIB, page, trend

OUTCOME = {"accepted": 9, "done": 9, "whole": 9, "lost": 0, "attempts": 9, "interruptions": 0}
ROWS = [{"kind": "real", "workers": workers, "rate": 3.0 * workers, "cores": 0.5, **OUTCOME} for workers in (1, 2)]
LOSSES = [
    {"kind": "waiting", "how": "killed", "seconds": 7.0, "with it": 1, "elsewhere": 5.5, **OUTCOME},
    {"kind": "waiting", "how": "link down", "seconds": 7.0, "with it": 0, "elsewhere": None, "back": 1.5, **OUTCOME},
]
FLEET: dict[str, Any] = {
    "models": 10,
    "runs": [
        {"stop": "SIGKILL", "code": -9, "seconds": 2.0, "new": 6},
        {"stop": "", "code": 0, "seconds": 2.0, "new": 4},
    ],
    "seconds": 4.0,
    "rate": 2.5,
    "processor": {"servers": 0.5},
    "outputs": 10,
    "equal": 9,
    "left over": [],
    "jobs": 10,
    "statuses": {"done": 10},
    "attempts": 11,
    "more attempts": 1,
    "folds": 10,
    "folded again": 1,
    "for nothing": 0,
    "requests": 52,
    "submissions": {"202": 12},
    "submitted again": 2,
    "cancelled and sent again": 1,
    "lost": 1,
}


def sample(seconds: float, memory: float) -> dict[str, Any]:
    kinds = (f"{kind} {number}" for kind in ("server", "worker", "its template worker") for number in (1, 2))
    return {
        "seconds": seconds,
        "requests": int(seconds * 10),
        "offered": int(seconds * 12),
        "answers": {"POST 200": int(seconds), "POST 429": int(seconds * 2)},
        "done": int(seconds),
        "queue": 5,
        "oldest": 2.5,
        "connections": 20,
        "held": {kind: {"memory": int(memory * MIB), "files": 30} for kind in kinds},
    }


def test_two_workers_are_compared_with_one() -> None:
    shown = page({"namespaces": {"load average": 0.5, "rows": [*ROWS, *LOSSES]}})
    assert "| real | 2 | 6.00 | 6.00 | 2.00 | 0.50 | 0 |" in shown
    assert "| waits 0.5 s | killed | 9 | 9 | 0 | 9 | 7.0 | 1, 5.5 s |  |" in shown
    assert "| waits 0.5 s | link down | 9 | 9 | 0 | 9 | 7.0 | 0 | 1.5 s |" in shown


def test_a_fleet_says_what_was_lost_and_what_was_done_twice() -> None:
    shown = page({"fleet": {"load average": 0.5, **FLEET}})
    assert "| 1 | SIGKILL | -9 | 2 | 6 | 3.0 |" in shown
    assert "10 models, 10 outputs, of which 9 have the digest that the ledger has; 1 lost." in shown
    assert "Submitted more often than once: 2 jobs, 1 of which the interrupted client had cancelled." in shown


def test_load_is_shown_by_the_minute() -> None:
    samples = [sample(seconds, 100.0) for seconds in range(0, 130, 10)]
    part = {"able": 5.0, "rate": 10.0, "samples": samples, "offered": 1440, "held back": 7, "processor": {"store": 2.4}}
    part |= {"answers": samples[-1]["answers"], "refused": {"an integer": 240}, "ends": {"done": 120}, "attempts": 120}
    shown = page({"sustained": {"load average": 0.5, **part, "lost": 0}})
    row = "| 720 | 60 | 0 | 120 | 0 | 60 | 5 | 2.5 | 100, 30; 100, 30 | 100, 30; 100, 30 | 100, 100 | 20 |"
    assert f"| 1 {row}\n| 2 {row}" in shown
    assert "| server 1 | 100.0, 100.0 | 0.000 | 30, 30 | 0.000 |" in shown
    assert "Accepted 120 jobs, which ended as: 120 x done; 0 lost" in shown


@pytest.mark.parametrize(("grown", "slope"), [(0.0, 0.0), (0.5, 0.5)])
def test_a_trend_is_what_a_thousand_requests_add_after_the_beginning(grown: float, slope: float) -> None:
    """A look every 100 seconds: a thousand requests; the first minutes load what is loaded once."""
    samples = [sample(0, 10.0)] + [sample(100.0 * number, 100 + grown * number) for number in range(3, 13)]
    found = trend(samples, lambda one: one["held"]["server 1"]["memory"] / MIB)
    assert found.slope == pytest.approx(slope, abs=1e-3)
    assert (found.first, found.last) == pytest.approx((100 + 3 * grown, 100 + 12 * grown), abs=1e-3)


@pytest.mark.skipif(
    shutil.which("ip") is None or bool(subprocess.run(["unshare", "--net", "true"], check=False).returncode),
    reason="network namespaces need root, and iproute2",
)
def test_namespaces_reach_each_other_and_are_gone_after_an_error() -> None:
    before = sorted(socket.if_nameindex())

    def fail() -> None:
        with Network(1) as network, socket.create_server((network.host, 0)) as server:
            ask = f"import socket; socket.create_connection({server.getsockname()}, 60)"
            subprocess.run([*network.inside(0), sys.executable, "-c", ask], check=True)
            raise ValueError(subprocess.check_output(["ip", "netns", "list"], text=True).split()[0])

    with pytest.raises(ValueError, match="bnfold-") as raised:
        fail()
    assert sorted(socket.if_nameindex()) == before
    assert str(raised.value) not in subprocess.check_output(["ip", "netns", "list"], text=True)


def test_logs_are_read() -> None:
    line = '{"time": "1970-01-01T00:00:02.500+00:00", "message": "job ended", "job": "ab", "outcome": "done"}'
    assert list(ended(f'no JSON\n{line}\n{{"message": "limits"}}')) == [Ended(2.5, "ab", "done")]
    lines = ["POST /v1/fold 202 ab", "DELETE /v1/jobs/ab 204 -", "POST /v1/fold 202 ab", "POST /v1/fold 503 -"]
    assert _requests(lines) == {
        "requests": 4,
        "submissions": {"202": 2, "503": 1},
        "submitted again": 1,
        "cancelled": {"ab"},
        "cancelled and sent again": 1,
    }
