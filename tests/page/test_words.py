"""The page says what the library says: its sentences, groups, numbers and pictures against those of the HTML report."""

from __future__ import annotations

import random
import sys
import unicodedata
from itertools import pairwise

import pytest

from folding.report.digest import (
    counted,
    duration,
    figure,
    file_size,
    headline,
    is_bn,
    kept_groups,
    left_groups,
    printable,
    reasons,
    scale_range,
    shorten,
    size_change,
    sizes,
    tally,
    verdict,
)
from folding.report.html import REASONS_SHOWN
from folding.report.pictures import Axis
from tests.support.page.visit import Visit  # noqa: TC001  pytest reads it
from tests.support.reports import EVERY, HOSTILE

pytest_plugins = ["tests.support.page.browser"]

every_report = pytest.mark.parametrize("report", EVERY.values(), ids=EVERY.keys())
NUMBERS = random.Random(0)
FIGURES = [0.0, 1.0, 0.5, 999.4, 999.6, 1e-4, 9.9996e-5, 123456.0, 5e-324, -3.14159]
FIGURES += [NUMBERS.uniform(0.1, 10) * 10 ** NUMBERS.randint(-12, 12) for _ in range(300)]
BYTES = [0, 1, 999, 1000, 1001, 999_499, 999_999, 10**12, 10**15] + [NUMBERS.randrange(10**12) for _ in range(200)]
# Which characters there are changes with the version of Unicode; those of both are shown or escaped alike.
CHARACTERS = [chr(c) for c in range(sys.maxunicode) if c < 0x3100 or c % 997 == 0]
CHARACTERS = [c for c in CHARACTERS if unicodedata.category(c) not in {"Cn", "Cs"}]


def sentences(report):
    return {
        "headline": headline(report),
        "verdict": verdict(report.verification),
        "sizes": list(sizes(report)),
        "tallies": [tally(report.outcomes, bn=bn).sentence("maps", "folded") for bn in (True, False)],
        "ranges": [scale_range(outcome) for outcome in report.outcomes],
    }


SENTENCES = """{
  headline: m.headline(x),
  verdict: m.verdict(x.verification),
  sizes: m.sizes(x),
  tallies: [true, false].map((bn) => m.phrase(m.tally(x.outcomes, bn), "maps", "folded")),
  ranges: x.outcomes.map(m.scaleRange),
}"""


def groups(report):
    return [
        {
            "nodes": [outcome.node for outcome in group.outcomes],
            "ways": [[way, reasons(met, REASONS_SHOWN)] for way, met in group.refusals],
            "hints": list(group.hints),
            "operators": group.operators,
            "sentence": group.sentence(REASONS_SHOWN),
        }
        for group in (*kept_groups(report.outcomes), *left_groups(report.outcomes))
    ]


GROUPS = """[...m.keptGroups(x.outcomes), ...m.leftGroups(x.outcomes)].map((group) => ({
  nodes: group.map((outcome) => outcome.node),
  ways: m.waysOf(group).map(([way, met]) => [way, m.reasons(met, 3)]),
  hints: m.hintsOf(group),
  operators: m.operatorsOf(group),
  sentence: m.sentenceOf(group, 3),
}))"""

SHOWN = """(document.getElementById("job").replaceChildren(m.reportView(x, "net.onnx", [])),
            document.getElementById("job").textContent)"""


@every_report
def test_the_page_says_of_a_report_what_the_library_says(visit: Visit, report):
    plain = report.as_dict()
    assert visit.module("digest", SENTENCES, plain) == sentences(report)
    assert visit.module("digest", GROUPS, plain) == groups(report)
    bn = [outcome for outcome in report.outcomes if is_bn(outcome)]
    axis = Axis.over(bn)
    drawn = {"low": axis.low, "high": axis.high}
    assert (
        visit.module("pictures", "m.axisOver(x.filter((o) => o.operator.startsWith('Batch')))", plain["outcomes"])
        == drawn
    )
    scales = [scale for outcome in bn for scale in outcome.scales if 0 < scale < float("inf")]
    bins = visit.module("pictures", "x.scales.map((s) => m.binOf(x.axis, s))", {"axis": drawn, "scales": scales})
    assert bins == [axis.bin(scale) for scale in scales]
    shown = visit.module("words", "m.labelled(x)", headline(report))
    assert shown in visit.module("report", SHOWN, plain)
    assert visit.page.locator("#job :is(script, img, iframe, [style], [onclick])").count() == 0


def test_numbers_are_written_alike(visit: Visit):
    assert visit.module("words", "m.figure(null)") == "not finite"  # JSON has no other number for it
    assert visit.module("words", "x.map(m.figure)", FIGURES) == [figure(number) for number in FIGURES]
    assert visit.module("words", "x.map(m.fileSize)", BYTES) == [file_size(size) for size in BYTES]
    pairs = list(pairwise(BYTES))
    assert visit.module("words", "x.map(([a, b]) => m.sizeChange(a, b))", pairs) == [size_change(*p) for p in pairs]
    times = [0.0, 0.0004, 0.43, 0.9996, 1.0, 2.14, 3661.0]
    assert visit.module("words", "x.map(m.duration)", times) == [duration(time) for time in times]
    counts = [0, 1, 2, 1204]
    assert visit.module("words", "x.map((n) => m.counted(n, 'node'))", counts) == [counted(n, "node") for n in counts]


def test_flags_of_the_command_are_shown_as_options_of_the_page(visit: Visit):
    flags = ["use --clamp always", "drop the --keep or --only pattern", "(--no-verify)", "a--b c -- d"]
    shown = ['use "Clamp" always', 'drop the "Keep" or "Only" pattern', '("Verify")', 'a"B" c -- d']
    assert visit.module("words", "x.map(m.labelled)", flags) == shown


def test_names_are_made_safe_alike(visit: Visit):
    texts = [*CHARACTERS, HOSTILE, "", "plain", "größe/卷积"]
    assert visit.module("words", "x.map(m.printable)", texts) == [printable(text) for text in texts]
    assert visit.module("words", r"m.printable('a\ud800b')") == "a\\ud800b"
    asked = [("/layer1/0/conv1/Conv", width) for width in range(25)]
    assert visit.module("words", "x.map(([t, w]) => m.shorten(t, w))", asked) == [shorten(*pair) for pair in asked]


def test_a_problem_nobody_knows_is_shown_too(visit: Visit):
    assert visit.module("problems", "m.heading({ slug: 'constructor' })") == "Something went wrong"


def test_names_are_sent_as_the_service_takes_them(visit: Visit):
    names = {
        "net.onnx": "net.onnx",
        "NET.ZIP": "NET.zip",
        "a\x07b.onnx": "a_x07b.onnx",
        "ü" * 100 + ".onnx": "ü" * 57 + ".onnx",
    }
    assert visit.module("files", "x.map((name) => m.nameToSend({ name }))", list(names)) == list(names.values())
