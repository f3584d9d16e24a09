"""The report over a fleet: every form says what became of each model, and no name is ever more than text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from folding.fleet.file import REPORT_SUFFIXES, rendered
from folding.fleet.model import Entry, FleetReport, staying_groups
from folding.fleet.text import render_text
from folding.report.gates import Broken, Gates
from folding.report.model import Report
from tests.support.reports import FAILED, HOSTILE, HOSTILE_REPORT, SHARED, TRAINING, VARIED, bn, kept, report

GATE = Broken("max-left", "3 BatchNormalizations stay, and --max-left allows 0")
ENTRIES = (
    Entry("a.onnx", "out/a.onnx", report=report(bn(), source="a.onnx")),
    Entry("b.onnx", "out/b.onnx", 7, gates=(GATE,), report=replace(VARIED, source="b.onnx")),
    Entry("c.onnx", "out/c.onnx", is_done_before=True, report=report(bn(), kept(), source="c.onnx")),
    Entry("sub/d.onnx", "out/sub/d.onnx", 2, "sub/d.onnx is truncated"),
    Entry("e.onnx", "out/e.onnx", 3, "e.onnx: it differs", report=report(bn(), verification=FAILED)),
    Entry("f.onnx", "out/f.onnx", report=report(source="f.onnx")),
)
FLEET = FleetReport("1.2.3", 3, ENTRIES, 12.5)
EVIL = FleetReport(
    HOSTILE,
    2,
    (
        Entry(HOSTILE, HOSTILE, 2, HOSTILE, report=HOSTILE_REPORT),
        Entry(HOSTILE, HOSTILE, 7, gates=(Broken("fail-on", HOSTILE),), report=HOSTILE_REPORT),
    ),
)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


def test_a_model_has_one_status():
    assert [entry.status for entry in ENTRIES] == [
        "folded",
        "gate not passed",
        "done before",
        "failed",
        "failed",
        "unchanged",
    ]
    assert Entry("a", None, report=report(bn())).status == "can be folded"
    assert FLEET.statuses == {"folded": 1, "done before": 1, "unchanged": 1, "gate not passed": 1, "failed": 2}


def test_what_stays_is_grouped_by_its_codes_over_all_models():
    groups = staying_groups(ENTRIES)
    assert [(group.codes, group.nodes) for group in groups] == [
        ("other-consumer, zero-padding", (("b.onnx", "bn_shared"), ("c.onnx", "bn2"))),
        ("training-mode", (("b.onnx", "bn_training"),)),
        ("", (("b.onnx", "bn_untold"),)),
    ]
    assert groups[0].models == ("b.onnx", "c.onnx")
    assert groups[0].sentences == (
        "another operator reads the value",
        "a shift does not pass zero padding",
        "what to do: pad explicitly",
    )


def test_the_sizes_are_of_the_models_that_have_a_result():
    assert FLEET.sizes == (4 * 97_812_345, 4 * 97_602_345)


def test_the_json_form_has_a_summary_and_every_report():
    plain = json.loads(rendered(FLEET, "r.json"))
    assert (plain["models"], plain["code"], plain["statuses"]["failed"]) == (6, 3, 2)
    assert plain["normalizations"] == {"all": 11, "folded": 6, "split": 1, "stay": 4}
    assert [entry["status"] for entry in plain["entries"]] == [entry.status for entry in ENTRIES]
    assert plain["entries"][1]["gates"] == [{"gate": "max-left", "sentence": GATE.sentence, "code": ""}]
    assert Report.from_dict(plain["entries"][1]["report"]).source == "b.onnx"
    assert plain["entries"][3]["report"] is None
    assert plain["staying"][0]["nodes"][1] == {"model": "c.onnx", "node": "bn2"}


def test_the_text_is_a_table_and_the_sums():
    lines = render_text(FLEET, 200).splitlines()
    assert lines[1].split() == [
        "a.onnx",
        "1",
        "->",
        "0",
        "12",
        "->",
        "9",
        "97.8",
        "MB",
        "->",
        "97.6",
        "MB",
        "folded,",
        "verified",
    ]
    assert lines[2].endswith(f"gate not passed, verified: {GATE.sentence}")
    assert lines[4].endswith("is truncated")
    assert lines[5].split() == ["e.onnx", "1", "12", "97.8", "MB", "it", "differs"]
    assert "6 models: 1 folded, 1 done before, 1 unchanged, 1 gate not passed, 2 failed, in 12.5 s" in lines
    assert all(len(line) <= 60 for line in render_text(FLEET, 60).splitlines())


def test_the_page_names_every_model_and_reason():
    page = rendered(FLEET, "r.html")
    assert all(f"<code>{name}</code>" in page for name in ("a.onnx", "b.onnx", "c.onnx", "e.onnx", "f.onnx"))
    assert "Ended with exit code 3" in page
    assert "Every model is done" in rendered(replace(FLEET, code=0, entries=ENTRIES[:1]), "r.html")
    assert "what to do: pad explicitly" in page


def test_the_markdown_has_a_row_for_every_model():
    text = rendered(FLEET, "r.md")
    assert "| ✅ | `a.onnx` | 1 → 0 | 12 → 9 | 97.8 MB → 97.6 MB | folded, verified |" in text
    assert "| ❌ | `sub/d.onnx` |  |  |  | is truncated |" in text
    assert "- `c.onnx`: `bn2`" in text


def test_junit_has_a_case_for_every_normalization():
    root = ET.fromstring(rendered(FLEET, "r.junit.xml"))  # noqa: S314  our own
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == [entry.source for entry in ENTRIES]
    failed = [case.get("name") for case in suites["b.onnx"] if case.find("failure") is not None]
    assert failed == ["bn_shared", "bn_training", "bn_untold", "--max-left"]
    failure = suites["c.onnx"].find("testcase[@name='bn2']/failure")
    assert failure.get("type") == "other-consumer, zero-padding"
    assert failure.text.splitlines() == [
        "backward: another operator reads the value [other-consumer], at cat",
        "forward: a shift does not pass zero padding [zero-padding], at conv9",
        "what to do: pad explicitly",
    ]
    assert suites["e.onnx"].find("testcase[@name='verification']/failure") is not None
    assert suites["sub/d.onnx"].find("testcase/error").get("message") == "sub/d.onnx is truncated"
    for name in ("tests", "failures", "errors"):
        assert int(root.get(name)) == sum(int(suite.get(name)) for suite in root)
    assert int(root.get("tests")) == len(root.findall(".//testcase"))


def test_sarif_names_the_file_the_node_and_the_code():
    (run,) = json.loads(rendered(FLEET, "r.sarif"))["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == ["other-consumer", "training-mode", "untold", "max-left", "not-folded"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
    first = run["results"][0]
    assert first["level"] == "warning"
    assert first["message"]["text"].endswith(
        "[other-consumer]; forward: a shift does not pass zero padding [zero-padding]; what to do: pad explicitly"
    )
    (place,) = first["locations"]
    assert place["physicalLocation"] == {"artifactLocation": {"uri": "b.onnx"}, "region": {"startLine": 1}}
    assert place["logicalLocations"] == [{"name": "bn_shared", "fullyQualifiedName": "bn_shared", "kind": "member"}]
    prints = [result["partialFingerprints"]["bnfold/v1"] for result in run["results"]]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(
    ("path", "uri"),
    [("a b/ä#?.onnx", "a%20b/%C3%A4%23%3F.onnx"), ("/models/a b.onnx", "file:///models/a%20b.onnx")],
)
def test_sarif_writes_paths_as_uris(path, uri):
    document = json.loads(rendered(FleetReport("1", 2, (Entry(path, None, 2, "bad"),)), "r.sarif"))
    (place,) = document["runs"][0]["results"][0]["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == uri


@pytest.mark.parametrize("suffix", REPORT_SUFFIXES)
def test_no_name_is_more_than_text(suffix):
    text = rendered(EVIL, f"r{suffix}")
    assert not CONTROL.search(text)
    assert "<script" not in text or suffix in {".json", ".sarif"}
    if suffix == ".junit.xml":
        assert ET.fromstring(text).tag == "testsuites"  # noqa: S314  our own
    if suffix in {".json", ".sarif"}:
        assert json.loads(text)
    if suffix == ".md":
        assert "[x](" not in text


def test_no_name_reaches_the_terminal_as_a_command():
    assert not CONTROL.search(render_text(EVIL, 200))


@pytest.mark.parametrize("name", ["r.xml", "junit.xml", "sarif"])
def test_other_names_say_no_form(name):
    assert not name.endswith(REPORT_SUFFIXES)


def test_two_gates_on_codes_are_two_results():
    gates = Gates(fail_on=("other-consumer", "zero-padding"))
    entry = Entry("a.onnx", None, report=report(kept())).judged(gates, 7)
    (run,) = json.loads(rendered(FleetReport("1", 7, (entry,)), "r.sarif"))["runs"]
    assert [result["ruleId"] for result in run["results"]] == ["other-consumer", "fail-on", "fail-on"]
    assert len({result["partialFingerprints"]["bnfold/v1"] for result in run["results"]}) == 3


def test_a_split_normalization_is_not_left():
    gates = Gates(max_left=0, fail_on=("barrier",))
    assert gates.broken(report(bn(status="split"))) == ()
    assert [one.gate for one in gates.broken(report(kept()))] == ["max-left"]


def test_a_code_counts_in_either_direction_and_for_normalizations_only():
    assert Gates(fail_on=("zero-padding",)).broken(report(kept()))
    assert Gates(fail_on=("other-consumer",)).broken(report(kept()))
    assert not Gates(fail_on=("zero-padding",)).broken(report(bn("m", "kept", operator="Mul", backward=SHARED)))
    many = report(*(kept(f"bn{i}", TRAINING, None) for i in range(5)))
    (broken,) = Gates(fail_on=("training-mode",)).broken(many)
    assert broken.sentence == "5 BatchNormalizations stay because of training-mode: bn0, bn1, bn2 and 2 more"
