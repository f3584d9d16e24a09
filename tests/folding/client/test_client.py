"""The client: what it brings is what a fold here gives; what cannot succeed is not sent."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from fastapi.responses import JSONResponse

import folding
from folding.client.client import Client
from folding.errors import FoldingError, ModelError, OptionError, ServiceError
from folding.options import Options
from tests.support.onnxfiles import names
from tests.support.service.clients import NO_VERIFY, client, content, unchanged

pytest_plugins = ["tests.support.service.fixtures"]


@pytest.mark.parametrize("source", ["model.onnx", "large.onnx", "none.onnx"])
@pytest.mark.parametrize("options", [NO_VERIFY, Options(verify=False, keep=("b*",), leftover="affine")])
def test_the_same_files_and_report_as_here(url, here, tmp_path, source, options):
    if source == "none.onnx":
        options = replace(options, keep=())
    both = {}
    for name in ("local", "remote"):
        folder = tmp_path / name
        shutil.copytree(here, folder)
        if name == "local":
            both[name] = folding.fold(folder / source, folder / "out.onnx", options).with_flags().as_dict()
        else:
            with client(url) as service:
                both[name] = service.fold(folder / source, folder / "out.onnx", options)
        both[name] |= {"seconds": 0, "source": "", "target": Path(both[name]["target"]).name}
    assert both["remote"] == both["local"]
    assert content(tmp_path / "remote") == content(tmp_path / "local")


def test_a_model_may_be_its_own_target(url, here):
    with client(url) as service:
        service.fold(here / "model.onnx", here / "model.onnx", NO_VERIFY)
        service.fold(here / "large.onnx", here / "large.onnx", NO_VERIFY)
    for name in ("model.onnx", "large.onnx"):
        assert "BatchNormalization" not in {node.op_type for node in onnx.load(here / name).graph.node}
    assert names(here) == ["large.onnx", "large.onnx.data", "model.onnx", "none.onnx", "w.bin"]


def test_inspect_is_that_of_here(url, here):
    for name in ("model.onnx", "large.onnx"):
        with client(url) as service, unchanged(here):
            report = service.inspect(here / name, Options(keep=("bn",)))
        expected = folding.inspect(here / name, Options(keep=("bn",))).with_flags().as_dict()
        assert report | {"seconds": 0} == expected | {"seconds": 0}


def test_jobs_can_be_asked_for_and_cancelled(url, fake, here):
    with client(url) as service:
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)
        job = next(iter(fake.jobs))
        assert service.job(job)["status"] == "done"
        service.cancel(job)
        assert service.job(job)["status"] == "cancelled"
        with pytest.raises(ServiceError) as caught:
            service.job("abc")
    assert caught.value.slug == "not-found"


def test_progress_names_the_stages_in_bytes_and_percent(url, fake, here):
    heard: list[tuple[str, int, int]] = []
    fake.held = True

    def progress(*event: Any) -> None:
        heard.append(event)
        fake.held = event[0] == "uploading"

    with client(url) as service:
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY, progress)
    size = (here / "model.onnx").stat().st_size
    assert list(dict.fromkeys(stage for stage, _, _ in heard)) == ["uploading", "folding", "downloading"]
    assert ("uploading", size, size) in heard
    assert ("folding", 25, 100) in heard
    assert heard[-1][1] == heard[-1][2] == (here / "out.onnx").stat().st_size


def test_what_is_known_of_a_job_is_not_sent_again(url, fake, here):
    fake.held = True

    def progress(*_: Any) -> None:
        fake.held = len(fake.named("GET /v1/jobs/{job}")) < 3

    with client(url) as service:
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY, progress)
    first, *others = [request.headers.get("If-None-Match") for request in fake.named("GET /v1/jobs/{job}")]
    assert first is None
    assert len(others) >= 2
    assert len(set(others)) == 1  # while nothing changed, 304 was the answer


def test_a_job_that_waits_is_reported_as_waiting(url, fake, here):
    heard: list[tuple[str, int, int]] = []
    fake.failures["GET /v1/jobs/{job}"] = [JSONResponse({"status": "queued", "stage": None, "progress": 0.0})]
    with client(url) as service:
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY, lambda *event: heard.append(event))
    assert ("waiting", 0, 1) in heard


@pytest.mark.parametrize("name", ["a\\b.onnx", "m" * 130 + ".onnx", "tab\t.onnx"])
def test_a_name_that_the_service_would_not_take_is_not_sent(url, fake, here, name):
    (here / "model.onnx").rename(here / name)
    with client(url.replace("127.0.0.1", "localhost")) as service:
        service.fold(here / name, here / "out.onnx", NO_VERIFY)
    (request,) = fake.named("POST /v1/fold")
    assert "name" not in request.query_params


def test_the_key_is_sent(url, fake, here):
    with client(url, "secret") as service:
        service.fold(here / "model.onnx", here / "out.onnx", NO_VERIFY)
    assert {request.headers["Authorization"] for _, request in fake.requests} == {"Bearer secret"}


@pytest.mark.parametrize("address", ["", "127.0.0.1:8000", "ftp://a", "http://", "http://a/?b=c", "http://u:p@a", "\0"])
def test_addresses(address):
    with pytest.raises(OptionError, match="no address of a service"):
        Client(address)


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "é"])
def test_keys(key):
    with pytest.raises(OptionError, match="API key"):
        Client("http://127.0.0.1:1", key)


def test_ids_of_jobs():
    with client("http://127.0.0.1:1") as service, pytest.raises(OptionError, match="no id of a job"):
        service.job("../readyz")


def test_what_cannot_succeed_is_not_sent(url, fake, here):
    refused = [
        (here / "missing.onnx", here / "out.onnx", NO_VERIFY, ModelError),
        (here / "model.onnx", here / "no" / "out.onnx", NO_VERIFY, FoldingError),
        (here / "model.onnx", here, NO_VERIFY, FoldingError),
        (here / "large.onnx", here / "w.bin", NO_VERIFY, FoldingError),
        (here / "model.onnx", here / "out.onnx", Options(inputs="samples.npz"), OptionError),
        (here / "w.bin", here / "out.onnx", NO_VERIFY, ModelError),
    ]
    with client(url) as service, unchanged(here):
        for source, target, options, error in refused:
            with pytest.raises(error):
                service.fold(source, target, options)
    assert fake.requests == []
