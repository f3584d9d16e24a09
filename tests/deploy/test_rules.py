"""The alerts, the dashboard and the runbook name what there is, and each alert fires when it must, and only then."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import combinations

import pytest
import yaml

from tests.support import ROOT
from tests.support.deploy.promql import complaints, series_of
from tests.support.deploy.series import metrics, series
from tests.support.programs import program

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
TESTS = ROOT / "tests" / "deploy" / "alerts.yaml"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
SECTIONS = dict(re.findall(r"^## (Bnfold\w+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# By alert: what it says, and what it must not say.
SPOILT = {
    "BnfoldNoSandbox": ('bnfold_sandbox{kind="none"} == 1', 'bnfold_sandbox{kind="none"} == 0'),
    "BnfoldSaturated": ("bnfold_slots) > 0.9", "bnfold_slots) > 0.7"),
    "BnfoldVersions": ("for: 2h", "for: 12h"),
    "BnfoldStuck": ("outcomes_total[10m])) == 0", "outcomes_total[10m])) == 1"),
}
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_series_that_there_are(rule):
    assert not complaints(rule["expr"], series())
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=lambda one: one if isinstance(one, str) else "")
def test_a_panel_asks_for_series_that_there_are(title, target):
    assert not complaints(target["expr"], series())
    labels = frozenset().union(*(series()[name] for name in series_of(target["expr"])))
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("sum(bnfold_wating)", "no series bnfold_wating"),
        ('bnfold_waiting{state="queued"}', "no label state of bnfold_waiting"),
        ("rate(bnfold_fold_seconds[5m])", "no series bnfold_fold_seconds"),
        ("sum by (kind) (rate(bnfold_outcomes_total[5m]))", "no label kind to group by"),
        ("bnfold_running / on (key) bnfold_slots", "no label key to group by"),
        ("histogram_quantile(0.9, sum by (le) (rate(bnfold_fold_seconds_sum[5m])))", "no label le to group by"),
    ],
)
def test_a_query_for_what_there_is_not_is_noticed(query, complaint):
    assert complaint in complaints(query, series())


@pytest.mark.parametrize("query", ["sum(bnfold_waiting", "rate(bnfold_outcomes_total)", "sum by bnfold_waiting"])
def test_what_is_no_query_is_noticed(query):
    with pytest.raises(ValueError, match=r"."):
        complaints(query, series())


def test_each_alert_has_its_section_and_each_section_its_alert():
    assert sorted(SECTIONS) == sorted(rule["alert"] for rule in RULES)
    for name, text in SECTIONS.items():
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Meaning", "See", "Do"], name


def test_the_runbook_asks_for_series_that_there_are():
    queries = re.findall(r"^    promql: (.+)$", RUNBOOK, re.MULTILINE)
    assert len(queries) > len(RULES) // 2
    assert not [complaint for query in queries for complaint in complaints(query, series())]


def test_the_dashboard_shows_every_metric_and_names_only_alerts_that_there_are():
    asked = set().union(*(series_of(target["expr"]) for _, target in TARGETS))
    own = {one.name for one in metrics() if one.name.startswith("bnfold_")}
    assert not {name for name in own if not any(other.startswith(name) for other in asked)}
    descriptions = " ".join(panel["description"] for panel in PANELS)
    assert set(re.findall(r"\bBnfold\w+", descriptions)) <= set(SECTIONS)


def test_no_panels_overlap_and_each_has_its_own_id():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def promtool(*arguments: str) -> str:
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_each_alert_fires_when_it_must_and_only_then():
    assert not promtool("check", "rules", str(ALERTS))
    assert not promtool("test", "rules", str(TESTS))
    tested = [
        (one["alertname"], bool(one["exp_alerts"]))
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for one in test["alert_rule_test"]
    ]
    assert set(tested) == {(rule["alert"], fires) for rule in RULES for fires in (True, False)}


def test_rules_that_are_spoilt_are_noticed(tmp_path):
    text = ALERTS.read_text()
    for right, wrong in SPOILT.values():
        assert right in text
        text = text.replace(right, wrong)
    (tmp_path / "alerts.yaml").write_text(text)
    tests = TESTS.read_text().replace("../../deploy/prometheus/alerts.yaml", "alerts.yaml")
    (tmp_path / "tests.yaml").write_text(tests)
    output = promtool("test", "rules", str(tmp_path / "tests.yaml"))
    assert set(re.findall(r"alertname: (\w+)", output)) == set(SPOILT)
