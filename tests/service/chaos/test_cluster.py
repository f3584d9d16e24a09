"""Chaos in a cluster. CHAOS_SEEDS says how often each scenario happens alone, CHAOS_OUT where the records go."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from tests.service.chaos.cluster import SCENARIOS, InCluster
from tests.service.chaos.ground import Ground, ground
from tests.service.chaos.run import name_of, run, runs, seeds
from tests.support.service import clock
from tests.support.service.cluster import Cluster
from tests.support.service.instant import folded
from tests.support.service.server import INSTANT
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def grounded() -> Iterator[Ground]:
    with ground() as made:
        yield made


@pytest.fixture
def environment(grounded, monkeypatch) -> None:
    for name, value in (grounded.store.environment | {INSTANT.module: "1", clock.FOLLOWS: "1"}).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("scenarios", runs(SCENARIOS), ids=name_of)
def test_nothing_accepted_is_lost(tmp_path: Path, grounded: Ground, environment, scenarios, seed) -> None:
    settings = {name: value for scenario in scenarios for name, value in scenario.settings.items()}
    run(InCluster(grounded, tmp_path, seed, settings), scenarios)


@pytest.fixture
def cluster(tmp_path, grounded, environment) -> Iterator[Cluster]:
    made = Cluster(tmp_path, grounded.ledgers.empty(), grounded.store)
    yield made
    made.close()


def test_what_the_store_lost_is_folded_again_or_asked_for_again(cluster):
    """As on one machine: a result is folded again, a model is to be sent again."""
    client = cluster.server()
    worker = cluster.worker()
    model = b"SLOW0\na model"
    first = client.post("/v1/fold", content=model)
    assert first.content == folded(model)
    job = first.headers["Bnfold-Job"]
    report = client.get(f"/v1/jobs/{job}/report").content
    cluster.store.change(cluster.blobs, hashlib.sha256(report).hexdigest(), lambda _: None)
    assert client.get(f"/v1/jobs/{job}/report").json()["bn_before"] == 1
    assert client.get(f"/v1/jobs/{job}").json()["attempts"] == 2
    worker.kill()
    other = b"SLOW0\nanother model"
    waits = client.post("/v1/fold", content=other, headers={"Prefer": "respond-async"}).json()["id"]
    cluster.store.change(cluster.blobs, hashlib.sha256(other).hexdigest(), lambda _: None)
    cluster.worker()
    until(lambda: client.get(f"/v1/jobs/{waits}").json()["status"] == "failed")
    document = client.get(f"/v1/jobs/{waits}").json()
    assert document["problem"]["type"].endswith("/internal")
    assert "send it again" in document["problem"]["detail"]
    assert client.post("/v1/fold", content=other).content == folded(other)
