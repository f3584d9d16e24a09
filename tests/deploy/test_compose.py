"""The compose file: valid, closed, bounded, and its secrets are made by the script beside it."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys

import pytest
import yaml

from service.command.main import GRACE_SECONDS
from service.secret import SECRET_BYTES
from service.settings import Settings
from tests.deploy.test_kubernetes import FOREIGN
from tests.support import ROOT
from tests.test_image import only

COMPOSE = ROOT / "deploy" / "compose.yaml"
SCRIPT = ROOT / "deploy" / "secrets.sh"
FILE = yaml.safe_load(COMPOSE.read_text())
OWN = {name: one for name, one in FILE["services"].items() if one["image"].startswith("${BNFOLD_IMAGE")}
SCHEMA = ("check_jsonschema", "--builtin-schema", "vendor.compose-spec")
SAFETY = ("compose_lint", "check", "--format", "json")
# A digest names one day: who deploys pins the one that was tried. The root of `store-folder` has one capability, no
# network, and does one thing. BNFOLD_SECRETS is a folder, and no secret.
ACCEPTED = {("CL-0019", name) for name in FILE["services"]} | {("CL-0020", name) for name in OWN}
ACCEPTED |= {("CL-0018", "store-folder")}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)


def test_it_is_what_the_specification_asks_for(tmp_path):
    assert run(*SCHEMA, str(COMPOSE)).returncode == 0
    spoilt = tmp_path / "compose.yaml"
    spoilt.write_text(COMPOSE.read_text().replace("stop_grace_period:", "stop_grace_periods:"))
    assert "stop_grace_periods" in run(*SCHEMA, str(spoilt)).stdout


def findings(path) -> set[tuple[str, str]]:
    report = json.loads(run(*SAFETY, str(path)).stdout)
    return {(one["rule_id"], one["service"]) for one in report["findings"]}


def test_a_linter_finds_nothing_but_what_is_accepted_with_a_reason(tmp_path):
    assert findings(COMPOSE) == ACCEPTED
    spoilt = tmp_path / "compose.yaml"
    text = COMPOSE.read_text().replace('["127.0.0.1:8000:8000"]', '["8000:8000"]')
    spoilt.write_text(text.replace("cap_drop: [ALL]", "privileged: true", 1))
    assert len(findings(spoilt) - ACCEPTED) > 1


@pytest.mark.parametrize("name", FILE["services"])
def test_a_service_is_closed_and_bounded(name):
    service = FILE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory", "pids"} == service["deploy"]["resources"]["limits"].keys()
    assert (service["user"] == "0:0") == (service.get("network_mode") == "none")
    assert (service["restart"] == "no") == (name in {"migrate", "bucket", "store-folder"})
    for other, how in service.get("depends_on", {}).items():
        once = how["condition"] == "service_completed_successfully"
        assert once == (FILE["services"][other]["restart"] == "no")
        assert once or "healthcheck" in FILE["services"][other]


def test_only_the_api_can_be_reached_and_workers_reach_nothing_outside():
    assert [name for name, one in FILE["services"].items() if "ports" in one] == ["api"]
    assert all(port.startswith("127.0.0.1:") for port in FILE["services"]["api"]["ports"])
    assert FILE["networks"]["back"]["internal"] is True
    assert [name for name, one in FILE["services"].items() if "front" in one.get("networks", [])] == ["api"]


@pytest.mark.parametrize("name", OWN)
def test_it_is_the_image_of_the_dockerfile_and_knows_its_settings(name):
    service = OWN[name]
    assert service["user"] == only("USER")
    assert any(mount.endswith(only("VOLUME")) for mount in service["volumes"])
    for variable, value in service["environment"].items():
        setting = variable.removesuffix("_FILE")
        assert setting.removeprefix("BNFOLD_").lower() in Settings.model_fields or setting in FOREIGN
        if variable.endswith("_FILE"):
            assert value.removeprefix("/run/secrets/") in service["secrets"]
    if service["restart"] != "no":
        asked = float(service["environment"]["BNFOLD_SHUTDOWN_SECONDS"]) + GRACE_SECONDS
        assert asked <= float(service["stop_grace_period"].removesuffix("s")) <= asked + 60


def test_the_script_makes_each_secret_once_and_keeps_others_out(tmp_path):
    folder = tmp_path / "secrets"
    for _ in range(2):
        subprocess.run(["sh", SCRIPT, folder], check=True)
        made = {path.name: path.read_bytes().decode("latin-1") for path in folder.iterdir()}
        assert made.keys() == FILE["secrets"].keys()
    assert {one["file"] for one in FILE["secrets"].values()} == {f"secrets/{name}" for name in made}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert re.fullmatch(r"[0-9a-f]{64}", made["postgres_password"])
    assert f":{made['postgres_password']}@postgres:5432/bnfold" in made["database_url"]
    assert len(made["secret"]) == SECRET_BYTES
    (credentials,) = json.loads(made["s3_identities.json"])["identities"][0]["credentials"]
    assert credentials == {"accessKey": made["s3_access_key"], "secretKey": made["s3_secret_key"]}
    assert made["s3_secret_key"] != made["postgres_password"]
    (folder / "s3_secret_key").unlink()
    subprocess.run(["sh", SCRIPT, folder], check=True)
    assert (folder / "postgres_password").read_text() == made["postgres_password"]


def test_no_secret_is_committed_or_sent_to_the_build():
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().split()
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert "deploy" in ignored or ignored[0] == "*"
