"""The manifests of deploy/kubernetes, and what a pod must have beside what the schemas of Kubernetes ask for."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import yaml

from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.30", kubernetes_validate.latest_version())  # the oldest that docs/deploying.md names, and the newest
BUILT = {"Kustomization"}  # read by kubectl itself: no schema of the server has it
Manifest = dict[str, Any]


def manifests(folder: Path = FOLDER) -> list[Manifest]:
    return [one for path in sorted(folder.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())]


def of_kind(found: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in found if one["kind"] == kind}


def complaints(found: list[Manifest]) -> list[str]:
    """What is wrong with manifests."""
    wrong = [complaint for one in found for complaint in (*_schema(json.dumps(one)), *_posture(one))]
    return wrong + list(_references(found))


@cache
def _schema(text: str) -> list[str]:
    """What is wrong by the schemas; each manifest is looked at once, though tests ask for all of them again."""
    one, wrong = json.loads(text), []
    for version in VERSIONS if one["kind"] not in BUILT else ():
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            wrong.append(f"Kubernetes {version}: {error.message}")
    return wrong


def _posture(one: Manifest) -> Iterator[str]:
    """The standard `restricted`, and that a pod is bounded, probed, and has time to end."""
    if one["kind"] not in {"Deployment", "Job"}:
        return
    pod = one["spec"]["template"]["spec"]
    for name, right in {"automountServiceAccountToken": False, "enableServiceLinks": False}.items():
        if pod.get(name) is not right:
            yield f"{name} is not false"
    context = pod.get("securityContext", {})
    if not (context.get("runAsNonRoot") and context.get("runAsUser", 0) > 0):
        yield "it runs as root"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "it has no filter of system calls"
    for container in pod["containers"]:
        yield from _of_container(container)


def _of_container(container: Manifest) -> Iterator[str]:
    own, bounds = container.get("securityContext", {}), container.get("resources", {})
    if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities") != {"drop": ["ALL"]}:
        yield "it may gain privileges"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "its root file system can be written"
    for kind in ("requests", "limits"):
        if not {"cpu", "memory"} <= bounds.get(kind, {}).keys():
            yield f"it has no {kind}"
    if container.get("ports") and not {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys():
        yield "it is not probed"


def _references(found: list[Manifest]) -> Iterator[str]:
    """Whatever names another manifest names one that there is."""
    pods = {name: one["spec"]["template"]["metadata"]["labels"] for name, one in of_kind(found, "Deployment").items()}
    for one in found:
        spec = one.get("spec", {})
        selector = spec.get("selector", spec.get("podSelector", {}))
        labels = selector.get("matchLabels", selector)
        if one["kind"] in {"Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment"} and not any(
            labels.items() <= known.items() for known in pods.values()
        ):
            yield f"{one['kind']} {one['metadata']['name']} selects no pod"
        target = spec.get("scaleTargetRef", {}).get("name")
        if target is not None and target not in pods:
            yield f"there is no {target} to scale"
