"""A traceparent is taken as W3C Trace Context says, and passes through where nothing is recorded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from service.tracing.spans import LENGTH, Traces, accepted, trace_id

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"
# A server that folds nothing, and what it has loaded.
LOADED = """\
import sys
from pathlib import Path
from service.process.forkserver import Program
from service.settings import Settings
from service.state import make_service
from service.webhook.receivers import Receivers
settings = Settings(data=Path(sys.argv[1]), tracing=sys.argv[2] == "on", sandbox="off")
settings.data.mkdir()
service = make_service(settings, Program(), Receivers())
service.ledger.close()
service.traces.close()
print(sorted(sys.modules.keys() & {"opentelemetry.sdk", "requests"}))
"""


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (GOOD, GOOD),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        (f"00-{TRACE}-{SPAN}-ff", f"00-{TRACE}-{SPAN}-03"),  # flags that this version does not know
        (f"cc-{TRACE}-{SPAN}-01-what-comes", GOOD),  # a later version may add parts
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"{GOOD}\n", None),
        ("", None),
        (None, None),
    ],
)
def test_a_traceparent_is_taken_if_it_is_one(header, taken):
    assert accepted(header) == taken
    assert taken is None or len(taken) == LENGTH


def test_what_is_not_recorded_passes_through():
    with Traces().span("fold", GOOD, attributes={"bnfold.attempt": 1}) as span:
        assert span.traceparent == GOOD
    assert (trace_id(GOOD), trace_id(None)) == (TRACE, None)
    assert Traces().span("fold", None).traceparent is None


@pytest.mark.parametrize(("mode", "loaded"), [("off", []), ("on", ["opentelemetry.sdk", "requests"])])
def test_off_nothing_is_loaded(tmp_path, mode, loaded):
    found = subprocess.run([sys.executable, "-c", LOADED, tmp_path / "data", mode], capture_output=True, check=True)
    assert found.stdout.decode().strip() == str(loaded)
