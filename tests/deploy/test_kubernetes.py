"""The manifests of Kubernetes: valid for the oldest and the newest version, closed, bounded, and of one piece."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import yaml

from service.command.main import GRACE_SECONDS
from service.settings import Settings
from tests.support import ROOT
from tests.support.deploy.manifests import FOLDER, complaints, manifests, of_kind
from tests.support.deploy.promql import complaints as complaints_of_queries
from tests.support.deploy.series import series

ALL = manifests()
DEPLOYMENTS = of_kind(ALL, "Deployment")
SHARED = of_kind(ALL, "ConfigMap")["bnfold"]["data"]
FOREIGN = {"AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
ADAPTER = yaml.safe_load((ROOT / "deploy" / "prometheus" / "adapter.yaml").read_text())["externalRules"]


def container(deployment: str) -> dict:
    (found,) = DEPLOYMENTS[deployment]["spec"]["template"]["spec"]["containers"]
    return found


def settings_of(deployment: str) -> dict[str, str]:
    return SHARED | {one["name"]: one["value"] for one in container(deployment)["env"]}


def test_nothing_is_wrong_with_the_manifests():
    assert not complaints(ALL)


def spoilt(kind: str, name: str, *steps: str | int, value: object) -> list[dict]:
    """The manifests with another value at one place; None takes the value away."""
    found = copy.deepcopy(ALL)
    place = of_kind(found, kind)[name]
    for step in steps[:-1]:
        place = place[step]
    if value is None:
        del place[steps[-1]]
    else:
        place[steps[-1]] = value
    return found


POD = ("spec", "template", "spec")
FIRST = (*POD, "containers", 0)


@pytest.mark.parametrize(
    ("manifest", "steps", "value", "complaint"),
    [
        ("Deployment bnfold-api", ("spec", "replicas"), "two", "'two' is not of type"),
        ("Deployment bnfold-api", ("spec", "replica"), 2, "Additional properties are not allowed"),
        ("Deployment bnfold-api", ("spec", "selector"), None, "'selector' is a required property"),
        ("Deployment bnfold-worker", ("apiVersion",), "apps/v1beta9", "Couldn't find schema"),
        ("Deployment bnfold-worker", (*POD, "securityContext", "runAsUser"), 0, "it runs as root"),
        ("Deployment bnfold-worker", (*POD, "securityContext", "seccompProfile"), None, "no filter of system calls"),
        ("Deployment bnfold-worker", (*POD, "automountServiceAccountToken"), None, "automountServiceAccountToken"),
        ("Deployment bnfold-api", (*POD, "enableServiceLinks"), True, "enableServiceLinks is not false"),
        ("Deployment bnfold-api", (*FIRST, "securityContext", "readOnlyRootFilesystem"), None, "can be written"),
        ("Deployment bnfold-api", (*FIRST, "securityContext", "capabilities"), {"add": ["ALL"]}, "may gain"),
        ("Deployment bnfold-worker", (*FIRST, "resources", "limits"), {"cpu": "1"}, "it has no limits"),
        ("Deployment bnfold-api", (*FIRST, "livenessProbe"), None, "it is not probed"),
        ("Service bnfold", ("spec", "selector"), {"app": "bnfold"}, "Service bnfold selects no pod"),
        ("PodDisruptionBudget bnfold-api", ("spec", "selector", "matchLabels"), {"a": "b"}, "selects no pod"),
        ("HorizontalPodAutoscaler bnfold-worker", ("spec", "scaleTargetRef", "name"), "worker", "no worker to scale"),
    ],
)
def test_a_manifest_that_is_spoilt_is_refused(manifest, steps, value, complaint):
    found = complaints(spoilt(*manifest.split(), *steps, value=value))
    assert any(complaint in one for one in found), found


def test_each_file_is_applied():
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert sorted([*listed["resources"], "kustomization.yaml"]) == sorted(path.name for path in FOLDER.glob("*.yaml"))
    assert {image["name"] for image in listed["images"]} == {container(name)["image"] for name in DEPLOYMENTS}


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_its_variables_are_settings_and_its_files_are_mounted(deployment):
    known = {f"BNFOLD_{name.upper()}" for name in Settings.model_fields} | FOREIGN
    places = [Path(mount["mountPath"]) for mount in container(deployment)["volumeMounts"]]
    for name, value in settings_of(deployment).items():
        assert name.removesuffix("_FILE") in known
        assert not name.endswith("_FILE") or Path(value).parent in places
    for mount in container(deployment)["volumeMounts"]:
        assert mount["name"] in {one["name"] for one in DEPLOYMENTS[deployment]["spec"]["template"]["spec"]["volumes"]}
    assert not [value for value in settings_of(deployment).values() if re.search(r"://[^/]*:[^/]*@", value)]


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_it_has_the_time_to_end_that_it_asks_for(deployment):
    asked = float(settings_of(deployment)["BNFOLD_SHUTDOWN_SECONDS"]) + GRACE_SECONDS
    stop = container(deployment).get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
    asked += float(stop[1])
    given = DEPLOYMENTS[deployment]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert asked <= given <= asked + 60


def test_no_secret_is_in_the_repository():
    assert not of_kind(ALL, "Secret")


def test_what_workers_scale_by_is_a_metric_that_the_adapter_offers():
    asked = of_kind(ALL, "HorizontalPodAutoscaler")["bnfold-worker"]["spec"]["metrics"][0]["external"]["metric"]["name"]
    (rule,) = ADAPTER
    assert re.fullmatch(rule["name"]["matches"], asked)
    assert rule["seriesQuery"] in series()
    assert not complaints_of_queries(rule["metricsQuery"], series())
