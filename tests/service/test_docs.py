"""docs/service.md is right: its example runs, its exit codes are the command's, its limits those of the code."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from folding.archive.reader import ARCHIVE_LIMITS
from folding.client.client import RETRIES
from folding.command import endings
from folding.command import main as cli
from folding.errors import ServiceError
from service.http.app import create_app
from service.http.uploads import MOST_FILES
from service.ledger.webhooks import PENDING_OF_JOB, PENDING_OF_KEY
from service.problems import KINDS
from service.settings import Settings
from service.webhook.outbox import AT_ONCE, DELAYS, HOUR, OF_KEY, OF_RECEIVER
from service.webhook.receivers import SECONDS, URL_LENGTH
from tests.support import ROOT

pytest_plugins = ["tests.support.service.fixtures"]

DOCS = ROOT / "docs"
TEXT, OPERATING = (DOCS / "service.md").read_text(), (DOCS / "operating.md").read_text()
ROW = re.compile(r"^\| `([a-z-]+)` \| ([\d, ]+) \|.*\| (\d) \|$", re.MULTILINE)
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
ROWS = [(slug, int(status), int(code)) for slug, several, code in ROW.findall(TEXT) for status in several.split(",")]


@pytest.mark.parametrize(("slug", "status", "code"), ROWS)
def test_the_exit_codes_are_the_commands(slug, status, code):
    assert cli.exit_code(ServiceError(slug, slug, "", status=status)) == code


def test_the_slugs_and_their_statuses_are_those_of_the_service():
    assert {(slug, status) for slug, status, _ in ROWS} - {("too-large", 422)} == {
        (slug, kind.status) for slug, kind in KINDS.items()
    }  # a job that failed has the status of its problem too; a model that is too large may have been small to send
    assert {slug for slug, _, _ in ROWS} == set(KINDS)


def test_the_addresses_are_those_of_the_service(tmp_path):
    listed, methods = {("GET", "/openapi.json")}, []
    for row in re.findall(r"^\| (`[A-Z]{3,7}[ `].*?) \|", TEXT, re.MULTILINE):
        for part in re.findall("`([^`]+)`", row):  # `GET`, `HEAD /path`: methods, the last with the address
            method, _, path = (
                part.replace("SHA256", "{sha256}")
                .replace("/ID", "/{job_id}")
                .replace("/UPLOAD", "/{upload}")
                .partition(" ")
            )
            methods.append(method)
            if path:
                listed |= {(method, path) for method in methods}
                methods.clear()
    paths = create_app(Settings(data=tmp_path)).openapi()["paths"]
    assert listed == {(name.upper(), path) for path, of in paths.items() for name in of} | {("GET", "/openapi.json")}


def test_the_clients_own_slugs_are_documented():
    assert len(ROWS) > 20
    for slug in (ServiceError.UNREACHABLE, ServiceError.PROTOCOL):
        assert f"`{slug}`" in TEXT
        assert cli.exit_code(ServiceError(slug, slug, "")) == endings.UNAVAILABLE


def test_the_limits_of_archives_are_documented():
    flat = " ".join(TEXT.split())
    assert f"at most {ARCHIVE_LIMITS.entries:,} entries" in flat
    assert f"{ARCHIVE_LIMITS.total_bytes >> 30} GiB unpacked" in flat
    assert f"no file larger than {ARCHIVE_LIMITS.ratio_free_bytes >> 20} MiB inflated more than a hundredfold" in flat
    assert ARCHIVE_LIMITS.ratio == 100


def test_the_most_files_of_a_batch_are_documented(tmp_path):
    operation = create_app(Settings(data=tmp_path)).openapi()["paths"]["/v1/batches"]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["model"]["maxItems"] == MOST_FILES
    for text in (operation["description"], TEXT):
        assert f"up to {MOST_FILES}, with the same options" in " ".join(text.split())


def test_the_patience_of_the_client_is_documented():
    assert (RETRIES.attempts, RETRIES.longest, RETRIES.patience) == (6, 20, 120)
    assert "six attempts, waiting at random up to 20 seconds in between" in TEXT
    assert "up to two minutes" in TEXT


def test_the_example_in_python_runs(url, here, monkeypatch, capsys):
    example = EXAMPLES[0]
    monkeypatch.chdir(here)
    exec(example.replace("http://127.0.0.1:8000", url), {})  # noqa: S102  it is our own documentation
    assert capsys.readouterr().out == "1 -> 0 verified\n"


def test_the_example_of_a_webhook_runs():
    names: dict[str, Any] = {}
    exec(EXAMPLES[1], names)  # noqa: S102  it is our own documentation
    secret, now = "whsec_" + "A" * 44, datetime.now(UTC)
    body = '{"data": {"status": "done"}}'
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp()))}
    headers["webhook-signature"] = Webhook(secret).sign("msg_1", now, body)
    assert names["ended_job"](secret, headers, body.encode()) == {"status": "done"}
    assert names["ended_job"](secret, headers, body.replace("done", "failed").encode()) is None


def test_the_bounds_of_webhooks_are_documented():
    flat, operating = " ".join(TEXT.split()), " ".join(OPERATING.split())
    seconds, minutes = DELAYS[:1], DELAYS[1:3]
    delays = (
        [f"{s:g} s" for s in seconds] + [f"{s / 60:g} min" for s in minutes] + [f"{s / HOUR:g} h" for s in DELAYS[3:]]
    )
    assert ", ".join(delays) in flat
    assert f"no longer than {URL_LENGTH} characters" in flat
    assert f"within {SECONDS:g} seconds" in flat
    assert PENDING_OF_JOB == 10
    assert "up to ten that are not delivered yet" in flat
    assert f"{AT_ONCE} at a time, {OF_KEY} of one key and {OF_RECEIVER} to one receiver" in operating
    assert f"may have {PENDING_OF_KEY:,} that are not delivered" in operating
    assert len(DELAYS) + 1 == 10
    assert "after ten attempts" in operating


def test_every_promise_has_its_test():
    text = (DOCS / "security.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "tests/" in line]
    assert len(rows) > 20
    for row in rows:
        path = ""
        for named in re.findall(r"`((?:tests/[\w/]+\.py)?(?:::\w+)?)`", row):
            path, _, name = (named if named.startswith("tests/") else path + named).partition("::")
            assert (ROOT / path).is_file(), named
            assert not name or f"def {name}(" in (ROOT / path).read_text(), named
