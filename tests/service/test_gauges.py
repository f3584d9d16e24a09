"""Gauges show what a server has to do, and what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.blobs import BLOBS
from service.blobs.folder import blob_path
from tests.support.deploy.series import SUFFIXES, series
from tests.support.service.server import Running, ended, held, model_bytes, submit
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN = {"size", "state", "check"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("gauges") / "data", workers=1, cap_bytes=1 << 30) as running:
        yield running


def metrics(server: Running) -> dict[str, float]:
    """What /metrics says: by name and values of labels, as `name value`."""
    families = text_string_to_metric_families(server.client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {" ".join([one.name, *(one.labels[name] for name in OWN & set(one.labels))]): one.value for one in samples}


def test_the_queue_is_shown_by_size_and_in_time(server, tmp_path):
    gate = tmp_path / "gate"
    running, waiting = submit(server.client, held(gate, 1), verify=False), submit(server.client, model_bytes(2))
    until(lambda: metrics(server)["bnfold_running"] == metrics(server)["bnfold_children working"] == 1)
    until(lambda: metrics(server)["bnfold_oldest_waiting_seconds 1MiB"] > 0)
    now = metrics(server)
    assert (now["bnfold_waiting 1MiB"], now["bnfold_started 1MiB"], now["bnfold_waiting larger"]) == (1, 1, 0)
    assert (now["bnfold_slots"], now["bnfold_children working"], now["bnfold_suspects"]) == (1, 1, 0)
    gate.touch()
    assert [ended(server.client, job)["status"] for job in (running, waiting)] == ["done", "done"]
    until(lambda: metrics(server)["bnfold_children working"] == 0)
    after = metrics(server)
    assert (after["bnfold_waiting 1MiB"], after["bnfold_oldest_waiting_seconds 1MiB"]) == (0, 0)
    assert after["bnfold_wait_seconds_count 1MiB"] - now.get("bnfold_wait_seconds_count 1MiB", 0) == 1
    assert after["bnfold_wait_seconds_sum 1MiB"] > now["bnfold_wait_seconds_sum 1MiB"]


def test_bytes_and_checks_are_shown(server):
    server.client.post("/v1/fold", content=model_bytes(3))
    now = metrics(server)
    assert 0 < now["bnfold_held_bytes"] < now["bnfold_cap_bytes"] == 1 << 30
    assert (now["bnfold_low_water_bytes"], now["bnfold_uploads"]) == (0, 0)
    assert now["bnfold_free_bytes"] > 0
    assert [now[f"bnfold_check {name}"] for name in ("disk", "ledger", "engine")] == [1, 1, 1]
    assert now["process_resident_memory_bytes"] > 1 << 20


def test_a_blob_that_is_damaged_is_counted(server):
    job = server.client.post("/v1/fold", content=model_bytes(4)).headers["bnfold-job"]
    before = metrics(server)["bnfold_damaged_blobs_total"]
    sha256 = server.client.get(f"/v1/jobs/{job}/result").headers["etag"].strip('"')
    blob_path(server.settings.data / BLOBS, sha256).unlink()
    server.client.get(f"/v1/jobs/{job}/result")
    assert metrics(server)["bnfold_damaged_blobs_total"] == before + 1


def test_each_sample_is_a_series_that_queries_know(server):
    families = list(text_string_to_metric_families(server.client.get("/metrics").text))
    samples = [one for family in families for one in family.samples if not one.name.endswith("_created")]
    assert len(samples) > sum(map(len, SUFFIXES.values()))
    known = series()
    assert not [one for one in samples if not set(one.labels) <= known[one.name]]
