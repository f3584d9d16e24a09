"""Behind nginx and Caddy, as docs/proxies.md writes them, with TLS: the command, curl, the page; what is refused."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import expect

from folding.options import Options
from service.command.main import main
from tests.support.page.models import varied
from tests.support.page.visit import opened
from tests.support.service import proxies
from tests.support.service.clients import client
from tests.support.service.proxies import NAME
from tests.support.service.server import MIB, Process, held, model_bytes
from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

pytest_plugins = ["tests.support.page.browser", "tests.support.service.fixtures"]

ROOT_PATH = "/tools/fold"
LARGEST = 4 * MIB  # more than nginx takes unless it is configured
TRIES = 10
REFUSED = 12 * MIB  # and more than fits between the server and a client


@dataclass
class Behind:
    """A server, the proxy in front of it, and a key."""

    folder: Path
    url: str
    key: str

    def client(self, **more: Any) -> httpx.Client:
        trusts = ssl.create_default_context(cafile=str(self.folder / "cert.pem"))
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(**{"base_url": self.url, "headers": headers, "verify": trusts, "timeout": PATIENCE} | more)

    def log(self) -> list[dict[str, Any]]:
        lines = (self.folder / "log").read_text().splitlines()
        return [entry for line in lines if (entry := json.loads(line))["message"] == "request"]


@pytest.fixture(scope="module", params=[("nginx", ""), ("nginx", ROOT_PATH), ("caddy", ""), ("caddy", ROOT_PATH)],
                ids=["nginx", "nginx, a path", "caddy", "caddy, a path"])  # fmt: skip
def behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    name, root = request.param
    folder, output = tmp_path_factory.mktemp("behind"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda text, **_: output.append(text))
        assert main(["keys", "add", "me", "--data", str(folder / "data")]) == 0
    settings = {"allowed_hosts": f'["{NAME}"]', "trusted_proxies": '["127.0.0.1"]', "max_upload_bytes": str(LARGEST)}
    process = Process(folder / "data", root_path=root, **settings)
    try:
        server = process.start()
        with proxies.proxy(name, folder, server.base_url.port, root) as port:
            yield Behind(folder, f"https://localhost:{port}{root}/", output[0])
    finally:
        process.kill()


def test_a_model_is_folded_and_all_links_lead_back(behind):
    with behind.client() as asking:
        answer = asking.post("v1/fold", content=model_bytes(), headers={"Prefer": "respond-async"})
        assert answer.status_code == 202, answer.text
        where = str(httpx.URL(behind.url).join(answer.headers["Location"]))
        assert where.startswith(behind.url)
        until(lambda: asking.get(where, params={"wait": 5}).json()["status"] == "done")
        document = asking.get(where).json()
        for link in document["links"].values():
            assert asking.get(httpx.URL(behind.url).join(link)).status_code == 200
            assert asking.head(httpx.URL(behind.url).join(link)).status_code == 200
        folded = asking.post("v1/fold", content=model_bytes())
        assert folded.headers["Content-Location"] == document["links"]["result"]
        described = folded.headers["Link"].partition(">")[0].removeprefix("<")
        assert asking.get(httpx.URL(behind.url).join(described)).status_code == 200


def test_curl_and_the_command_get_there(behind, here, monkeypatch):
    (here / "model.onnx").rename(here / "mine.onnx")
    command = ["curl", "-sSfT", "mine.onnx", "--cacert", behind.folder / "cert.pem", f"{behind.url}v1/fold", "-o", "a"]
    subprocess.run([*command, "-H", f"Authorization: Bearer {behind.key}"], cwd=here, check=True)
    resolved = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        return resolved("127.0.0.1" if host in {NAME, NAME.encode()} else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("SSL_CERT_FILE", str(behind.folder / "cert.pem"))
    with client(behind.url.replace("localhost", NAME), behind.key) as service:
        service.fold(here / "mine.onnx", here / "b", Options())
    assert (here / "a").read_bytes() == (here / "b").read_bytes()


def test_an_event_arrives_while_the_job_runs(behind):
    gate = behind.folder / "gate"
    with behind.client() as asking:
        job = asking.post("v1/fold", content=held(gate), headers={"Prefer": "respond-async"}).json()["links"]["self"]
        with asking.stream("GET", httpx.URL(behind.url).join(job), headers={"Accept": "text/event-stream"}) as events:
            lines = (line for line in events.iter_lines() if line.startswith("data:"))
            assert json.loads(next(lines)[5:])["status"] in {"queued", "running"}
            gate.touch()
            assert [json.loads(line[5:])["status"] for line in lines][-1] == "done"


def test_nobody_gets_in_without_a_key(behind):
    with behind.client(headers={}) as asking:
        for path in ("v1/jobs/x", "metrics"):
            answer = asking.get(path)
            assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (401, "unauthorized")
        assert asking.get("livez").status_code == 200


@pytest.mark.parametrize("key", [True, False])
def test_an_early_refusal_arrives(behind, key):
    """Of an upload that is too large, and of one without a key; not as 502."""
    with behind.client(**{} if key else {"headers": {}}) as asking:
        answer = asking.post("v1/fold", content=bytes(REFUSED))
        assert answer.status_code == (413 if key else 401)
        assert answer.headers["Content-Type"] == "application/problem+json"


SETTINGS = re.compile(r"^.*(?:proxy_http_version|Connection|buffering|keepalive).*\n", re.MULTILINE)


def test_an_early_refusal_arrives_through_an_nginx_that_has_no_settings_for_it(tmp_path, monkeypatch):
    """It stores the upload, sends it over HTTP/1.0, and wants the connection closed: 502 for every second one, once."""
    monkeypatch.setattr(proxies, "NGINX", SETTINGS.sub("", proxies.NGINX))
    process = Process(tmp_path / "data", max_upload_bytes=str(LARGEST), require_keys="false")
    try:
        server = process.start()
        with (
            proxies.proxy("nginx", tmp_path, server.base_url.port, "") as port,
            Behind(tmp_path, f"https://localhost:{port}/", "").client(headers={}) as asking,
        ):
            answers = [asking.post("v1/fold", content=bytes(3 * REFUSED)) for _ in range(TRIES)]
        assert [answer.status_code for answer in answers] == [413] * TRIES
    finally:
        process.kill()


def test_the_log_has_the_clients_address_and_not_what_it_claims(behind):
    with behind.client() as asking:
        asking.get("v1/jobs/mine", headers={"X-Forwarded-For": "203.0.113.7"})
    lines: list[dict[str, Any]] = []
    until(lambda: lines.extend(entry for entry in behind.log() if entry["path"] == "/v1/jobs/mine") or lines)
    assert lines[0]["client"] == "127.0.0.1"


def test_the_page_folds_a_model(behind, browser: Browser):
    visit = opened(browser, behind.url.removesuffix("/"), ignore_https_errors=True)
    visit.page.goto(behind.url)
    visit.page.evaluate("key => sessionStorage.setItem('bnfold.key', key)", behind.key)
    visit.page.wait_for_selector(".option", state="attached")
    visit.fold("net.onnx", varied())
    expect(visit.page.locator("#report-title")).to_have_text("3 of 4 BatchNormalizations folded, 1 stays")
    with visit.page.expect_download() as download:
        visit.page.click("text=Download the folded model")
    assert download.value.path().stat().st_size > 0
    visit.page.reload()
    expect(visit.page.locator("#report-title")).to_be_visible()
    visit.page.click("#home")
    expect(visit.page.locator("#shell")).to_contain_text(f"'{behind.url}v1/fold'")
    visit.context.close()
    visit.check()
